"""What to do when a conversation no longer fits the model's context, with the numbers of each way out.

Nothing is ever left out unasked: :func:`require_room` refuses before anything is written, and
:func:`remedies` lists what would fit, measured and not estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from vlmchat.chat.choices import Choices
from vlmchat.chat.session import BEGINNING, Session
from vlmchat.conversation import Part
from vlmchat.engine.api import PromptSize
from vlmchat.errors import ContextOverflow

ROOM_TOKENS = 64
"""Tokens an answer has to have room for: a shorter one would be cut in its first sentences."""
_TILE_LIMITS = (12, 9, 6, 4, 2, 1)
"""Limits that are tried, from the finest picture to the coarsest."""
Kind: TypeAlias = Literal["tiles", "turns", "fresh"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way to make a question fit."""

    kind: Kind
    """Coarser pictures, without the oldest turns, or as the first question of a new chat."""
    amount: int
    """Tiles of one picture, turns left out; 0 for a new chat."""
    size: PromptSize
    """What the prompt takes then."""
    choices: Choices
    """What the chat goes on with then."""
    pictures: int = 0
    """Pictures in the turns left out."""


def fits(size: PromptSize, choices: Choices) -> bool:
    """Say whether a prompt of ``size`` leaves room for an answer."""
    return size.prompt_tokens + min(ROOM_TOKENS, choices.sampling.max_new_tokens) <= size.context_tokens


def require_room(session: Session, parts: Sequence[Part], after: str | None = None) -> None:
    """Refuse a question that leaves no room for its answer, before anything is written.

    Raises:
        ContextOverflow: with the numbers.
        InputError: as :meth:`vlmchat.engine.api.Engine.measure`.
    """
    size = session.measure(parts, after=after)
    if not fits(size, session.choices):
        raise ContextOverflow(
            f"The conversation takes {size.prompt_tokens:,} tokens, {size.image_tokens:,} of them pictures; "
            f"this model reads {size.context_tokens:,}, and an answer needs {ROOM_TOKENS}.",
            "Use coarser pictures, leave out the oldest turns, or begin a new chat.",
        )


def remedies(session: Session, parts: Sequence[Part], after: str | None = None) -> tuple[Remedy, ...]:
    """Return every way that makes ``parts`` fit after turn ``after`` (as in :meth:`Session.measure`)."""
    ways = (_coarser, _shorter, _fresh)
    return tuple(found for way in ways if (found := way(session, parts, after)) is not None)


def _coarser(session: Session, parts: Sequence[Part], after: str | None) -> Remedy | None:
    """The finest limit of tiles that fits."""
    now = session.measure(parts, after=after)
    for limit in _TILE_LIMITS:
        choices = replace(session.choices, max_tiles=limit)
        size = session.measure(parts, choices, after)
        if size.image_tokens < now.image_tokens and fits(size, choices):
            return Remedy("tiles", limit, size, choices)
    return None


def _shorter(session: Session, parts: Sequence[Part], after: str | None) -> Remedy | None:
    """The fewest of the oldest turns whose absence is enough."""
    turns = session.turns
    ids = [turn.id for turn in turns]
    if after == BEGINNING:
        return None
    end = len(turns) if after is None else ids.index(after) + 1
    starts = [at for at, turn in enumerate(turns[:end]) if turn.message.role == "user" and at]

    def tried(at: int) -> tuple[PromptSize, Choices]:
        choices = replace(session.choices, since=ids[at])
        return session.measure(parts, choices, after), choices

    at = _first(starts, lambda start: fits(*tried(start)))
    if at is None:
        return None
    return Remedy("turns", at, *tried(at), pictures=sum(len(turn.message.pictures) for turn in turns[:at]))


def _fresh(session: Session, parts: Sequence[Part], after: str | None) -> Remedy | None:
    """The question alone, where there is anything before it."""
    choices = replace(session.choices, since=None)
    if not parts or after == BEGINNING or not session.turns:
        return None
    size = session.measure(parts, choices, BEGINNING)
    return Remedy("fresh", 0, size, choices) if fits(size, choices) else None


def _first(starts: Sequence[int], good: Callable[[int], bool]) -> int | None:
    """Return the first of ``starts`` that is ``good``, where all after a good one are: by halves."""
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if good(starts[middle]) else (middle + 1, high)
    return starts[low] if low < len(starts) else None
