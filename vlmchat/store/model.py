"""What the store keeps, as frozen values: chats, turns, and what made each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlmchat.conversation import Message

TurnStatus: TypeAlias = Literal["complete", "length", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made an answer: enough to say why two answers differ."""

    model: str
    """The reference as the user knows it: ``demo``, ``internvl2:1b``, a folder."""
    revision: str
    """Commit of a hub checkpoint, fingerprint of a local folder."""
    quantization: str
    device: str
    dtype: str
    settings: dict[str, object]
    """Sampling and vision options by their long names with underscores."""
    prompt_tokens: int = 0
    image_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float = 0.0
    total_s: float = 0.0
    decode_tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One message in the tree of a chat."""

    id: str
    chat_id: str
    parent: str | None
    """The turn it follows; several turns with one parent are branches."""
    message: Message
    """Its pictures carry ``path`` into the blob folder, not bytes."""
    status: TurnStatus
    created: float
    """Seconds since the epoch."""
    provenance: Provenance | None = None
    """Of an answer; None for the user's turns."""


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A row of the chat list: everything it shows, and no message."""

    id: str
    title: str
    model: str
    created: float
    updated: float
    turns: int
    archived: bool = False
    snippet: str = ""
    """The hit of a search, with matches between ``\\x02`` and ``\\x03``; empty without a search."""


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat with all its turns; ``head`` names the last turn of the branch in use."""

    summary: ChatSummary
    turns: tuple[Turn, ...]
    head: str | None

    def branch(self) -> tuple[Turn, ...]:
        """Return the turns from the first one to ``head``, oldest first."""
        by_id = {turn.id: turn for turn in self.turns}
        path: list[Turn] = []
        at = self.head
        while at is not None:
            turn = by_id[at]
            path.append(turn)
            at = turn.parent
        return tuple(reversed(path))
