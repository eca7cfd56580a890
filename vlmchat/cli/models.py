"""``vlmchat models``: the catalog, and which of it is on this machine."""

from __future__ import annotations

from dataclasses import asdict

import click

from vlmchat.catalog.index import catalog
from vlmchat.chat.shelf import Offer, offers
from vlmchat.cli.options import LOOKING, examples, shared
from vlmchat.cli.output import Talk, size_text, write_json, write_table
from vlmchat.errors import ExitCode
from vlmchat.families.rules import Rules, rules_of
from vlmchat.hub.local import Local
from vlmchat.settings import Settings


@click.command(epilog=examples("vlmchat models", "vlmchat models awq --json | jq -r .[].name"))
@click.argument("words", metavar="[FILTER]", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
@shared(LOOKING)
def command(settings: Settings, talk: Talk, words: tuple[str, ...], as_json: bool) -> ExitCode:
    """List the models there are, and which are here.

    FILTER keeps the rows that hold every word of it in their name, format, abilities or languages;
    where none does, the rows whose name has its letters in this order.
    """
    for problem in catalog().problems:
        talk.warn(problem)
    found = offers(" ".join(words), settings.hub)
    if as_json:
        write_json([offer_object(offer) for offer in found], indent=2)
        return ExitCode.OK
    write_table(("MODEL", "SIZE", "FORMAT", "CONTEXT", "LANGUAGES", "STATE"), map(_row, found), frozenset({1, 3}))
    if not found:
        talk.note("No model holds all these words.")
    elif any(offer.how for offer in found):
        talk.note("`vlmchat show MODEL` tells how to get one that is not here.")
    return ExitCode.OK


def offer_object(found: Offer) -> dict[str, object]:
    """Return a row with its state on this machine, for ``--json``; config and sources are for ``show`` alone."""
    row = asdict(found.spec)
    del row["config"], row["sources"]
    return {
        **row,
        "scores": dict(found.spec.scores),
        "runs": found.runs,
        "state": found.local.state,
        "local": local_object(found.local),
        "how_to_get": found.how,
        "conversation": rules_object(rules_of(found.spec)),
    }


def local_object(local: Local) -> dict[str, object] | None:
    """Return what was found of a checkpoint, for ``--json``; None when it is not here."""
    return None if local.folder is None else {**asdict(local), "folder": str(local.folder)}


def rules_object(rules: Rules | None) -> dict[str, str] | None:
    """Return what a family takes in a conversation, for ``--json``."""
    return None if rules is None else asdict(rules)


def _row(offer: Offer) -> tuple[str, ...]:
    spec = offer.spec
    return (
        spec.name,
        size_text(offer.local.bytes if offer.local.state == "installed" else spec.bytes),
        spec.format,
        str(spec.context_tokens or "-"),
        " ".join(spec.languages) or "-",
        _state(offer),
    )


def _state(offer: Offer) -> str:
    if offer.ready:
        return "ready"
    here = {
        "installed": "installed",
        "partial": f"partly here ({size_text(offer.local.bytes)})",
        "missing": "not here",
    }[offer.local.state]
    return here if offer.runs else f"{here}, cannot run yet"
