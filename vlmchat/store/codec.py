"""Messages and provenance as JSON text, and back. Pictures are named by digest; their bytes are blobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlmchat.conversation import Message, Part, Picture, Role, Text, Video
from vlmchat.errors import StoreError
from vlmchat.store.model import Provenance

_HINT = "`vlmchat doctor` checks the database."


def encode_parts(message: Message) -> str:
    """Return the parts of ``message`` in their order as a JSON list."""
    return _json([_encode(part) for part in message.parts])


def search_text(message: Message) -> str:
    """Return the text of ``message`` for the index: always valid UTF-8."""
    return message.text.encode("utf-8", "replace").decode("utf-8")


def decode_message(role: Role, text: str, blobs: Path) -> Message:
    """Return the message that :func:`encode_parts` wrote; its pictures point into ``blobs``.

    Raises:
        StoreError: the text is not what this program writes.
    """
    try:
        return Message(role, tuple(_decode(item, blobs) for item in json.loads(text)))
    except (ValueError, KeyError, TypeError) as problem:
        raise StoreError(f"A stored message cannot be read: {problem!r}.", _HINT) from problem


def encode_provenance(provenance: Provenance | None) -> str | None:
    """Return ``provenance`` as a JSON object, or None for None."""
    return None if provenance is None else _json(asdict(provenance))


def decode_provenance(text: str | None) -> Provenance | None:
    """Return what :func:`encode_provenance` wrote.

    Raises:
        StoreError: the text is not what this program writes.
    """
    if text is None:
        return None
    try:
        return Provenance(**json.loads(text))
    except (ValueError, TypeError) as problem:
        raise StoreError(f"A stored answer cannot be read: {problem!r}.", _HINT) from problem


def pictures_in(message: Message) -> Iterator[Picture]:
    """Yield every picture of ``message``, frames of videos included."""
    for part in message.parts:
        if isinstance(part, Picture):
            yield part
        elif isinstance(part, Video):
            yield from part.frames


def digests_in(message: Message) -> Iterator[str]:
    """Yield the digest of every blob that ``message`` needs: pictures, frames, kept copies of videos."""
    yield from (picture.digest for picture in pictures_in(message))
    yield from (part.digest for part in message.parts if isinstance(part, Video) and _is_kept(part))


def _is_kept(video: Video) -> bool:
    """Say whether its file is the store's own copy, which has the name of its digest."""
    return video.path is not None and video.path.name == video.digest


def _json(value: object) -> str:
    """Letters stay as they are; half a character (a file name that is no UTF-8) becomes its JSON escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def _encode(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Picture):
        return _encode_picture(part)
    return {
        "type": "video",
        "digest": part.digest,
        "name": part.name,
        "frames": [_encode_picture(frame) for frame in part.frames],
        "path": None if part.path is None else str(part.path),
        "kept": _is_kept(part),
    }


def _encode_picture(picture: Picture) -> dict[str, Any]:
    return {
        "type": "image",
        "digest": picture.digest,
        "name": picture.name,
        "media_type": picture.media_type,
        "width": picture.width,
        "height": picture.height,
    }


def _decode(item: dict[str, Any], blobs: Path) -> Part:
    if item["type"] == "text":
        return Text(item["text"])
    if item["type"] == "image":
        return _decode_picture(item, blobs)
    if item["type"] != "video":
        raise ValueError(f"a part of type {item['type']!r}")
    return Video(
        digest=item["digest"],
        name=item["name"],
        frames=tuple(_decode_picture(frame, blobs) for frame in item["frames"]),
        path=blobs / item["digest"] if item.get("kept") else None if item["path"] is None else Path(item["path"]),
    )


def _decode_picture(item: dict[str, Any], blobs: Path) -> Picture:
    return Picture(
        digest=item["digest"],
        name=item["name"],
        media_type=item["media_type"],
        width=item["width"],
        height=item["height"],
        path=blobs / item["digest"],
    )
