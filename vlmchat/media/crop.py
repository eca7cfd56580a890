"""``photo.png[x,y,w,h]``: a part of a picture, named behind the picture.

Four whole numbers are pixels of the upright picture: left, top, width, height. As soon as one of them
has a decimal point, all four are fractions of its width and height, between 0 and 1. A box that reaches
beyond the picture is refused, not cut: a script that counts wrong should hear of it.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError
from vlmchat.media.image import load_rgb

_NUMBER = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
_BOX = re.compile(rf"{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]", re.ASCII)
_HINT = "Write [left,top,width,height], all in pixels or, with a decimal point, all as fractions of the picture."


@dataclass(frozen=True, slots=True)
class Crop:
    """A box as it was written."""

    text: str
    """With its brackets, for names and messages."""
    numbers: tuple[float, float, float, float]
    """Left, top, width, height."""
    is_fraction: bool
    """Whether the numbers are fractions of the picture; else they are whole pixels."""

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) in pixels of a picture of this size.

        Edges given as fractions fall on the nearest pixel; the box keeps at least one.

        Raises:
            ImageError: the box is empty or reaches beyond the picture.
        """
        left, top, across, down = self.numbers
        edges = (left, top, left + across, top + down)
        limits = (1.0, 1.0) if self.is_fraction else (float(width), float(height))
        beyond = max(edges[2] - limits[0], edges[3] - limits[1])
        # Decimal fractions that add up to 1 may miss it by the last bit.
        if min(across, down) <= 0 or beyond > (1e-9 if self.is_fraction else 0):
            raise ImageError(f"The box {self.text} is not inside a picture of {width} x {height} pixels.", _HINT)
        if not self.is_fraction:
            return int(edges[0]), int(edges[1]), int(edges[2]), int(edges[3])
        x, right = _nearest(edges[0], edges[2], width)
        y, bottom = _nearest(edges[1], edges[3], height)
        return x, y, right, bottom


def split_crop(source: str) -> tuple[str, Crop | None]:
    """Return what a source names and the box behind it; None where there is no box."""
    plain, _, box = source.rpartition("[")
    found = _BOX.fullmatch(box) if plain else None
    if found is None:
        return source, None
    words = found.groups()
    left, top, across, down = map(float, words)
    return plain, Crop(f"[{box}", (left, top, across, down), any("." in word for word in words))


def cropped(picture: Picture, crop: Crop) -> Picture:
    """Return the part of ``picture`` in ``crop`` as a PNG of its own, upright, RGB.

    Raises:
        ImageError: the box is not inside the picture.
    """
    part = load_rgb(picture).crop(crop.box(picture.width, picture.height))
    packed = io.BytesIO()
    part.save(packed, "PNG", compress_level=1)
    data = packed.getvalue()
    name = picture.name + crop.text
    return Picture(hashlib.sha256(data).hexdigest(), name, "image/png", part.width, part.height, data)


def _nearest(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(round(low * size), size - 1)
    return first, max(min(round(high * size), size), first + 1)
