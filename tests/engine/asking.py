"""Requests for a batch and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Failed, Finished, RowEvent
from vlmchat.errors import VlmchatError
from vlmchat.options import Sampling, VisionOptions


def asked(*texts: str, tokens: int = 12, **sampling: object) -> list[Request]:
    """Return a request for each text."""
    options = Sampling(max_new_tokens=tokens, **sampling)  # type: ignore[arg-type]
    return [Request((user(text),), options, VisionOptions(max_tiles=4)) for text in texts]


def ends(found: Sequence[RowEvent]) -> dict[int, Finished]:
    """Return the ends of the answers by number."""
    return {number: event for number, event in found if isinstance(event, Finished)}


def failures(found: Sequence[RowEvent]) -> dict[int, VlmchatError]:
    """Return the errors by number."""
    return {number: event.problem for number, event in found if isinstance(event, Failed)}
