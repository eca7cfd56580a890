"""Which frames of a video file InternVL2 reads (facts §6): the middles of equal stretches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmchat.media.video import Clip


FRAMES = 8
"""Of a video, whatever its length (the model card's example)."""


def choose_frames(clip: Clip) -> Sequence[int]:
    """Return the indices of the frames to read; those of a very short clip come several times."""
    return frame_indices(0, len(clip) - 1, FRAMES)


def frame_indices(first: int, last: int, count: int) -> Sequence[int]:
    """Return ``count`` frames from ``first`` to ``last``, one near the middle of each stretch.

    Halves are rounded to even, as numpy does; the sum is rounded down.
    """
    stretch = (last - first) / count
    return [int(first + stretch / 2 + round(stretch * place)) for place in range(count)]
