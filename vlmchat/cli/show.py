"""``vlmchat show``: all about one model, from its row and from this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import ModelSpec, VisionSpec
from vlmchat.chat import opening
from vlmchat.chat.shelf import Offer, offer
from vlmchat.cli.options import LOOKING, examples, shared
from vlmchat.cli.output import Talk, size_text, write_json, write_line
from vlmchat.errors import ExitCode
from vlmchat.families.rules import Rules, rules_of, rules_of_folder
from vlmchat.hub.local import Local, inspect
from vlmchat.settings import Settings

_LABEL_WIDTH = 14


@click.command(epilog=examples("vlmchat show internvl2:8b", "vlmchat show cogvlm2:19b-int4 --json | jq .licence_url"))
@click.argument("reference", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object.")
@shared(LOOKING)
def command(settings: Settings, talk: Talk, reference: str, as_json: bool) -> ExitCode:
    """Tell all about one model.

    MODEL is a name of the catalog, a hub id, or a folder with a checkpoint.
    """
    del talk
    name, _, revision = reference.partition("@")
    spec = catalog().find(name)
    if spec is None:
        return _show_folder(opening.find(reference, settings.hub), as_json)
    found = offer(spec, settings.hub, revision)
    if as_json:
        write_json(offer_object(found), indent=2)
    else:
        for label, text in _facts(found):
            write_line(f"{label:<{_LABEL_WIDTH}}{text}" if label else text)
    return ExitCode.OK


def offer_object(found: Offer) -> dict[str, object]:
    """Return a row with its state on this machine, for ``--json``."""
    return {
        **asdict(found.spec),
        "scores": dict(found.spec.scores),
        "runs": found.runs,
        "state": found.local.state,
        "local": _local_object(found.local),
        "how_to_get": found.how,
        "conversation": _rules_object(rules_of(found.spec)),
    }


def _local_object(local: Local) -> dict[str, object] | None:
    return None if local.folder is None else {**asdict(local), "folder": str(local.folder)}


def _rules_object(rules: Rules | None) -> dict[str, str] | None:
    return None if rules is None else asdict(rules)


def _show_folder(target: opening.Target, as_json: bool) -> ExitCode:
    """Tell what a checkpoint outside the catalog holds."""
    local = inspect(target.folder, revision=target.revision)
    rules = rules_of_folder(target.folder)
    if as_json:
        found = {"name": target.name, "state": local.state, "local": _local_object(local)}
        write_json({**found, "conversation": _rules_object(rules)}, indent=2)
        return ExitCode.OK
    write_line(target.name)
    for label, text in (*(rules.labelled() if rules else ()), ("on disk", _where(local))):
        write_line(f"{label:<{_LABEL_WIDTH}}{text}")
    return ExitCode.OK


def _facts(found: Offer) -> Iterator[tuple[str, str]]:
    """Yield what there is to say, label and text; what nobody knows is left out."""
    spec = found.spec
    yield "", f"{spec.name}  ({spec.title})"
    yield "", spec.description
    yield from _sizes(spec)
    if spec.vision is not None:
        yield "pictures", _pictures(spec.vision)
    if rules := rules_of(spec):
        yield from rules.labelled()
    if spec.scores:
        yield "published", ", ".join(f"{benchmark} {figure:g}" for benchmark, figure in spec.scores)
    if spec.licence:
        yield "licence", f"{spec.licence}  {spec.licence_url or ''}".rstrip()
    if spec.huggingface:
        yield "hugging face", spec.huggingface
    if spec.modelscope:
        yield "modelscope", spec.modelscope
    yield "on disk", _where(found.local)
    if not found.runs:
        yield "", "This version of vlmchat cannot run it yet."
    if found.how:
        yield "", found.how


def _sizes(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    if spec.parameters:
        yield "parameters", f"{spec.parameters / 1e9:.3g} billion"
    stored = f" ({size_text(spec.bytes)})" if spec.bytes else ""
    yield "format", f"{spec.format}{stored}, runs in: {', '.join(spec.quantizations)}"
    if spec.context_tokens:
        yield "context", f"{spec.context_tokens:,} tokens"
    yield "languages", ", ".join(spec.languages)
    yield "abilities", ", ".join(spec.abilities)


def _pictures(vision: VisionSpec) -> str:
    one = f"{vision.tile_pixels} x {vision.tile_pixels} pixels"
    if vision.frames:
        return f"{vision.tower}: {vision.frames} frames of {one}, {vision.tokens_per_tile} tokens each"
    if vision.max_tiles == 1:
        cost = f"one tile of {one}, {vision.tokens_per_tile} tokens"
    else:
        more = " and a thumbnail" if vision.thumbnail else ""
        cost = f"up to {vision.max_tiles} tiles of {one}{more}, {vision.tokens_per_tile} tokens each"
    limit = f"; {vision.max_images} picture a conversation" if vision.max_images else ""
    return f"{vision.tower}: {cost}{limit}"


def _where(local: Local) -> str:
    if local.folder is None:
        return "nothing"
    missing = f", missing: {', '.join(local.missing)}" if local.missing else ""
    return f"{size_text(local.bytes)} in {local.folder}{missing}"
