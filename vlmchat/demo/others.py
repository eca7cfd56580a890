"""Plain drawings as other people make them: an evaluation style that shares no drawing code with the training pictures.

PIL primitives at four times the size, named CSS colours, 200 to 600 pixels at any aspect ratio, saved as PNG or JPEG.
"""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from vlmchat.demo.colours import COLOURS
from vlmchat.demo.world import SHAPES, Kind, Scene, Style, Thing, canonical

CSS: Final = {
    "red": ("red", "crimson", "#f44336", "#e53935"),
    "orange": ("orange", "darkorange", "#ff9800"),
    "yellow": ("yellow", "gold", "#ffeb3b", "#fdd835"),
    "green": ("green", "limegreen", "forestgreen", "#4caf50", "lime", "seagreen"),
    "blue": ("blue", "royalblue", "dodgerblue", "navy", "#2196f3", "steelblue"),
    "purple": ("purple", "blueviolet", "rebeccapurple", "#9c27b0"),
    "pink": ("pink", "hotpink", "deeppink", "lightpink"),
    "brown": ("saddlebrown", "sienna", "#795548", "brown"),
    "black": ("black", "#111111"),
    "white": ("white",),
    "gray": ("gray", "darkgray", "silver", "dimgray"),
}
SCALE: Final = 4


def _points(
    centre: tuple[float, float], radii: tuple[float, float], count: int, start: float
) -> list[tuple[float, float]]:
    """Corners of a regular polygon, or of a star when the radii differ; degrees clockwise from the right."""
    corners = []
    for place in range(count):
        angle = math.radians(start + 360 * place / count)
        radius = radii[place % 2]
        corners.append((centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)))
    return corners


def _paint(
    pen: ImageDraw.ImageDraw,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    fill: str,
    line: str | None,
    width: int,
) -> None:
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=fill, outline=line, width=width)
    elif shape == "square":
        pen.rectangle(box, fill=fill, outline=line, width=width)
    elif shape == "heart":
        lobe = radius * 0.56
        for side in (-1, 1):
            cx = x + side * radius * 0.44
            pen.ellipse((cx - lobe, y - radius * 0.9, cx + lobe, y - radius * 0.9 + 2 * lobe), fill=fill)
        pen.polygon(
            [(x - radius * 0.93, y - radius * 0.1), (x + radius * 0.93, y - radius * 0.1), (x, y + radius)], fill=fill
        )
    elif shape == "cross":
        arm = radius * 0.3
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
    else:
        count, start, inner = {"triangle": (3, -90, 1.0), "star": (10, -90, 0.42), "diamond": (4, -90, 1.0)}[shape]
        pen.polygon(_points(centre, (radius, radius * inner), count, start), fill=fill, outline=line, width=width)


def draw_like_others(seed: int, index: int) -> tuple[Scene, Image.Image]:
    """Draw one or two shapes; return what is there and the picture."""
    rng = np.random.default_rng((seed, index))
    width, height = (int(value) for value in rng.integers(200, 601, 2))
    ground = str(rng.choice(["white", "white", "white", "black", *COLOURS]))
    ground_css = str(rng.choice(CSS[ground]))
    image = Image.new("RGB", (width * SCALE, height * SCALE), ground_css)
    pen = ImageDraw.Draw(image)
    count = int(rng.integers(1, 3))
    names = rng.choice([name for name in COLOURS if name != ground], count, replace=False)
    line = str(rng.choice(["black", "white", "dimgray"])) if rng.random() < 0.3 else None
    long_side, short = max(width, height), min(width, height)
    things = []
    for place in range(count):
        shape = str(rng.choice(SHAPES))
        room = min(short / 2, long_side / (2 * count)) * 0.94
        radius = (
            float(rng.uniform(min(0.35, 0.1 * long_side / room), 0.95) * room)
            if count == 1
            else float(rng.uniform(0.5, 0.9) * room)
        )
        lane = (place + 0.5) / count * long_side if count > 1 else float(rng.uniform(radius, long_side - radius))
        across = float(rng.uniform(radius, short - radius))
        centre = (lane, across) if width >= height else (across, lane)
        css = str(rng.choice(CSS[str(names[place])]))
        pen_width = max(1, round(radius * 0.05)) * SCALE
        _paint(pen, shape, (centre[0] * SCALE, centre[1] * SCALE), radius * SCALE, css, line, pen_width)
        rgb = ImageColor.getrgb(css)
        things.append(
            Thing(
                SHAPES.index(shape),
                COLOURS.index(str(names[place])),
                (rgb[0], rgb[1], rgb[2]),
                centre[0] / width,
                centre[1] / height,
                2 * radius / width,
                2 * radius / height,
            )
        )
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        packed = io.BytesIO()
        small.save(packed, "JPEG", quality=int(rng.integers(50, 95)))
        small = Image.open(packed).convert("RGB")
    base = ImageColor.getrgb(ground_css)
    scene = Scene(
        Kind.SHAPES,
        canonical(things),
        COLOURS.index(ground),
        (base[0], base[1], base[2]),
        (width, height),
        Style(),
        seed,
    )
    return scene, small
