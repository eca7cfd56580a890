"""The colour names of the demo world, and which RGB values people would call by each of them."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final

import numpy as np

RGB = tuple[int, int, int]
Box = tuple[float, float, float, float, float, float]

COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
"""The eleven basic colour terms; every index named ``colour`` in this package points here."""

# Hue in degrees (may pass 360), saturation and value in 0..1. The gaps between the boxes are deliberate: cyan, teal,
# magenta, olive, coral and the like have no name that everybody would agree on, so they are never drawn or asked.
BOXES: Final[Mapping[str, tuple[Box, ...]]] = {
    "red": ((350, 367, 0.78, 1, 0.74, 1), (352, 366, 0.92, 1, 0.54, 0.74), (346, 350, 0.9, 1, 0.78, 1)),
    "orange": ((22, 39, 0.8, 1, 0.88, 1), (24, 37, 0.65, 0.8, 0.92, 1)),
    "yellow": ((48, 63, 0.55, 1, 0.88, 1), (54, 62, 0.4, 0.55, 0.95, 1)),
    "green": ((92, 155, 0.48, 1, 0.36, 1), (82, 92, 0.55, 1, 0.6, 0.9), (105, 145, 0.36, 0.5, 0.8, 1)),
    "blue": ((205, 242, 0.55, 1, 0.45, 1), (195, 205, 0.6, 1, 0.85, 1), (195, 222, 0.25, 0.55, 0.88, 1)),
    "purple": ((264, 294, 0.5, 1, 0.45, 0.85), (266, 284, 0.5, 1, 0.8, 1), (294, 302, 0.75, 1, 0.42, 0.62)),
    "pink": ((324, 344, 0.28, 0.66, 0.92, 1), (324, 341, 0.66, 0.93, 0.9, 1), (344, 353, 0.2, 0.36, 0.95, 1)),
    "brown": ((16, 32, 0.5, 1, 0.3, 0.6), (12, 26, 0.36, 0.5, 0.3, 0.5), (19, 30, 0.68, 0.9, 0.58, 0.64)),
    "black": ((0, 360, 0, 0.3, 0, 0.12),),
    "white": ((0, 360, 0, 0.03, 0.95, 1),),
    "gray": ((0, 360, 0, 0.06, 0.4, 0.83),),
}

# What drawings by others really use: pure values, CSS names, the material and flat-UI palettes.
ANCHORS: Final[Mapping[str, tuple[RGB, ...]]] = {
    "red": ((255, 0, 0), (244, 67, 54), (220, 20, 60), (211, 47, 47), (231, 76, 60), (178, 34, 34), (200, 30, 30)),
    "orange": ((255, 165, 0), (255, 140, 0), (255, 152, 0), (245, 124, 0), (230, 126, 34), (255, 127, 0)),
    "yellow": ((255, 255, 0), (255, 235, 59), (241, 196, 15), (255, 215, 0), (253, 216, 53), (240, 220, 40)),
    "green": ((0, 128, 0), (0, 255, 0), (76, 175, 80), (46, 204, 113), (34, 139, 34), (39, 174, 96), (139, 195, 74),
              (50, 205, 50), (144, 238, 144), (0, 100, 0), (0, 160, 70)),
    "blue": ((0, 0, 255), (33, 150, 243), (52, 152, 219), (30, 144, 255), (65, 105, 225), (0, 0, 128), (63, 81, 181),
             (135, 206, 235), (70, 130, 180), (0, 191, 255), (173, 216, 230), (40, 80, 220)),
    "purple": ((128, 0, 128), (156, 39, 176), (155, 89, 182), (103, 58, 183), (138, 43, 226), (75, 0, 130),
               (142, 68, 173), (102, 51, 153), (148, 0, 211)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 20, 147), (233, 30, 99), (255, 182, 193), (240, 98, 146)),
    "brown": ((139, 69, 19), (160, 82, 45), (121, 85, 72), (165, 42, 42), (150, 75, 0), (101, 67, 33), (93, 64, 55)),
    "black": ((0, 0, 0), (0, 0, 0), (17, 17, 17), (33, 33, 33)),
    "white": ((255, 255, 255), (255, 255, 255), (250, 250, 250)),
    "gray": ((128, 128, 128), (158, 158, 158), (169, 169, 169), (192, 192, 192), (149, 165, 166), (211, 211, 211),
             (105, 105, 105), (112, 128, 144)),
}  # fmt: skip


def sample_rgb(colour: str, rng: np.random.Generator) -> RGB:
    """Draw an RGB value (0..255) that people would call ``colour``: half near a palette value, half from a box."""
    if rng.random() < 0.5:
        anchor = ANCHORS[colour][rng.integers(len(ANCHORS[colour]))]
        return _clip(np.asarray(anchor) + rng.integers(-5, 6, 3))
    boxes = BOXES[colour]
    hue0, hue1, sat0, sat1, val0, val1 = boxes[rng.integers(len(boxes))]
    hue = rng.uniform(hue0, hue1) % 360 / 360
    channels = colorsys.hsv_to_rgb(hue, rng.uniform(sat0, sat1), rng.uniform(val0, val1))
    return _clip(np.rint(np.asarray(channels) * 255))


def distance(one: RGB, two: RGB) -> float:
    """Return the euclidean distance of two RGB values, 0 (equal) to 1.73 (black and white)."""
    return float(np.linalg.norm((np.asarray(one, float) - np.asarray(two, float)) / 255))


def _clip(channels: np.ndarray) -> RGB:
    red, green, blue = (int(value) for value in np.clip(channels, 0, 255))
    return red, green, blue
