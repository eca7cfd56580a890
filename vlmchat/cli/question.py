"""What ``ask`` was given (words, pictures, a video, stdin) -> the parts of one question."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vlmchat.cli.answering import DEFAULT_PROMPT, web_rules
from vlmchat.cli.output import Talk, size_text
from vlmchat.conversation import Part, Picture, Text
from vlmchat.errors import ImageError, InputError, UsageError
from vlmchat.media.crop import cropped, split_crop
from vlmchat.media.image import read_picture
from vlmchat.media.sources import picture_from
from vlmchat.media.video import read_video
from vlmchat.media.web import is_web, shown
from vlmchat.paths import user_path
from vlmchat.plaintext import is_whole
from vlmchat.settings import Settings


def read_parts(
    prompt: str | None, images: tuple[str, ...], video: str | None, settings: Settings, talk: Talk
) -> list[Part]:
    """Read everything, in the order in which the model will see it: pictures, the video, the text.

    A picture on stdin that no ``-i -`` asks for stands first; text on stdin stands before ``prompt``.

    Raises:
        UsageError: nothing to ask, stdin asked for twice, or a prompt that is no UTF-8.
        InputError: a picture, the video or stdin cannot be read.
        DownloadError: the network failed.
    """
    if sum(split_crop(source)[0] == "-" for source in images) > 1:
        raise UsageError("Stdin can be only one picture.", "Give -i - once.")
    if not is_whole(prompt or ""):
        raise UsageError("The prompt is no UTF-8 text.", "Set the terminal to UTF-8, or give it on stdin.")
    media: list[Part] = [_picture(source, settings, talk) for source in images]
    if video is not None:
        media.append(read_video(user_path(video)))
    piped = None if any(split_crop(source)[0] == "-" for source in images) else _piped()
    if isinstance(piped, Picture):
        media.insert(0, piped)
        piped = None
    text = "\n\n".join(piece for piece in (piped, (prompt or "").strip()) if piece)
    if not text and not media:
        raise UsageError(
            "There is nothing to ask.", 'Give a prompt, a picture, or both: vlmchat ask -i photo.png "What is this?"'
        )
    return [*media, Text(text or DEFAULT_PROMPT)]


def _picture(source: str, settings: Settings, talk: Talk) -> Picture:
    plain, crop = split_crop(source)
    if plain == "-":
        whole = read_picture(_stdin_bytes(), "stdin")
        return whole if crop is None else cropped(whole, crop)
    picture = picture_from(source, web_rules(settings), _telling(source, talk))
    talk.clear()
    return picture


def _telling(source: str, talk: Talk) -> Callable[[int, int], None] | None:
    """Return what shows the progress of a fetch."""
    if not is_web(source):
        return None

    def tell(done: int, total: int) -> None:
        talk.status(f"Fetching {shown(source)}: {size_text(done)}" + (f" of {size_text(total)}" if total else ""))

    return tell


def _piped() -> str | Picture | None:
    """Return what was piped in, a text or a picture; nothing when stdin is a terminal or closed.

    Raises:
        InputError: it is neither.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return None
    data = _stdin_bytes()
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        try:
            return read_picture(data, "stdin")
        except ImageError as problem:
            raise InputError(
                "Stdin is neither UTF-8 text nor a picture this program can read.",
                "Convert it, or give the file with -i.",
            ) from problem


def _stdin_bytes() -> bytes:
    return sys.stdin.buffer.read() if sys.stdin is not None else b""
