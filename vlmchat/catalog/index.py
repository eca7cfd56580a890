"""The whole catalog: look a row up by name or hub id, filter it, or find the nearest names.

The packaged rows are read once; behind them stand the user's own, from the config folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from vlmchat.catalog.files import read_file, read_folder
from vlmchat.catalog.spec import HUBS, ModelSpec
from vlmchat.paths import places

_DATA = Path(__file__).parent / "data"
_FILES = ("demo.toml", "internvl2.toml", "ovis2.toml", "cogvlm2.toml")
"""In the order in which ``vlmchat models`` lists them."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Rows in listing order, and the ways to find one."""

    rows: tuple[ModelSpec, ...]
    problems: tuple[str, ...] = ()
    """One sentence for each row of the user's own that cannot be used: the file, the row, the field, the fix."""

    def find(self, reference: str) -> ModelSpec | None:
        """Return the row named ``family:tag`` or living at ``OWNER/NAME`` on either hub, in any case."""
        wanted = reference.strip().lower()
        for row in self.rows:
            if wanted == row.name or wanted in {(row.hub_id(hub) or "").lower() for hub in HUBS} - {""}:
                return row
        return None

    def filter(self, words: str) -> tuple[ModelSpec, ...]:
        """Return the rows that :meth:`ModelSpec.matches` all of ``words``; all rows for no words.

        Where no row does, those that :meth:`ModelSpec.resembles` them: ``cog19zh`` finds ``cogvlm2:19b-zh``.
        """
        exact = tuple(row for row in self.rows if row.matches(words))
        return exact or tuple(row for row in self.rows if row.resembles(words))

    def nearest(self, reference: str, count: int = 3) -> tuple[str, ...]:
        """Return up to ``count`` names that look like ``reference``, best first, for an error's hint."""
        known = {row.name: row.name for row in self.rows} | {row.title.lower(): row.name for row in self.rows}
        wanted = reference.strip().lower().rsplit("/", 1)[-1]
        hits = get_close_matches(wanted, known, n=2 * count, cutoff=0.5)
        return tuple(dict.fromkeys(known[hit] for hit in hits))[:count]


def catalog() -> Catalog:
    """Return the packaged rows and the user's own; files are read and checked on the first call only."""
    return _with_users(places().catalog)


@cache
def _with_users(folder: Path) -> Catalog:
    rows, problems = read_folder(folder, frozenset(row.name for row in _packaged()))
    return Catalog((*_packaged(), *rows), tuple(problems))


@cache
def _packaged() -> tuple[ModelSpec, ...]:
    return tuple(row for name in _FILES for row in read_file(_DATA / name))
