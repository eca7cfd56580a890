"""Which frames of a video file CogVLM2-Video reads (facts §7)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmchat.options import Template

if TYPE_CHECKING:
    from vlmchat.media.video import Choice, Clip

MAX_FRAMES = 24
"""Frames the model was trained on."""
BASE_SECONDS = 60
"""How much of a longer video the ``base`` rule looks at."""


def rule_of(template: Template) -> Choice:
    """Return the rule that goes with a prompt form: the index in a ``chat`` prompt is the second."""
    return spread if template == "base" else seconds


def seconds(clip: Clip) -> Sequence[int]:
    """Return one frame per second from the start, each the nearest to its second, 24 at most."""
    return nearest(clip.seconds)


def nearest(timestamps: Sequence[float]) -> Sequence[int]:
    """Return for each second from 0 to the rounded last timestamp the nearest frame, 24 at most.

    Args:
        timestamps: seconds, in order. Of two frames equally near the first is taken.
    """
    count = min(round(timestamps[-1]) + 1, MAX_FRAMES)
    return [_nearest(timestamps, second) for second in range(count)]


def _nearest(timestamps: Sequence[float], second: int) -> int:
    after = bisect_left(timestamps, second)
    near = range(max(after - 1, 0), min(after + 1, len(timestamps)))
    closest = min(abs(timestamps[place] - second) for place in near)
    tick = next(timestamps[place] for place in near if abs(timestamps[place] - second) == closest)
    return bisect_left(timestamps, tick)


def spread(clip: Clip) -> Sequence[int]:
    """Return 24 frames spread evenly over the first minute; those of a short clip come several times."""
    return evenly(len(clip), clip.fps)


def evenly(frames: int, fps: float) -> Sequence[int]:
    """Return 24 indices from 0 to the last frame of the first minute, rounded down.

    Args:
        frames: of the whole video.
        fps: on average; 0 where the container does not say, then the whole video counts.
    """
    last = min(frames, int(BASE_SECONDS * fps) or frames) - 1
    # As numpy.linspace computes it (step times place, the end exact), so that rounding down agrees.
    step = last / (MAX_FRAMES - 1)
    return [*(int(place * step) for place in range(MAX_FRAMES - 1)), last]
