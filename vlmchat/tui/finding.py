"""Which pictures and videos lie about: what the picker lists, newest first, and what of it matches.

Reads folders and looks at names and times only; nothing is opened. Meant for a thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from textual.fuzzy import Matcher

from vlmchat.tui.attaching import SUFFIXES, VIDEO_SUFFIXES

LIMIT = 20_000
"""Folder entries that are looked at; a picture beyond them is typed by its path."""
SHOWN = 300
"""Rows that are listed; a letter more finds the others."""
_HOMES = ("Pictures", "Downloads", "Desktop")
_DEEP, _SHALLOW = 6, 2
"""Folders below the working folder, and below the user's own ones."""
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "venv"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that its name says is a picture or a video."""

    path: Path
    shown: str
    """Its path as people would write it: below the working folder, or below ``~``."""
    changed: float
    """When it was written, in seconds since 1970."""
    is_video: bool


def candidates(stopped: Callable[[], bool], here: Path | None = None, home: Path | None = None) -> list[Candidate]:
    """Return the pictures, then the videos, below the working folder and the user's picture folders, newest first.

    Args:
        stopped: asked between folders; True ends the search with what there is.
        here: in place of the working folder.
        home: in place of the user's home.
    """
    here, home = here or Path.cwd(), home or Path.home()
    left = LIMIT
    found: dict[Path, Candidate] = {}
    for root, depth in ((here, _DEEP), *((home / name, _SHALLOW) for name in _HOMES)):
        for entry in _files(root, depth if root != home else 1, stopped):
            left -= 1
            if left < 0:
                break
            made = _candidate(entry, here, home)
            if made is not None:
                found.setdefault(made.path, made)
    return sorted(found.values(), key=lambda it: (it.is_video, -it.changed, it.shown))


def matching(words: str, known: Sequence[Candidate], stopped: Callable[[], bool]) -> list[Candidate]:
    """Return those of ``known`` whose path has the letters of ``words`` in this order: pictures first, best first."""
    if not words:
        return list(known[:SHOWN])
    loose = re.compile(".*?".join(map(re.escape, words)), re.IGNORECASE)
    matcher = Matcher(words)
    scored: list[tuple[bool, float, int, Candidate]] = []
    for place, it in enumerate(known):
        if stopped():
            return []
        if loose.search(it.shown):
            # What is in the name counts more than the same letters in a folder above it.
            score = max(matcher.match(it.shown), 2 * matcher.match(it.path.name))
            scored.append((it.is_video, -score, place, it))
    return [it for *_, it in sorted(scored, key=lambda row: row[:3])[:SHOWN]]


def _files(root: Path, depth: int, stopped: Callable[[], bool]) -> Iterator[os.DirEntry[str]]:
    """Yield the files below ``root``, those of nearer folders first; links to folders are not followed."""
    folders = [(root, 0)]
    for folder, level in folders:
        if stopped():
            return
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            if entry.is_dir(follow_symlinks=False):
                if level < depth:
                    folders.append((Path(entry.path), level + 1))
            else:
                yield entry


def _candidate(entry: os.DirEntry[str], here: Path, home: Path) -> Candidate | None:
    path = Path(entry.path)
    suffix = path.suffix.lower()
    if suffix not in _endings():
        return None
    try:
        changed = entry.stat().st_mtime
    except OSError:
        return None
    return Candidate(path, _shown(path, here, home), changed, suffix in VIDEO_SUFFIXES)


@lru_cache(maxsize=1)
def _endings() -> frozenset[str]:
    return frozenset((*SUFFIXES, *VIDEO_SUFFIXES))


def _shown(path: Path, here: Path, home: Path) -> str:
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
