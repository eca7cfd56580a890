"""Which frames of a video file Ovis2 reads (the project's Ovis2 facts, §8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmchat.media.video import Clip


MAX_FRAMES = 12
"""Frames of a video in the model card's example."""


def spread(clip: Clip) -> Sequence[int]:
    """Return the frames of ``clip`` that :func:`evenly` chooses."""
    return evenly(len(clip))


def evenly(frames: int) -> Sequence[int]:
    """Return the middle of each of twelve equal parts of a video, rounded down; all frames of a short one."""
    if frames < MAX_FRAMES:
        return range(frames)
    stride = frames / MAX_FRAMES
    return [int((stride * part + stride * (part + 1)) / 2) for part in range(MAX_FRAMES)]
