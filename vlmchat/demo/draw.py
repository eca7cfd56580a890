"""From a scene to pixels, and to the dense labels that teach the vision tower where everything is.

Shapes are drawn oversampled and reduced, or without smoothing, with or without outlines, noise, blur and JPEG, at a
hundred to a few hundred pixels; the tiling of the real image pipeline then squeezes them into 112-px tiles.
"""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vlmchat.demo.glyphs import digit_mask
from vlmchat.demo.unknown import draw_unknown
from vlmchat.demo.world import DIGITS, SHAPES, SYMBOLS, Kind, Scene, Style, Thing

Polygon = NDArray[np.float64]
GRID: Final = 8
"""Patches along one side of a 112-px tile (patch size 14)."""
FINE: Final = 7
"""Mask pixels along one side of a patch: 56 x 56 masks are enough for coverage shares."""
COVERED: Final = 0.12
"""A patch belongs to the thing that covers most of it, from this share on."""


def draw(scene: Scene) -> Image.Image:
    """Draw ``scene`` as an RGB picture of ``scene.size``; the same scene always gives the same pixels."""
    if scene.kind is Kind.UNKNOWN:
        return draw_unknown(scene.size, scene.seed)
    factor = scene.style.oversample
    width, height = scene.size
    image = Image.new("RGB", (width * factor, height * factor), scene.background_rgb)
    for thing in scene.things:
        _draw_thing(image, thing, scene.style)
    if factor > 1:
        image = image.reduce(factor)
    return _weather(image, scene)


def _draw_thing(image: Image.Image, thing: Thing, style: Style) -> None:
    if SYMBOLS[thing.symbol] in DIGITS:
        _draw_digit(image, thing, style)
        return
    pen = ImageDraw.Draw(image)
    points = [(float(x), float(y)) for x, y in outline(thing) * image.size]
    pixels = max(1, round(style.outline_width * min(image.size)))
    if not style.hollow:
        pen.polygon(points, fill=thing.rgb)
    if style.hollow or style.outline is not None:
        colour = thing.rgb if style.hollow or style.outline is None else style.outline
        pen.line([*points, points[0], points[1]], fill=colour, width=pixels, joint="curve")


def _draw_digit(image: Image.Image, thing: Thing, style: Style) -> None:
    width, height = image.size
    mask = digit_mask(SYMBOLS[thing.symbol], style.font, int(thing.variant * 3.99))
    box = (max(2, round(thing.width * width)), max(2, round(thing.height * height)))
    mask = mask.resize(box, Image.Resampling.BILINEAR)
    if abs(thing.angle) > 1.5:
        mask = mask.rotate(thing.angle, Image.Resampling.BILINEAR)
    corner = (round(thing.x * width - box[0] / 2), round(thing.y * height - box[1] / 2))
    image.paste(thing.rgb, (*corner, corner[0] + box[0], corner[1] + box[1]), mask)


def _weather(image: Image.Image, scene: Scene) -> Image.Image:
    """Apply blur, noise and JPEG, the ways in which pictures from elsewhere are worse than ours."""
    style = scene.style
    if style.blur:
        image = image.filter(ImageFilter.GaussianBlur(style.blur))
    if style.noise:
        rng = np.random.default_rng(scene.seed)
        noisy = np.asarray(image, float) + rng.normal(0, style.noise, (image.height, image.width, 3))
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8), "RGB")
    if style.jpeg:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=style.jpeg)
        image = Image.open(packed).convert("RGB")
    return image


def outline(thing: Thing) -> Polygon:
    """Return the corners of a shape as fractions of the picture, array (n, 2) of x, y.

    The unit shape is tilted, then fitted to the box of the thing, so centre and size hold for every tilt.
    """
    points = UNIT[SHAPES[thing.symbol]](thing.variant)
    angle = math.radians(thing.angle)
    turn = np.asarray([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = points @ turn.T
    low, high = points.min(0), points.max(0)
    unit = (points - low) / (high - low) - 0.5
    return np.asarray(unit * (thing.width, thing.height) + (thing.x, thing.y))


def _circle(variant: float) -> Polygon:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _square(variant: float) -> Polygon:
    if variant < 0.85:
        return np.asarray([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    radius, turns = 0.2, np.linspace(0, np.pi / 2, 6)
    corner = np.stack([np.cos(turns), np.sin(turns)], 1) * radius + (1 - radius)
    quarter = np.asarray([[0, -1], [1, 0]])
    parts = [corner]
    for _ in range(3):
        parts.append(parts[-1] @ quarter.T)
    return np.concatenate(parts)


def _triangle(variant: float) -> Polygon:
    apex = 0.0 if variant < 0.7 else (variant - 0.85) * 6
    return np.asarray([(apex, -1), (1, 0.75), (-1, 0.75)], float)


def _star(variant: float) -> Polygon:
    points = 5 if variant < 0.85 else 6 if variant < 0.93 else 4
    inner = 0.36 + 0.16 * ((variant * 7) % 1)
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)


def _heart(variant: float) -> Polygon:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if variant < 0.5:
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([x, -y], 1)
    arc = np.linspace(np.pi, 2 * np.pi + 0.6, 20)  # two discs over a point, as most people build it
    right = np.stack([0.5 + 0.5 * np.cos(arc), -0.3 + 0.5 * np.sin(arc)], 1)
    left = right[::-1] * (-1, 1)
    return np.concatenate([right, [(0.0, 0.95)], left])


def _cross(variant: float) -> Polygon:
    arm = 0.18 + 0.24 * variant
    corners = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1), (-arm, 1)]
    return np.asarray([*corners, (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)], float)


def _diamond(variant: float) -> Polygon:
    return np.asarray([(0, -1), (1, 0), (0, 1), (-1, 0)], float)


UNIT: Final = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "diamond": _diamond,
}


def cells(scene: Scene, side: int) -> NDArray[np.uint8]:
    """Return which thing each of ``side`` x ``side`` cells shows, row by row: 0 nothing, n the n-th thing.

    ``side`` is ``GRID`` for patches and ``GRID // 2`` for the image tokens, which join 2 x 2 patches.
    """
    span = GRID * FINE
    mask = Image.new("L", (span, span), 0)
    pen = ImageDraw.Draw(mask)
    for number, thing in enumerate(scene.things, 1):
        if SYMBOLS[thing.symbol] in DIGITS:
            left, top = (thing.x - thing.width / 2) * span, (thing.y - thing.height / 2) * span
            pen.rectangle((left, top, left + thing.width * span, top + thing.height * span), fill=number)
        else:
            pen.polygon([(float(x), float(y)) for x, y in outline(thing) * span], fill=number)
    fine = span // side
    blocks = np.asarray(mask).reshape(side, fine, side, fine)
    shares = np.stack([(blocks == n).mean((1, 3)) for n in range(1, len(scene.things) + 1)] or [np.zeros((side, side))])
    best = shares.argmax(0) + 1
    covered = COVERED if side == GRID else COVERED / 2
    return np.where(shares.max(0) >= covered, best, 0).astype(np.uint8).reshape(-1)
