"""Text that names pictures -> pictures: what was typed, pasted or dropped onto the terminal.

A terminal turns a dropped file into typed text: quoted, with backslashes before blanks, as a
``file://`` URL, or bare, several with blanks between. The first half of this module reads such
text and touches no disk; the second half looks at the files and belongs on a thread of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError
from vlmchat.tui.text import say

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".avif",
)
"""Endings by which a bare word is taken for a picture; what it is, its content tells."""
_LONGEST = 20_000
"""Characters of a paste that are looked at for paths; more is prose."""
_TOKEN = re.compile(r"""'([^'\n]+)'|"([^"\n]+)"|((?:\\.|[^\s\\])+)""")
_STARTS = ("/", "./", "../", "~/", "file://")
_ENDINGS = "?!.,;:)]}"


@dataclass(frozen=True, slots=True)
class Mention:
    """A stretch of text that may name a file."""

    start: int
    end: int
    path: Path
    sure: bool
    """It can hardly be anything but the path of a picture, so a missing file is worth a word."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the mentions of one text."""

    pictures: tuple[Picture, ...] = ()
    rest: str = ""
    """The text without the mentions that became pictures."""
    error: ImageError | None = None
    """The first mention that should have been a picture and was none."""


def mentions(text: str) -> list[Mention]:
    """Return the parts of typed ``text`` that look like paths; nothing on disk is touched."""
    whole = text.strip()
    if " " in whole and "\n" not in whole and whole.startswith(_STARTS) and whole.lower().endswith(SUFFIXES):
        # A bare path with blanks in it can only be told from words when it is the whole line.
        start = text.index(whole)
        return [Mention(start, start + len(whole), _path(whole), sure=False), *_words(text)]
    return _words(text)


def pasted(text: str) -> list[list[Path]]:
    """Return, line by line, the readings of a paste as paths; empty when it is plainly no list of paths."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines or len(text) > _LONGEST:
        return []
    readings: list[list[Path]] = []
    for line in lines:
        tokens = [value for _, _, value, _ in _tokens(line)]
        if not _looks_like_path(line.strip("'\"")) and not all(_looks_like_path(token) for token in tokens):
            return []
        readings.append([_path(line), *(_path(token) for token in tokens)])
    return readings


def attach_pasted(text: str) -> Found | None:
    """Read the pictures that a paste names; None when it is text to be typed.

    Runs on a thread: it looks at the disk and decodes pictures.
    """
    paths: list[Path] = []
    for whole, *parts in pasted(text):
        chosen = [whole] if _is_file(whole) else parts
        if not all(_is_file(path) for path in chosen):
            return None
        paths += chosen
    if not paths:
        return None
    pictures: list[Picture] = []
    for path in paths:
        try:
            pictures.append(_read(path))
        except ImageError as error:
            return Found(tuple(pictures), text, error)
    return Found(tuple(pictures))


def attach_typed(text: str) -> Found:
    """Read the pictures that typed ``text`` names and take their names out of it.

    Runs on a thread. A word that names a file which is no picture stays a word, unless it ends
    like a picture or is all there is: then it is reported.
    """
    pictures: list[Picture] = []
    taken: list[Mention] = []
    for mention in mentions(text):
        if any(mention.start < other.end for other in taken):
            continue
        alone = text.strip() == text[mention.start : mention.end]
        try:
            pictures.append(_read(mention.path))
            taken.append(mention)
        except ImageError as error:
            if mention.sure or (alone and _is_file(mention.path)):
                return Found((), text, error)
    return Found(tuple(pictures), _without(text, taken))


def _words(text: str) -> list[Mention]:
    found: list[Mention] = []
    for start, end, value, quoted in _tokens(text):
        bare = value if quoted else value.rstrip(_ENDINGS)
        if not _looks_like_path(bare):
            continue
        cut = 0 if quoted else len(value) - len(bare)
        found.append(Mention(start, end - cut, _path(bare), sure=bare.lower().endswith(SUFFIXES)))
    return found


def _tokens(text: str) -> Iterator[tuple[int, int, str, bool]]:
    """Yield start, end, value without quotes or backslashes, and whether it was quoted."""
    for match in _TOKEN.finditer(text):
        single, double, bare = match.groups()
        value = single or double or _unescaped(bare)
        yield match.start(), match.end(), value, bare is None


def _unescaped(text: str) -> str:
    return text if os.name == "nt" else re.sub(r"\\(.)", r"\1", text)


def _looks_like_path(text: str) -> bool:
    if len(text) > 4096 or text in {"/", "./", "../"} or "://" in text[:12].replace("file://", ""):
        return False
    drive = os.name == "nt" and re.match(r"[A-Za-z]:[\\/]", text) is not None
    return drive or text.startswith(_STARTS) or text.lower().endswith(SUFFIXES)


def _path(text: str) -> Path:
    text = text.strip().strip("'\"")
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # the home of a user nobody knows
        return Path(text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return True


def _read(path: Path) -> Picture:
    # Pillow costs 30 ms of CPU: the first frame must not wait for it, so it is fetched here.
    from vlmchat.media.image import read_picture

    if not _is_file(path) and _exists(path):
        # A device or a pipe could be read for ever.
        raise ImageError(say("error.no_file", path=path), say("error.no_file.hint"))
    return read_picture(path)


def _without(text: str, taken: list[Mention]) -> str:
    for mention in reversed(taken):
        after = text[mention.end :].lstrip(" ")
        joint = "" if after[:1] and after[0] in _ENDINGS else " "
        text = text[: mention.start].rstrip(" ") + joint + after
    return text.strip(" ") if taken else text
