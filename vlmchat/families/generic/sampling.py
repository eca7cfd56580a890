"""Which frames of a video file are read: this program's own rule, these architectures share none.

Their own video processors need torchvision and write timestamps or time positions of their own; here frames are
pictures in the place of the video.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlmchat.media.video import Clip

FRAMES = 8
"""Of a video, each with the tokens of a whole picture."""


def middles(clip: Clip) -> Sequence[int]:
    """Return the middle of each of eight equal parts of ``clip``; all frames of a shorter one."""
    count = min(FRAMES, len(clip))
    return [(2 * part + 1) * len(clip) // (2 * count) for part in range(count)]
