"""Digits to draw: the font that comes with Pillow, and a small stroke font, so that no system font is needed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

CELL: Final = (60, 100)
"""Width and height in pixels of a rendered digit; drawing squeezes it into the box of a thing."""
FONTS: Final = 4
"""Fonts 0-1: Pillow's own, regular and bold; 2-3: strokes, thin and thick."""

Point = tuple[float, float]


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Sample an elliptic arc, degrees clockwise from three o'clock, in unit-box coordinates."""
    steps = 24
    angles = (math.radians(start + (end - start) * step / steps) for step in range(steps + 1))
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


STROKES: Final[dict[str, list[list[Point]]]] = {
    "0": [_arc(0.5, 0.5, 0.46, 0.5, 0, 360)],
    "1": [[(0.2, 0.22), (0.55, 0.0), (0.55, 1.0)]],
    "2": [[*_arc(0.48, 0.29, 0.44, 0.29, 190, 390), (0.03, 1.0), (0.97, 1.0)]],
    "3": [_arc(0.45, 0.25, 0.42, 0.25, 200, 450), _arc(0.45, 0.74, 0.48, 0.26, 270, 515)],
    "4": [[(0.72, 1.0), (0.72, 0.0), (0.02, 0.68), (0.98, 0.68)]],
    "5": [[(0.9, 0.0), (0.18, 0.0), (0.12, 0.45), *_arc(0.46, 0.68, 0.46, 0.32, 225, 500)]],
    "6": [_arc(0.5, 0.69, 0.45, 0.31, 0, 360), [(0.06, 0.66), (0.16, 0.3), (0.4, 0.06), (0.8, 0.0)]],
    "7": [[(0.03, 0.0), (0.97, 0.0), (0.36, 1.0)]],
    "8": [_arc(0.5, 0.25, 0.39, 0.25, 0, 360), _arc(0.5, 0.74, 0.46, 0.26, 0, 360)],
    "9": [_arc(0.5, 0.31, 0.45, 0.31, 0, 360), [(0.94, 0.34), (0.84, 0.7), (0.6, 0.94), (0.2, 1.0)]],
}


@lru_cache(maxsize=256)
def digit_mask(digit: str, font: int, weight: int) -> Image.Image:
    """Return an 8-bit coverage mask of ``CELL`` pixels for ``digit``; ``weight`` 0 (light) to 3 (heavy)."""
    return _typeset(digit, font, weight) if font < 2 else _stroke(digit, font, weight)


def _typeset(digit: str, font: int, weight: int) -> Image.Image:
    face = ImageFont.load_default(128)
    left, top, right, bottom = face.getbbox("0")
    mask = Image.new("L", (int(right - left) + 24, int(bottom - top) + 12), 0)
    stroke = weight if font == 0 else 4 + weight
    ImageDraw.Draw(mask).text((12 - left, 6 - top), digit, fill=255, font=face, stroke_width=stroke)
    return mask.resize(CELL, Image.Resampling.BILINEAR)


def _stroke(digit: str, font: int, weight: int) -> Image.Image:
    width, height = CELL
    scale = 2
    mask = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(mask)
    thickness = scale * ((7, 14)[font - 2] + 2 * weight)
    margin = thickness / 2 + 4 * scale
    for line in STROKES[digit]:
        points = [
            (margin + x * (width * scale - 2 * margin), margin + y * (height * scale - 2 * margin)) for x, y in line
        ]
        pen.line(points, fill=255, width=thickness, joint="curve")
        for x, y in (points[0], points[-1]):
            radius = thickness / 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return mask.resize(CELL, Image.Resampling.BOX)
