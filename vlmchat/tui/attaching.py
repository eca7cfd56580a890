"""Text that names pictures -> pictures: what was typed, pasted or dropped onto the terminal.

A terminal turns a dropped file into typed text: quoted, with backslashes before blanks, as a
``file://`` URL, or bare, several with blanks between. Behind a picture may stand a box of it
(``photo.png[x,y,w,h]``). The first half of this module reads such text and touches no disk; the
second half looks at the files, or at the web, and belongs on a thread of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vlmchat.conversation import Picture, Video
from vlmchat.errors import DownloadError, ImageError, InputError, VlmchatError
from vlmchat.paths import user_path
from vlmchat.store.blobs import MAX_VIDEO
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
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv")
"""Endings by which a file is taken for a video."""
_LONGEST = 20_000
"""Characters of a paste that are looked at for paths; more is prose."""
_BOX = r"\[[\d.,\s]+\]"
_TOKEN = re.compile(rf"""(?:'([^'\n]+)'|"([^"\n]+)")({_BOX})?|((?:\\.|[^\s\\])+)""")
_BOXED = re.compile(rf"(.*?)({_BOX})?", re.DOTALL)
_STILLS = {b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc"}
"""Brands of pictures in the container of MP4 (AVIF, HEIF)."""
_STARTS = ("/", "./", "../", "~/", "file://")
_ENDINGS = "?!.,;:)]}"


@dataclass(frozen=True, slots=True)
class Mention:
    """A stretch of text that may name a file."""

    start: int
    end: int
    source: str
    """A path or a URL, with the box that stands behind it."""
    sure: bool
    """It can hardly be anything but the path of a picture, so a missing file is worth a word."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the mentions of one text."""

    pictures: tuple[Picture, ...] = ()
    rest: str = ""
    """The text without the mentions that became pictures."""
    error: VlmchatError | None = None
    """What became of the first mention that should have been a picture and was none."""
    videos: tuple[Video, ...] = ()

    @property
    def media(self) -> tuple[Picture | Video, ...]:
        """The pictures, then the videos."""
        return (*self.pictures, *self.videos)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far reading may go, and who hears of it."""

    offline: bool = False
    private: bool = False
    """Addresses of this machine and of private networks too."""
    told: Callable[[int, int], None] | None = None
    """Hears the bytes that came, and the bytes there are or 0."""
    stopped: Callable[[], bool] | None = None


def mentions(text: str) -> list[Mention]:
    """Return the parts of typed ``text`` that look like paths or URLs of pictures; nothing on disk is touched."""
    whole = text.strip()
    if " " in whole and "\n" not in whole and whole.startswith(_STARTS) and _ends_like_a_picture(whole):
        # A bare path with blanks in it can only be told from words when it is the whole line.
        start = text.index(whole)
        return [Mention(start, start + len(whole), _source(whole), sure=False), *_words(text)]
    return _words(text)


def pasted(text: str) -> list[list[str]]:
    """Return, line by line, the readings of a paste as sources; empty when it is plainly no list of them."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines or len(text) > _LONGEST:
        return []
    readings: list[list[str]] = []
    for line in lines:
        tokens = [value for _, _, value, _ in _tokens(line)]
        if not _looks_like_source(line.strip("'\"")) and not all(_looks_like_source(token) for token in tokens):
            return []
        readings.append([_source(line), *(_source(token) for token in tokens)])
    return readings


def is_source(text: str) -> bool:
    """Say whether ``text``, typed where a picture is wanted, is a path or a URL and not a word to search for."""
    return _is_web(text) or text.startswith((*_STARTS, "~", "'", '"')) or (os.name == "nt" and text[1:2] == ":")


def named(text: str) -> str:
    """Return the source that ``text`` names, all of it: without quotes, ``~`` and ``file://`` resolved."""
    return _source(text)


def attach_pasted(text: str, reach: Reach = Reach()) -> Found | None:
    """Read the pictures that a paste names; None when it is text to be typed.

    Runs on a thread: it looks at the disk and decodes pictures.
    """
    sources: list[str] = []
    for whole, *parts in pasted(text):
        chosen = [whole] if _is_there(whole) else parts
        if not all(_is_there(source) for source in chosen):
            return None
        sources += chosen
    if not sources:
        return None
    media: list[Picture | Video] = []
    error: VlmchatError | None = None
    for source in sources:
        try:
            media.append(read_source(source, reach))
        except (InputError, DownloadError) as problem:
            error = problem
            break
    return _found(media, text if error is not None else "", error)


def attach_typed(text: str, reach: Reach = Reach(), *, web: bool = True) -> Found:
    """Read the pictures that typed ``text`` names and take their names out of it.

    Runs on a thread. A word that names a file which is no picture stays a word, unless it ends
    like a picture or is all there is: then it is reported. Without ``web`` URLs are left alone.
    """
    media: list[Picture | Video] = []
    taken: list[Mention] = []
    for mention in mentions(text):
        if any(mention.start < other.end for other in taken) or (_is_web(mention.source) and not web):
            continue
        alone = text.strip() == text[mention.start : mention.end]
        try:
            media.append(read_source(mention.source, reach))
            taken.append(mention)
        except (InputError, DownloadError) as error:
            if mention.sure or (alone and _is_there(mention.source)):
                return Found((), text, error)
    return _found(media, _without(text, taken), None)


def read_source(source: str, reach: Reach = Reach()) -> Picture | Video:
    """Read one picture or video; what it is, its content tells. For a thread.

    Raises:
        ImageError: it is no picture, a damaged or a hostile one, or no ordinary file.
        VideoError: it is a video that cannot be read.
        DownloadError: the network or the server failed.
    """
    # Pillow costs 30 ms of CPU: the first frame must not wait for it, so it is fetched here.
    from vlmchat.media.sources import picture_from
    from vlmchat.media.web import WebRules

    path = user_path(_plain(source))
    if not _is_web(source) and not _is_file(path) and _exists(path):
        # A device or a pipe could be read for ever.
        raise ImageError(say("error.no_file", path=path), say("error.no_file.hint"))
    if not _is_web(source) and _is_video(path):
        from vlmchat.media.video import read_video

        return read_video(path)
    return picture_from(source, WebRules(reach.offline, reach.private), reach.told, reach.stopped)


def only_by_path(media: Sequence[Picture | Video]) -> list[Video]:
    """Return the videos of ``media`` that are too large for a chat to keep a copy of."""
    return [it for it in media if isinstance(it, Video) and it.path is not None and _bytes(it.path) > MAX_VIDEO]


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _found(media: list[Picture | Video], rest: str, error: VlmchatError | None) -> Found:
    pictures = tuple(it for it in media if isinstance(it, Picture))
    return Found(pictures, rest, error, tuple(it for it in media if isinstance(it, Video)))


def _words(text: str) -> list[Mention]:
    found: list[Mention] = []
    for start, end, value, quoted in _tokens(text):
        bare = value if quoted else _without_ending(value)
        if not _looks_like_source(bare):
            continue
        cut = 0 if quoted else len(value) - len(bare)
        found.append(Mention(start, end - cut, _source(bare), sure=_ends_like_a_picture(bare)))
    return found


def _tokens(text: str) -> Iterator[tuple[int, int, str, bool]]:
    """Yield start, end, value without quotes or backslashes, and whether it was quoted."""
    for match in _TOKEN.finditer(text):
        single, double, box, bare = match.groups()
        value = (single or double) + (box or "") if bare is None else _unescaped(bare)
        yield match.start(), match.end(), value, bare is None


def _without_ending(word: str) -> str:
    """Return ``word`` without the marks that end a sentence, but with the box behind a picture."""
    boxed = word.rstrip(_ENDINGS.replace("]", ""))
    return boxed if boxed.endswith("]") and _plain(boxed) != boxed else word.rstrip(_ENDINGS)


def _plain(source: str) -> str:
    """Return ``source`` without the box behind it."""
    found = _BOXED.fullmatch(source)
    return found[1] if found else source


def _unescaped(text: str) -> str:
    return text if os.name == "nt" else re.sub(r"\\(.)", r"\1", text)


def _looks_like_source(text: str) -> bool:
    if len(text) > 4096 or text in {"/", "./", "../"}:
        return False
    if "://" in text[:12].replace("file://", ""):
        return _is_web(text) and _ends_like_a_picture(text)
    drive = os.name == "nt" and re.match(r"[A-Za-z]:[\\/]", text) is not None
    return drive or text.startswith(_STARTS) or _ends_like_a_picture(text)


def _ends_like_a_picture(text: str) -> bool:
    plain = _plain(text)
    if _is_web(plain):
        plain = plain.partition("?")[0].partition("#")[0]
    return plain.lower().endswith((*SUFFIXES, *VIDEO_SUFFIXES))


def _is_web(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _source(text: str) -> str:
    text = text.strip().strip("'\"")
    if _is_web(text):
        return text
    if text.startswith("file://"):
        # A host may stand before the path; "#" and "?" are part of names here.
        text = unquote("/" + text.removeprefix("file://").partition("/")[2])
    return str(user_path(text))


def _is_there(source: str) -> bool:
    """Say whether there is such a file; of the web, its URL has to do."""
    return _is_web(source) or _is_file(Path(source)) or _is_file(Path(_plain(source)))


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


def _is_video(path: Path) -> bool:
    """Say by its first bytes whether ``path`` is a container of video: MP4, Matroska, AVI, MPEG, Ogg."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILLS
    riff = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return riff or head.startswith((b"\x1a\x45\xdf\xa3", b"OggS", b"\0\0\1\xba", b"\0\0\1\xb3"))


def _without(text: str, taken: list[Mention]) -> str:
    for mention in reversed(taken):
        after = text[mention.end :].lstrip(" ")
        joint = "" if after[:1] and after[0] in _ENDINGS else " "
        text = text[: mention.start].rstrip(" ") + joint + after
    return text.strip(" ") if taken else text
