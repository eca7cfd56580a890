"""What there is in the demo world: scenes of up to four shapes, or a number, or nothing, or something unknown.

A :class:`Scene` is a frozen description drawn from a seed; :mod:`vlmchat.demo.draw` turns it into pixels and
:mod:`vlmchat.demo.dialogue` into questions and true answers. Coordinates are fractions of the picture, x to the right
and y down, so they stay true when the picture is squashed into a square tile.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np

from vlmchat.demo.colours import COLOURS, RGB, distance, sample_rgb
from vlmchat.demo.glyphs import FONTS

SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "cross", "diamond")
"""Shapes that keep their name when stretched; ellipses are circles here, rectangles squares."""
DIGITS: Final = tuple("0123456789")
SYMBOLS: Final = (*SHAPES, *DIGITS)
"""Everything that can stand in a picture; an index named ``symbol`` points here."""
MAX_COUNTED: Final = 4
COLUMNS: Final = ("left", "", "right")
ROWS: Final = ("top", "", "bottom")
# A centre below .37 is left (top), above .63 right (bottom), .44 to .56 neither; between them people would not agree.
EDGE: Final = 0.37
CORE: Final = 0.44


class Kind(Enum):
    """What sort of picture a scene is."""

    SHAPES = 0
    NUMBER = 1
    EMPTY = 2
    MANY = 3
    UNKNOWN = 4


@dataclass(frozen=True)
class Thing:
    """One shape or digit: indices, centre and full size as fractions of the picture, tilt in degrees."""

    symbol: int
    colour: int
    rgb: RGB
    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    variant: float = 0.0

    @property
    def area(self) -> float:
        """Bounding-box area as a share of the picture."""
        return self.width * self.height

    @property
    def column(self) -> int | None:
        """0 left, 1 middle, 2 right, None where people would not agree."""
        return _third(self.x)

    @property
    def row(self) -> int | None:
        """0 top, 1 middle, 2 bottom, None where people would not agree."""
        return _third(self.y)


@dataclass(frozen=True)
class Style:
    """How a scene is drawn: outline, smoothing, noise (0..255), JPEG quality (0 = none), font of a number."""

    outline: RGB | None = None
    outline_width: float = 0.02
    hollow: bool = False
    oversample: int = 2
    noise: float = 0.0
    blur: float = 0.0
    jpeg: int = 0
    font: int = 0


@dataclass(frozen=True)
class Scene:
    """One picture: its things in canonical order (by symbol, colour, x), background, size in pixels and style.

    ``background`` is a colour index, or None for a tint without an agreed name, which is never asked about.
    """

    kind: Kind
    things: tuple[Thing, ...]
    background: int | None
    background_rgb: RGB
    size: tuple[int, int]
    style: Style
    seed: int

    @property
    def number(self) -> str:
        """The digits of a number picture, read from left to right; empty for other pictures."""
        if self.kind is not Kind.NUMBER:
            return ""
        return "".join(SYMBOLS[thing.symbol] for thing in self.things)


def _third(value: float) -> int | None:
    if value < EDGE:
        return 0
    if value > 1 - EDGE:
        return 2
    return 1 if CORE <= value <= 1 - CORE else None


# Shares of the kinds of pictures: (kind, number of things, weight).
MIX: Final = (
    (Kind.SHAPES, 1, 0.21), (Kind.SHAPES, 2, 0.28), (Kind.SHAPES, 3, 0.14), (Kind.SHAPES, 4, 0.1),
    (Kind.NUMBER, 0, 0.16), (Kind.EMPTY, 0, 0.03), (Kind.MANY, 0, 0.03), (Kind.UNKNOWN, 0, 0.05),
)  # fmt: skip


def sample_scene(seed: int, index: int, aspect: tuple[float, float] = (0.72, 1.4)) -> Scene:
    """Draw scene ``index`` of the stream ``seed``; width/height lies in ``aspect`` (log-uniform)."""
    rng = np.random.default_rng((seed, index))
    weights = np.asarray([share for *_, share in MIX])
    kind, count, _ = MIX[rng.choice(len(MIX), p=weights / weights.sum())]
    ratio = float(np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1]))))
    if rng.random() < 0.3 and aspect[0] < 1 < aspect[1]:
        ratio = 1.0
    short = int(rng.integers(100, 240))
    size = (round(short * max(ratio, 1)), round(short * max(1 / ratio, 1)))
    background, background_rgb = _background(rng)
    style = _style(rng, background_rgb)
    scene = Scene(kind, (), background, background_rgb, size, style, int(rng.integers(2**31)))
    if kind is Kind.NUMBER:
        return replace(scene, things=_number(rng, scene), style=replace(style, hollow=False, outline=None))
    if kind is Kind.MANY:
        count = int(rng.integers(5, 9))
    things = _things(rng, scene, count) if count else ()
    if kind in (Kind.MANY, Kind.SHAPES) and len(things) <= MAX_COUNTED:  # not all of them found room
        kind = Kind.SHAPES if things else Kind.EMPTY
    return replace(scene, kind=kind, things=canonical(things))


def canonical(things: Sequence[Thing]) -> tuple[Thing, ...]:
    """Order things by shape, then colour, then x: the order in which answers list them.

    Semantic rather than spatial, so that two things at the same x have one right order.
    """
    return tuple(sorted(things, key=lambda thing: (thing.symbol, thing.colour, thing.x)))


def _background(rng: np.random.Generator) -> tuple[int | None, RGB]:
    draw = rng.random()
    if draw < 0.45:
        rgb = (255, 255, 255) if rng.random() < 0.7 else sample_rgb("white", rng)
        return COLOURS.index("white"), rgb
    if draw < 0.53:
        return COLOURS.index("black"), sample_rgb("black", rng)
    if draw < 0.86:
        colour = int(rng.integers(len(COLOURS)))
        return colour, sample_rgb(COLOURS[colour], rng)
    if draw < 0.95:  # cream, pastel: tints without an agreed name
        red, green, blue = (int(value) for value in rng.integers(205, 250, 3))
        return None, (red, green, blue)
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return None, (red, green, blue)


def _style(rng: np.random.Generator, background: RGB) -> Style:
    outline: RGB | None = None
    hollow = bool(rng.random() < 0.05)
    if not hollow and rng.random() < 0.3:
        dark = rng.random() < 0.75
        outline = (0, 0, 0) if dark else sample_rgb(COLOURS[rng.integers(len(COLOURS))], rng)
        if distance(outline, background) < 0.2:
            outline = None
    return Style(
        outline=outline,
        outline_width=float(rng.uniform(0.03, 0.07) if hollow else rng.uniform(0.006, 0.03)),
        hollow=hollow,
        oversample=1 if rng.random() < 0.3 else 2,
        noise=float(rng.uniform(2, 12)) if rng.random() < 0.12 else 0.0,
        blur=float(rng.uniform(0.4, 1.5)) if rng.random() < 0.1 else 0.0,
        jpeg=int(rng.integers(25, 95)) if rng.random() < 0.25 else 0,
        font=int(rng.integers(FONTS)),
    )


def _colour(rng: np.random.Generator, scene: Scene, used: Sequence[int]) -> tuple[int, RGB]:
    """Choose a colour that is seen on the background; three times in four one that is not in use yet."""
    while True:
        colour = int(rng.integers(len(COLOURS)))
        if colour == scene.background and not (scene.style.outline and rng.random() < 0.2):
            continue
        if colour in used and rng.random() < 0.75:
            continue
        rgb = sample_rgb(COLOURS[colour], rng)
        floor = 0.22 if scene.style.outline is None else 0.0
        if distance(rgb, scene.background_rgb) >= floor:
            return colour, rgb


def _things(rng: np.random.Generator, scene: Scene, count: int) -> tuple[Thing, ...]:
    """Place ``count`` shapes without overlap; shrinks them until they fit."""
    repeat = rng.random() < 0.22
    first = int(rng.integers(len(SHAPES)))
    largest = {1: 0.47, 2: 0.3, 3: 0.25, 4: 0.22}.get(count, 0.14)
    smallest = 0.1 if count <= 2 else 0.085
    spots = _spots(rng, count)
    things: list[Thing] = []
    for attempt in range(400):
        if len(things) == count:
            break
        half = rng.uniform(smallest, max(smallest + 0.02, largest * 0.994**attempt))
        spot = spots[len(things)] if spots is not None and attempt < 60 else None
        symbol = first if repeat and rng.random() < 0.8 else int(rng.integers(len(SHAPES)))
        thing = _thing(rng, scene, symbol, half, spot)
        if thing is not None and not any(_overlap(thing, other) for other in things):
            colour, rgb = _colour(rng, scene, [other.colour for other in things])
            things.append(replace(thing, colour=colour, rgb=rgb))
    return tuple(things)


def _spots(rng: np.random.Generator, count: int) -> list[tuple[float, float]] | None:
    """Return tidy places as people lay drawings out (centre, row, column, grid), or None for anywhere."""
    if rng.random() < 0.55:
        return None
    if count == 1:
        return [(0.5, 0.5)]
    line = [(position + 1) / (count + 1) if count > 2 else 0.27 + 0.46 * position for position in range(count)]
    if count == 4 and rng.random() < 0.6:
        spots = [(x, y) for y in (0.27, 0.73) for x in (0.27, 0.73)]
    elif rng.random() < 0.7:
        spots = [(x, 0.5) for x in line]
    else:
        spots = [(0.5, y) for y in line]
    order = rng.permutation(len(spots))
    return [spots[place] for place in order] if count <= MAX_COUNTED else None


def _thing(
    rng: np.random.Generator, scene: Scene, symbol: int, half: float, spot: tuple[float, float] | None
) -> Thing | None:
    """Size and place one shape; None when it would leave the picture or get too thin to be seen in a tile."""
    width_px, height_px = scene.size
    short = min(scene.size)
    stretch = float(np.exp(rng.normal(0, 0.28))) if rng.random() < 0.5 else 1.0
    stretch = min(max(stretch, 0.55), 1.8)
    half_x = half * short / width_px * min(stretch, 1.0)
    half_y = half * short / height_px / max(stretch, 1.0)
    if min(half_x, half_y) < 0.068 or max(half_x, half_y) > 0.49:
        return None
    if spot is None:
        x, y = _centre(rng, half_x), _centre(rng, half_y)
    else:
        x, y = spot[0] + rng.normal(0, 0.02), spot[1] + rng.normal(0, 0.02)
    if not (half_x < x < 1 - half_x and half_y < y < 1 - half_y):
        return None
    angle, variant = tilt(rng, SHAPES[symbol]), float(rng.random())
    return Thing(symbol, 0, (0, 0, 0), float(x), float(y), 2 * half_x, 2 * half_y, angle, variant)


def _centre(rng: np.random.Generator, half: float) -> float:
    """Draw a centre that is clearly left, right or in the middle, for something twice ``half`` wide."""
    while True:
        centre = float(rng.uniform(half + 0.01, 0.99 - half))
        if _third(centre) is not None:
            return centre


def tilt(rng: np.random.Generator, shape: str) -> float:
    """Draw a tilt in degrees that does not change what people call the shape (a square on its corner is a diamond)."""
    if shape == "triangle":
        draw = rng.random()
        return 0.0 if draw < 0.5 else float(rng.choice([90, 180, 270]) if draw < 0.7 else rng.uniform(0, 360))
    if rng.random() < 0.6:
        return 0.0
    if shape == "cross" and rng.random() < 0.25:
        return 45.0
    spread = {"star": 36.0, "heart": 14.0, "square": 9.0, "cross": 9.0, "diamond": 5.0}.get(shape, 0.0)
    return float(rng.uniform(-spread, spread))


def _overlap(one: Thing, two: Thing) -> bool:
    gap = 0.02
    return (
        abs(one.x - two.x) < (one.width + two.width) / 2 + gap
        and abs(one.y - two.y) < (one.height + two.height) / 2 + gap
    )


def _number(rng: np.random.Generator, scene: Scene) -> tuple[Thing, ...]:
    """Lay out one to three digits side by side: in a 112-px tile 40 px high, and 19 px apart, three of them 28 px.

    Image tokens are 28 px wide: a middle digit narrower than that can be without a token of its own, and of three
    digits the model then read 13 %.
    """
    length = int(rng.integers(1, 4))
    digits = [str(rng.integers(10)) for _ in range(length)]
    if length > 1 and digits[0] == "0":
        digits[0] = str(rng.integers(1, 10))
    width_px, height_px = scene.size
    for attempt in itertools.count(1):
        height = rng.uniform(0.36, 0.85)
        advance = height * height_px / width_px * rng.uniform(0.5, 0.85)
        if length * advance <= 0.96 and advance >= (0.17 if length < 3 else 0.25):
            break
        if attempt % 100 == 0:  # a narrow picture has no room for three digits of readable height
            length = max(1, length - 1)
    digits = digits[:length]
    left = rng.uniform(0.02, 0.98 - length * advance) if rng.random() < 0.5 else (1 - length * advance) / 2
    y = rng.uniform(height / 2 + 0.01, 0.99 - height / 2) if rng.random() < 0.5 else 0.5
    colour, rgb = _colour(rng, scene, ())
    variant, angle = float(rng.random()), float(rng.normal(0, 3))
    return tuple(
        Thing(SYMBOLS.index(digit), colour, rgb, left + (place + 0.5) * advance, y, advance, height, angle, variant)
        for place, digit in enumerate(digits)
    )
