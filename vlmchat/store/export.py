"""A saved chat as Markdown or as one JSON object, the branch in use only."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from vlmchat.conversation import Part, Picture, Text
from vlmchat.store.model import Chat, Provenance, Turn

_SPEAKERS = {"user": "You", "assistant": "Model", "system": "System"}


def as_markdown(chat: Chat) -> str:
    """Return the chat to read: a heading, then each turn under its speaker, pictures as links to their files."""
    summary = chat.summary
    lines = [f"# {summary.title or 'Chat'}", "", f"{summary.model}, {moment(summary.created)}, chat {summary.id}"]
    for turn in chat.branch():
        lines += ["", f"## {_speaker(turn)}"]
        for part in turn.message.parts:
            lines += ["", _markdown(part)]
        if turn.status != "complete":
            lines += ["", f"*({turn.status})*"]
    return "\n".join(lines) + "\n"


def as_object(chat: Chat) -> dict[str, Any]:
    """Return the chat as values JSON has, with what made each answer."""
    summary = chat.summary
    return {
        "id": summary.id,
        "title": summary.title,
        "model": summary.model,
        "created": moment(summary.created),
        "updated": moment(summary.updated),
        "turns": [_turn(turn) for turn in chat.branch()],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "id": turn.id,
        "role": turn.message.role,
        "content": [_object(part) for part in turn.message.parts],
        "status": turn.status,
        "created": moment(turn.created),
        "made_by": None if turn.provenance is None else asdict(turn.provenance),
    }


def _object(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Picture):
        return {"type": "image", "image": str(part.path), "name": part.name, "sha256": part.digest}
    return {"type": "video", "video": [str(frame.path) for frame in part.frames], "name": part.name}


def _markdown(part: Part) -> str:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Picture):
        return f"![{_escaped(part.name)}](<{part.path}>)"
    return f"*(video: {_escaped(part.name)})*"


def _escaped(name: str) -> str:
    return "".join("\\" + char if char in "\\[]*_`" else char for char in name)


def _speaker(turn: Turn) -> str:
    made_by: Provenance | None = turn.provenance
    return made_by.model if made_by is not None and made_by.model else _SPEAKERS[turn.message.role]


def moment(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC: ``2025-03-01T09:30:00+00:00``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
