"""Messages -> prompt pieces in Ovis2's own form (the project's Ovis2 facts, §7, §8).

The checkpoint's chat template is Qwen2.5's and is not what Ovis2 was trained with. Two steps, as in
the original: first the conversation with one ``<image>`` for each picture, then each picture as its
tiles between indicators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from vlmchat.conversation import Message
from vlmchat.families import turns
from vlmchat.families.ovis2.processing import Grid
from vlmchat.families.pieces import Control, Features, Piece
from vlmchat.families.turns import chatml

SYSTEM = "You are a helpful assistant."
"""System text of a conversation that has none."""
TEMPLATE = chatml(between="\n", image_label="Image {}: ", frame_label="")
END_OF_TEXT = Control("<|endoftext|>")
"""Ends an answer too, beside the template's end of a turn."""
IMAGE = "<image>"
"""How a picture is written in the prompt's text."""
_START, _GRID, _COLUMN, _ROW, _END = INDICATORS = tuple(
    Control(f"<image {what}>") for what in ("start", "grid", "column", "row", "end")
)
"""Structure of a picture; rows of the visual embedding table, in this order from its end."""
FIRST_INDICATOR = -301
PLACEHOLDER_IDS: Mapping[str, int] = MappingProxyType(
    {IMAGE: -300, **{control.token: FIRST_INDICATOR - place for place, control in enumerate(INDICATORS)}}
)
"""The original's ids of what is no word of the language model. They are negative because every id
from 0 on, free rows of the embedding included, is one the model may generate and read back as text."""


def render(messages: Sequence[Message]) -> tuple[Piece, ...]:
    """Lay the conversation out with one feature position for each picture, ready for the answer."""
    return turns.render(messages, TEMPLATE, SYSTEM, lambda picture: (Features(picture, 1),))


def expanded(pieces: Sequence[Piece], grids: Sequence[Grid], tokens_per_tile: int) -> Iterator[Piece]:
    """Write each picture of :func:`render` out as its tiles between indicators.

    Args:
        pieces: the conversation, one ``Features`` for each picture.
        grids: how each picture is cut, in conversation order.
        tokens_per_tile: features of one tile; a picture's are in the order of its tiles.
    """
    for piece in pieces:
        if isinstance(piece, Features):
            yield from _picture(piece.picture, grids[piece.picture], tokens_per_tile)
        else:
            yield piece


def _picture(picture: int, grid: Grid, tokens: int) -> Iterator[Piece]:
    yield _START
    yield Features(picture, tokens)
    yield _GRID
    for cell in range(grid.cells if grid.cells > 1 else 0):
        if cell:
            yield _COLUMN if cell % grid.columns else _ROW
        yield Features(picture, tokens, tokens * (1 + cell))
    yield _END
