"""What a user may change from answer to answer in one chat, and what an earlier answer was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from vlmchat.errors import VlmchatError
from vlmchat.options import Sampling, VisionOptions
from vlmchat.store.model import Turn


@dataclass(frozen=True, slots=True)
class Choices:
    """How the next answers of one chat are made."""

    sampling: Sampling = field(default_factory=Sampling)
    system: str | None = None
    """System prompt in place of the family's own; None keeps the family's."""
    max_tiles: int | None = None
    """Tiles of one picture, thumbnail apart; None: the checkpoint's own limit."""
    since: str | None = None
    """Id of the turn from which on the model is shown the chat; None: all of it."""


def choices_of(turns: Sequence[Turn]) -> Choices | None:
    """Return what the last answer of ``turns`` was made with, or None when there is no answer.

    A stored value that this version would refuse counts as not chosen.
    """
    made = [turn.provenance.settings for turn in turns if turn.provenance is not None]
    if not made:
        return None
    settings: dict[str, Any] = made[-1]
    names = {it.name for it in fields(Sampling)}
    try:
        sampling = Sampling(**{name: value for name, value in settings.items() if name in names})
        tiles = VisionOptions(max_tiles=settings.get("max_tiles")).max_tiles
    except (TypeError, VlmchatError):
        sampling, tiles = Sampling(), None
    return Choices(sampling, settings.get("system"), tiles, settings.get("since"))
