"""The picture of the README: ``python -m vlmchat.demo.example screenshots/example.png`` draws it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from vlmchat.demo.colours import COLOURS, RGB
from vlmchat.demo.draw import draw
from vlmchat.demo.world import SHAPES, Kind, Scene, Style, Thing


def _thing(shape: str, colour: str, rgb: RGB, x: float, y: float, side: float) -> Thing:
    """A shape of ``side`` pixels, centred at x, y in the 480 x 320 picture."""
    return Thing(SHAPES.index(shape), COLOURS.index(colour), rgb, x / 480, y / 320, side / 480, side / 320)


EXAMPLE: Final = Scene(
    kind=Kind.SHAPES,
    things=(
        _thing("circle", "blue", (52, 120, 219), 110, 105, 130),
        _thing("triangle", "red", (222, 55, 48), 355, 110, 140),
        _thing("star", "yellow", (245, 205, 40), 235, 225, 140),
    ),
    background=COLOURS.index("white"),
    background_rgb=(255, 255, 255),
    size=(480, 320),
    style=Style(oversample=4),
    seed=0,
)
ANSWER: Final = "A blue circle, a red triangle and a yellow star on a white background."
"""What the model says when asked what is in it."""


if __name__ == "__main__":
    draw(EXAMPLE).quantize(64).save(Path(sys.argv[1]), optimize=True)
