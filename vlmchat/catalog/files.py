"""Catalog files: TOML of this program's own form, and Xinference's model specs in JSON.

A packaged file is right as a whole or an error; of the user's files a bad row is told and left out,
and the rest is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, TypeAlias

from vlmchat.catalog.spec import ModelSpec, RowError, read_row

Read: TypeAlias = ModelSpec | RowError
"""A row, or what is wrong with it."""
_TABLES = ("defaults", "config", "model")


def read_file(path: Path) -> tuple[ModelSpec, ...]:
    """Read one packaged catalog file.

    Raises:
        RowError: naming the file, the row and the field, and how it should be.
    """
    rows = tuple(_rows(path))
    for row in rows:
        if isinstance(row, RowError):
            raise row
    return tuple(row for row in rows if isinstance(row, ModelSpec))


def read_folder(folder: Path, taken: Set[str]) -> tuple[list[ModelSpec], list[str]]:
    """Read the user's own files; returns the good rows and a sentence for each bad one.

    Args:
        folder: with ``*.toml`` and ``*.json``; need not exist.
        taken: names of packaged rows, which stay what they are.
    """
    rows: dict[str, ModelSpec] = {}
    problems: list[str] = []
    for path in sorted((*folder.glob("*.toml"), *folder.glob("*.json"))):
        for row in _rows(path):
            if isinstance(row, RowError):
                problems.append(str(row))
            elif row.name in taken or row.name in rows:
                problems.append(f"{path}: row {row.name!r}: field name is taken by another row; choose another name")
            elif not (row.huggingface or row.modelscope or row.folder):
                problems.append(f"{path}: row {row.name!r}: field huggingface, modelscope or folder is missing")
            else:
                rows[row.name] = row
    return list(rows.values()), problems


def _rows(path: Path) -> Iterator[Read]:
    """Yield the rows of one file; what makes all of it unreadable is one error."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            # Late: the packaged rows are TOML, and help reads none.
            from vlmchat.catalog.xinference import rows_of

            yield from (_named(path, row) for row in rows_of(json.loads(text)))
            return
        import tomllib

        tables = tomllib.loads(text)
    except (OSError, ValueError) as problem:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        yield RowError(f"{path}: not valid {kind}: {problem}")
        return
    unknown = sorted(tables.keys() - set(_TABLES))
    if unknown:
        yield RowError(f"{path}: table [{unknown[0]}] is unknown; known are [defaults], [config] and [[model]]")
        return
    models = tables.get("model", [])
    if not isinstance(models, list):
        yield RowError(f"{path}: write [[model]] with two brackets, one for each row")
        return
    for row in models:
        yield _named(path, _complete(tables.get("defaults", {}), tables.get("config", {}), row))


def _named(path: Path, row: Mapping[str, Any] | RowError) -> Read:
    """Check a row; its error says where it stands."""
    if isinstance(row, RowError):
        return RowError(f"{path}: {row}")
    try:
        return read_row(row)
    except RowError as problem:
        return RowError(f"{path}: row {row.get('name', '?')!r}: {problem}")


def _complete(defaults: Mapping[str, Any], parts: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``row`` over ``defaults``; ``config`` may name tables of the file, which are laid over each other."""
    whole = {**defaults, **row}
    for name in ("vision", "sources"):
        if isinstance(defaults.get(name), dict) and isinstance(row.get(name, {}), dict):
            whole[name] = {**defaults[name], **row.get(name, {})}
    names = whole.get("config")
    if isinstance(names, list) and all(isinstance(parts.get(name), dict) for name in names):
        config: dict[str, Any] = {}
        for name in names:
            config = _over(config, parts[name])
        whole["config"] = config
    return whole


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another, tables inside them too."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
