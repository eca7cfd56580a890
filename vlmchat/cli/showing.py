"""``vlmchat show``: all about one model, from its row, from this machine, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator

from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import ModelSpec, VisionSpec
from vlmchat.chat.capacity import fit_of, fit_of_folder, machine_now
from vlmchat.chat.shelf import Offer, offer
from vlmchat.cli.fit import fit_facts, fit_object
from vlmchat.cli.models import local_object, offer_object, rules_object
from vlmchat.cli.output import size_text, write_json, write_line
from vlmchat.engine.machine import Machine
from vlmchat.errors import ExitCode
from vlmchat.families.rules import rules_of, rules_of_folder
from vlmchat.hub.local import Local, inspect
from vlmchat.settings import Hub, Settings

_LABEL_WIDTH = 14


def show(settings: Settings, reference: str, as_json: bool) -> ExitCode:
    """Tell all about one model.

    Raises:
        VlmchatError: there is no such model, or its files cannot be read.
    """
    name, _, revision = reference.partition("@")
    spec = catalog().find(name)
    machine = machine_now(settings.hub)
    if spec is None:
        return _show_folder(reference, settings.hub, machine, as_json)
    found = offer(spec, settings.hub, revision)
    if as_json:
        detail = {"config": dict(spec.config), "sources": dict(spec.sources)}
        missing = None if found.local.state == "installed" else spec.bytes
        fit = fit_object(fit_of(found, machine), machine, missing)
        write_json({**offer_object(found), **detail, "fit": fit}, indent=2)
    else:
        for label, text in _facts(found, machine):
            write_line(f"{label:<{_LABEL_WIDTH}}{text}" if label else text)
    return ExitCode.OK


def _show_folder(reference: str, hub: Hub, machine: Machine, as_json: bool) -> ExitCode:
    """Tell what a checkpoint outside the catalog holds."""
    # Late: a row of the catalog needs nothing of it.
    from vlmchat.chat.opening import find

    target = find(reference, hub)
    local = inspect(target.folder, revision=target.revision)
    rules, fit = rules_of_folder(target.folder), fit_of_folder(target.folder, machine)
    if as_json:
        found = {"name": target.name, "state": local.state, "local": local_object(local)}
        more = {"conversation": rules_object(rules), "fit": fit_object(fit, machine, None)}
        write_json({**found, **more}, indent=2)
        return ExitCode.OK
    write_line(target.name)
    labelled = rules.labelled() if rules else ()
    for label, text in (*fit_facts(fit, machine, None), *labelled, ("on disk", _where(local))):
        write_line(f"{label:<{_LABEL_WIDTH}}{text}")
    return ExitCode.OK


def _facts(found: Offer, machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield what there is to say, label and text; what nobody knows is left out."""
    spec = found.spec
    yield "", f"{spec.name}  ({spec.title})"
    if spec.description:
        yield "", spec.description
    yield from _sizes(spec)
    missing = None if found.local.state == "installed" else spec.bytes
    yield from fit_facts(fit_of(found, machine), machine, missing)
    if spec.vision is not None:
        yield "pictures", _pictures(spec.vision)
    if rules := rules_of(spec):
        yield from rules.labelled()
    if spec.scores:
        yield "published", ", ".join(f"{benchmark} {figure:g}" for benchmark, figure in spec.scores)
    yield from _origin(spec)
    yield "on disk", _where(found.local)
    if not found.runs:
        yield "", "This version of vlmchat cannot run it yet."
    if found.how:
        yield "", found.how


def _origin(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    if spec.licence:
        yield "licence", f"{spec.licence}  {spec.licence_url or ''}".rstrip()
    if spec.huggingface:
        yield "hugging face", spec.huggingface
    if spec.modelscope:
        yield "modelscope", spec.modelscope
    if spec.revision:
        yield "revision", spec.revision


def _sizes(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    if spec.parameters:
        yield "parameters", f"{spec.parameters / 1e9:.3g} billion"
    files = f" in {spec.weights_files} file{'s' * (spec.weights_files > 1)}" if spec.weights_files else ""
    stored = f" ({size_text(spec.bytes)}{files})" if spec.bytes else ""
    yield "format", f"{spec.format}{stored}, runs in: {', '.join(spec.quantizations)}"
    if spec.context_tokens:
        yield "context", f"{spec.context_tokens:,} tokens"
    if spec.languages:
        yield "languages", ", ".join(spec.languages)
    yield "abilities", ", ".join(spec.abilities)


def _pictures(vision: VisionSpec) -> str:
    one = f"{vision.tile_pixels} x {vision.tile_pixels} pixels"
    frames = f"{vision.frames} frames of {one}, {vision.tokens_per_tile} tokens each" if vision.frames else ""
    if vision.max_tiles == 1 and frames:
        return f"{vision.tower}: {frames}"
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
