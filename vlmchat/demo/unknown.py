"""Pictures the model must not pretend to know: noise, gradients, textures, scribbles, photo-like mess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Size = tuple[int, int]
Maker = Callable[[Size, np.random.Generator], Image.Image]


def draw_unknown(size: Size, seed: int) -> Image.Image:
    """Draw an RGB picture of ``size`` (width, height in pixels) that shows nothing with a name."""
    rng = np.random.default_rng(seed)
    return MAKERS[rng.integers(len(MAKERS))](size, rng)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


def _field(size: Size, rng: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Return smooth random values, shape (height, width, 3), 0..255."""
    coarse = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse, "RGB").resize(size, Image.Resampling.BICUBIC), float)


def _noise(size: Size, rng: np.random.Generator) -> Image.Image:
    shape = (size[1], size[0], 3 if rng.random() < 0.6 else 1)
    spread = rng.uniform(40, 128)
    return _image(np.repeat(rng.normal(128, spread, shape), 3 // shape[2], axis=2))


def _gradient(size: Size, rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * x / size[0] + np.sin(angle) * y / size[1]
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    if rng.random() < 0.3:
        ramp = np.hypot(x / size[0] - 0.5, y / size[1] - 0.5) * 1.4
    start, end = np.asarray(_colour(rng)), np.asarray(_colour(rng))
    if np.abs(start - end).max() < 120:
        end = 255 - start
    return _image(start + (end - start) * ramp[..., None])


def _stripes(size: Size, rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    period = rng.uniform(0.05, 0.2) * min(size)
    angle = rng.choice([0, 0.5, 0.25, 0.75]) * np.pi
    wave = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    if rng.random() < 0.4:
        wave = wave * np.sin(2 * np.pi * (np.cos(angle) * y - np.sin(angle) * x) / period)
    start, end = np.asarray(_colour(rng)), np.asarray(_colour(rng))
    return _image(np.where(wave[..., None] > 0, start, end).astype(float))


def _clouds(size: Size, rng: np.random.Generator) -> Image.Image:
    fields = [_field(size, rng, cells) for cells in (2, 4, 8, 16)]
    weights = rng.uniform(0.1, 1, len(fields))
    mixed = sum(weight * field for weight, field in zip(weights / weights.sum(), fields, strict=True))
    return _image((np.asarray(mixed) - 128) * rng.uniform(1, 2) + 128)


def _scribble(size: Size, rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", size, (255, 255, 255) if rng.random() < 0.6 else _colour(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 5))):
        steps = rng.normal(0, 0.14, (int(rng.integers(15, 60)), 2)) * size
        points = np.mod(np.cumsum(steps, 0) * 0.5 + rng.uniform(0.2, 0.8, 2) * size, size)
        pen.line([(float(x), float(y)) for x, y in points], fill=_colour(rng), width=int(rng.integers(1, 5)))
    return image


def _mess(size: Size, rng: np.random.Generator) -> Image.Image:
    """Many overlapping random patches over a smooth field: what a photograph is to this model."""
    image = _image(_field(size, rng, int(rng.integers(2, 5))))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(12, 60))):
        centre, spread = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.3)
        corners = (centre + rng.normal(0, spread, (int(rng.integers(3, 8)), 2))) * size
        pen.polygon([(float(x), float(y)) for x, y in corners], fill=_colour(rng))
    pixels = np.asarray(image, float) + rng.normal(0, rng.uniform(0, 25), (size[1], size[0], 1))
    return _image(pixels)


MAKERS: Final[tuple[Maker, ...]] = (_noise, _gradient, _stripes, _clouds, _clouds, _scribble, _mess, _mess)
