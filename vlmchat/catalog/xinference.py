"""Xinference's model specs as catalog rows: the JSON that its custom models are registered with.

Both forms are read: the older one, where a spec has ``model_id`` and ``quantizations`` itself, and the
newer one, where ``model_src`` has them for each hub. One spec with several quantizations is several
rows where ``{quantization}`` is part of the id; ``none`` fills it with nothing, as the hubs name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from vlmchat.catalog.spec import ABILITIES, HUBS, RowError

Table: TypeAlias = Mapping[str, Any]
_LOADERS = ("internvl2", "ovis2", "cogvlm2")
_FORMATS: Mapping[str, str] = {"pytorch": "pytorch", "awq": "awq", "gptq": "gptq"}
_ON_THE_FLY = ("none", "8-bit", "4-bit")
_SLOT = "{quantization}"


def rows_of(document: object) -> Iterator[dict[str, Any] | RowError]:
    """Yield a row, or what is wrong, for each checkpoint of one model family or a list of them."""
    families = document if isinstance(document, list) else [document]
    for place, family in enumerate(families, 1):
        if not isinstance(family, Mapping):
            yield RowError(f"entry {place} must be a table with model_name and model_specs")
            continue
        name, specs = family.get("model_name"), family.get("model_specs")
        if not isinstance(name, str) or not name.strip():
            yield RowError(f"entry {place}: field model_name must be a text that is not empty")
        elif not isinstance(specs, list) or not specs:
            yield RowError(f"{name}: field model_specs must be a list that is not empty")
        else:
            yield from _of_family(family, name, specs)


def _of_family(family: Table, name: str, specs: list[Any]) -> Iterator[dict[str, Any] | RowError]:
    shared = _shared(family, name)
    for place, spec in enumerate(specs, 1):
        where = f"{name}: model_specs[{place}]"
        if not isinstance(spec, Mapping):
            yield RowError(f"{where} must be a table")
        elif spec.get("model_format") not in _FORMATS:
            known = ", ".join(_FORMATS)
            yield RowError(f"{where}: field model_format must be one of {known}, not {spec.get('model_format')!r}")
        elif not (sources := _sources(spec)):
            yield RowError(f"{where}: field model_id, model_uri or model_src is missing")
        elif not all(isinstance(_quantizations(spec, source), list) for source in sources.values()):
            yield RowError(f"{where}: field quantizations must be a list of texts")
        else:
            yield from _of_spec(shared, name, spec, sources)


def _shared(family: Table, name: str) -> dict[str, Any]:
    """Return what all rows of a family have in common; abilities this program has no word for are left out."""
    kind = str(family.get("model_family") or name).lower()
    shared: dict[str, Any] = {"loader": next((known for known in _LOADERS if kind.startswith(known)), "generic")}
    abilities = family.get("model_ability")
    if isinstance(abilities, list) and (known := [ability for ability in abilities if ability in ABILITIES]):
        shared["abilities"] = known
    for theirs, ours in (
        ("model_lang", "languages"),
        ("context_length", "context_tokens"),
        ("model_description", "description"),
    ):
        if family.get(theirs):
            shared[ours] = family[theirs]
    return shared


def _sources(spec: Table) -> dict[str, Table]:
    """Return by hub (or ``folder``) where a spec lives."""
    if isinstance(spec.get("model_src"), Mapping):
        return {hub: source for hub, source in spec["model_src"].items() if hub in HUBS and isinstance(source, Mapping)}
    if str(spec.get("model_uri") or "").startswith("file://"):
        return {"folder": {**spec, "model_id": unquote(urlsplit(spec["model_uri"]).path)}}
    if not spec.get("model_id"):
        return {}
    hub = spec.get("model_hub")
    return {hub if hub in HUBS else "huggingface": spec}


def _of_spec(shared: Table, name: str, spec: Table, sources: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for hub, source in sources.items():
        for suffix, quantizations, identity in _checkpoints(spec, source):
            tag = f"{spec.get('model_size_in_billions', '')}b".replace("_", ".")
            if spec["model_format"] != "pytorch":
                tag += f"-{spec['model_format']}"
            row_name = f"{name}:{tag}{suffix}".lower().replace(" ", "-").replace("/", "-")
            row = found.setdefault(row_name, {"name": row_name, **shared})
            row |= {"title": identity.rstrip("/").rsplit("/", 1)[-1], hub: identity}
            row |= {"format": _FORMATS[spec["model_format"]], "quantizations": quantizations}
            if hub == "huggingface" and source.get("model_revision"):
                row["revision"] = source["model_revision"]
    for row in found.values():
        # An int4 repository of plain format is bitsandbytes' (CogVLM2).
        if row["format"] == "pytorch" and row["quantizations"] == ["int4"]:
            row["format"] = "bnb"
        yield row


def _checkpoints(spec: Table, source: Table) -> Iterator[tuple[str, list[str], str]]:
    """Yield (suffix of the tag, what it runs in, id) of each checkpoint that one source names."""
    quantizations = [str(quantization) for quantization in _quantizations(spec, source)]
    identity = str(source.get("model_id") or "")
    if _SLOT not in identity:
        plain = spec["model_format"] == "pytorch" and set(quantizations) <= set(_ON_THE_FLY)
        yield "", list(_ON_THE_FLY) if plain else [word.lower() for word in quantizations], identity
        return
    for quantization in quantizations:
        if quantization == "none":
            yield "", list(_ON_THE_FLY), identity.replace(f"-{_SLOT}", "").replace(_SLOT, "")
        else:
            yield f"-{quantization.lower()}", [quantization.lower()], identity.replace(_SLOT, quantization)


def _quantizations(spec: Table, source: Table) -> Any:
    return source.get("quantizations") or spec.get("quantizations") or ["none"]
