"""The whole catalog, read once: look a row up by name or hub id, filter it, or find the nearest names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from vlmchat.catalog.spec import HUBS, ModelSpec, RowError, read_row

_DATA = Path(__file__).parent / "data"
_FILES = ("demo.toml", "internvl2.toml", "ovis2.toml", "cogvlm2.toml")
"""In the order in which ``vlmchat models`` lists them."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Rows in listing order, and the ways to find one."""

    rows: tuple[ModelSpec, ...]

    def find(self, reference: str) -> ModelSpec | None:
        """Return the row named ``family:tag`` or living at ``OWNER/NAME`` on either hub, in any case."""
        wanted = reference.strip().lower()
        for row in self.rows:
            if wanted == row.name or wanted in {(row.hub_id(hub) or "").lower() for hub in HUBS} - {""}:
                return row
        return None

    def filter(self, words: str) -> tuple[ModelSpec, ...]:
        """Return the rows that :meth:`ModelSpec.matches` all of ``words``; all rows for no words."""
        return tuple(row for row in self.rows if row.matches(words))

    def nearest(self, reference: str, count: int = 3) -> tuple[str, ...]:
        """Return up to ``count`` names that look like ``reference``, best first, for an error's hint."""
        known = {row.name: row.name for row in self.rows} | {row.title.lower(): row.name for row in self.rows}
        wanted = reference.strip().lower().rsplit("/", 1)[-1]
        hits = get_close_matches(wanted, known, n=2 * count, cutoff=0.5)
        return tuple(dict.fromkeys(known[hit] for hit in hits))[:count]


@cache
def catalog() -> Catalog:
    """Return the packaged catalog; the files are read and checked on the first call only."""
    return Catalog(tuple(row for name in _FILES for row in read_file(_DATA / name)))


def read_file(path: Path) -> tuple[ModelSpec, ...]:
    """Read one catalog file: ``[defaults]`` for all its rows, then one ``[[model]]`` per checkpoint.

    Raises:
        RowError: naming the file, the row and the field, and how it should be.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise RowError(f"{path}: not valid TOML: {problem}") from problem
    unknown = sorted(tables.keys() - {"defaults", "model"})
    if unknown:
        raise RowError(f"{path}: table [{unknown[0]}] is unknown; known are [defaults] and [[model]]")
    return tuple(_row(path, tables.get("defaults", {}), row) for row in tables.get("model", []))


def _row(path: Path, defaults: Mapping[str, Any], row: Mapping[str, Any]) -> ModelSpec:
    merged = {**defaults, **row}
    if isinstance(defaults.get("vision"), dict) and isinstance(row.get("vision", {}), dict):
        merged["vision"] = {**defaults["vision"], **row.get("vision", {})}
    try:
        return read_row(merged)
    except RowError as problem:
        raise RowError(f"{path}: row {row.get('name', '?')!r}: {problem}") from problem
