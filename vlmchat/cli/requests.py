"""One line of ``vlmchat pipe`` -> what the engine is asked. Any bytes either make a request or an error.

A line is a JSON object or the plain path of a picture. Nothing here prints or runs a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import BinaryIO, NoReturn, TypeAlias

from vlmchat.cli.answering import DEFAULT_PROMPT, web_rules
from vlmchat.conversation import Message, Part, Picture, Role, Text, Video
from vlmchat.conversation import system as system_message
from vlmchat.engine.api import Request
from vlmchat.errors import InputError
from vlmchat.media.sources import picture_from
from vlmchat.media.video import read_video, video_of_frames
from vlmchat.paths import user_path
from vlmchat.settings import GENERATION_KEYS, Settings

LONGEST_LINE = 256 * 1024**2
"""Bytes of one line at most: several pictures as ``data:`` URLs fit, and memory stays bounded."""
_OWN_KEYS = frozenset({"id", "prompt", "images", "video", "messages"})
_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_Read: TypeAlias = Callable[[str], Picture]
"""Reads a picture by its path or URL."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that holds something."""

    number: int
    """From 1, empty lines counted."""
    raw: bytes = field(repr=False)
    whole: bool = True
    """False: it was longer than :data:`LONGEST_LINE`, and the rest was skipped."""
    end: int = 0
    """Bytes of input up to its end."""


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """Yield the lines of ``stream`` as they come, one in memory at a time, blank ones left out."""
    number = end = 0
    while raw := stream.readline(LONGEST_LINE):
        number += 1
        end += len(raw)
        whole = len(raw) < LONGEST_LINE or raw.endswith(b"\n")
        if not whole:
            end += _skip_line(stream)
        if raw.strip():
            yield Line(number, raw, whole, end)


def decode(line: Line) -> Mapping[str, object]:
    """Return the fields of a line; a plain path stands for one picture, which is its id too.

    Raises:
        InputError: too long, not UTF-8, not JSON; the message names the line.
    """
    if not line.whole:
        raise _error(line, f"is longer than {LONGEST_LINE:,} bytes", "Name pictures by path.")
    try:
        text = line.raw.decode("utf-8").strip()
    except UnicodeDecodeError as problem:
        raise _error(line, "is not UTF-8", "Convert it to UTF-8.") from problem
    text = text.removeprefix("\ufeff")
    if not text.startswith("{"):
        return {"id": text, "images": [text]}
    try:
        fields = json.loads(text, parse_constant=_no_constant)
        text.encode("utf-8")
        json.dumps(fields, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as problem:
        raise _error(line, "holds half a character (a lone surrogate)", "Write whole characters.") from problem
    except (ValueError, RecursionError) as problem:
        raise _error(line, f"is not JSON: {problem}", "Write one JSON object per line.") from problem
    return dict(fields)


def identify(fields: Mapping[str, object]) -> object:
    """Return the id to answer with: what the line gave, if JSON can compare it, else null."""
    given = fields.get("id")
    if isinstance(given, float) and not isfinite(given):
        return None
    return given if isinstance(given, str | int | float) else None


def key_of(line: Line, fields: Mapping[str, object]) -> str:
    """Return what ``--resume`` knows a line by: its id, else a hash of what it says."""
    given = identify(fields)
    if given is not None:
        return "id:" + json.dumps(given)
    said = json.dumps(fields, sort_keys=True).encode() if fields else line.raw.strip()
    return "sha256:" + hashlib.sha256(said).hexdigest()


def build(line: Line, fields: Mapping[str, object], prompt: str | None, base: Settings) -> tuple[Request, Settings]:
    """Return what to ask the engine, and the settings it is asked with.

    Args:
        line: for messages.
        fields: as :func:`decode` returned them.
        prompt: what a picture without a prompt of its own is asked.
        base: settings where the line names none.

    Raises:
        InputError: a key or a value that cannot be, a picture that cannot be read.
        UsageError: a generation option outside its range.
    """
    _check_keys(line, fields)
    options = {name: value for name, value in fields.items() if name in GENERATION_KEYS}
    settings = base.changed(options, f"Line {line.number}")
    read = partial(picture_from, rules=web_rules(base))
    messages = _messages(line, fields, read) if "messages" in fields else (_single(line, fields, prompt, read),)
    if settings.system is not None and messages[0].role != "system":
        messages = (system_message(settings.system), *messages)
    return Request(messages, settings.sampling, settings.vision), settings


def _check_keys(line: Line, fields: Mapping[str, object]) -> None:
    unknown = sorted(fields.keys() - _OWN_KEYS - GENERATION_KEYS)
    if unknown:
        raise _error(
            line, f"has the unknown key {unknown[0]!r}", f"Keys are: {', '.join(sorted(_OWN_KEYS))}, and options."
        )
    if "messages" in fields and fields.keys() & {"prompt", "images", "video"}:
        raise _error(line, "has messages beside a prompt, images or a video", "Give the one or the other.")


def _single(line: Line, fields: Mapping[str, object], prompt: str | None, read: _Read) -> Message:
    images = fields.get("images", [])
    if not isinstance(images, list) or not all(isinstance(item, str) for item in images):
        raise _error(line, "has images that are no list of paths", 'Write "images": ["a.png", "b.png"].')
    media: list[Part] = [read(image) for image in images]
    if "video" in fields:
        media.append(_video(line, fields["video"], read))
    text = fields.get("prompt", prompt if prompt is not None else DEFAULT_PROMPT if media else "")
    if not isinstance(text, str):
        raise _error(line, "has a prompt that is no text", 'Write "prompt": "…".')
    if not media and not text.strip():
        raise _error(line, "asks nothing", "Give a prompt, images or messages.")
    return Message("user", (*media, Text(text)))


def _video(line: Line, value: object, read: _Read) -> Video:
    """Return a video given as a file, or as the list of its frames."""
    if isinstance(value, str):
        return read_video(user_path(value))
    if isinstance(value, list) and value and all(isinstance(frame, str) for frame in value):
        return video_of_frames([read(frame) for frame in value])
    raise _error(line, "has a video that is neither a path nor a list of frames", 'Write "video": "clip.mp4".')


def _messages(line: Line, fields: Mapping[str, object], read: _Read) -> tuple[Message, ...]:
    given = fields["messages"]
    if not isinstance(given, list) or not given:
        raise _error(line, "has messages that are no list", 'Write "messages": [{"role": "user", "content": "…"}].')
    messages = tuple(_message(line, item, read) for item in given)
    if any(message.role == "system" for message in messages[1:]):
        raise _error(line, "has a system message that is not the first", "Put it first.")
    if messages[-1].role == "system":
        raise _error(line, "asks nothing", "End with a user message.")
    return messages


def _message(line: Line, item: object, read: _Read) -> Message:
    if not isinstance(item, dict) or set(item) != {"role", "content"} or item["role"] not in _ROLES:
        raise _error(line, "has a message without role and content", f"Roles are: {', '.join(_ROLES)}.")
    content = item["content"]
    if isinstance(content, str):
        return Message(item["role"], (Text(content),))
    if not isinstance(content, list) or not content:
        raise _error(line, "has a message whose content is neither text nor a list of parts", "Give it a content.")
    return Message(item["role"], tuple(_part(line, part, read) for part in content))


def _part(line: Line, part: object, read: _Read) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and isinstance(kind, str) and set(part) == {"type", kind}:
        value = part[kind]
        if kind == "video":
            return _video(line, value, read)
        if kind == "text" and isinstance(value, str):
            return Text(value)
        if kind == "image" and isinstance(value, str):
            return read(value)
    raise _error(
        line, "has a part of a message that is no text, image or video", 'Write {"type": "text", "text": "…"}.'
    )


def _skip_line(stream: BinaryIO) -> int:
    """Read on to the end of the line; return how many bytes that were."""
    skipped = 0
    while rest := stream.readline(1024**2):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _error(line: Line, what: str, hint: str) -> InputError:
    return InputError(f"Line {line.number} {what}.", hint)
