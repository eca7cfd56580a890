"""``vlmchat models``: the catalog, and which of it is on this machine."""

from __future__ import annotations

import click

from vlmchat.chat.shelf import Offer, offers
from vlmchat.cli.options import LOOKING, examples, shared
from vlmchat.cli.output import Talk, size_text, write_json, write_table
from vlmchat.cli.show import offer_object
from vlmchat.errors import ExitCode
from vlmchat.settings import Settings


@click.command(epilog=examples("vlmchat models", "vlmchat models awq --json | jq -r .[].name"))
@click.argument("words", metavar="[FILTER]", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Write a JSON list.")
@shared(LOOKING)
def command(settings: Settings, talk: Talk, words: tuple[str, ...], as_json: bool) -> ExitCode:
    """List the models there are, and which are here.

    FILTER keeps the rows that hold every word of it in their name, format, abilities or languages.
    """
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


def _row(offer: Offer) -> tuple[str, ...]:
    spec = offer.spec
    size = offer.local.bytes if offer.local.state == "installed" else spec.bytes
    return (
        spec.name,
        size_text(size),
        spec.format,
        str(spec.context_tokens or "-"),
        " ".join(spec.languages),
        _state(offer),
    )


def _state(offer: Offer) -> str:
    if offer.ready:
        return "ready"
    here = {"installed": "installed", "partial": "partly here", "missing": "not here"}[offer.local.state]
    return here if offer.runs else f"{here}, cannot run yet"
