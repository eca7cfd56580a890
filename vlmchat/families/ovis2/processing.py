"""Pictures -> tiles -> pixels, the way Ovis2 was trained (the project's Ovis2 facts, §6).

A picture is cut into the grid whose letter-boxed tiles keep most of its pixels; the whole picture
stands in front as a thumbnail when there is more than one cell. Transformers' image processor has
rows and columns swapped and stretches tiles, so it is not used. Checked against 132 sizes at the
real tile side (``tests/reference/ovis2/geometry.json``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

_COVERED = 0.9
"""Share of a picture's pixels above which a grid is good enough, and the fewest cells win."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """How tiles of one checkpoint become numbers, from its preprocessor_config.json."""

    side: int
    """Side of a tile in pixels (``crop_size``)."""
    scale: float
    """Factor from 0..255 to 0..1 (``rescale_factor``)."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Statistics per RGB channel, on values in 0..1."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How a picture is cut."""

    rows: int
    columns: int

    @property
    def cells(self) -> int:
        """Cells, the thumbnail apart."""
        return self.rows * self.columns

    @property
    def tiles(self) -> int:
        """Cells, and the thumbnail where there is one."""
        return self.cells + 1 if self.cells > 1 else 1


@lru_cache(maxsize=4096)
def choose_grid(width: int, height: int, side: int, max_cells: int) -> Grid:
    """Return the grid of at most ``max_cells`` cells for a picture of ``width`` x ``height`` pixels.

    Of the grids that keep more than nine tenths of the pixels the one with the fewest cells wins,
    then the one that keeps most; where none does, the one that keeps most, then the fewest cells.
    What still ties goes to fewer rows, then to fewer columns.
    """
    grids = [Grid(rows, columns) for rows in range(1, max_cells + 1) for columns in range(1, max_cells // rows + 1)]
    kept = {grid: _share_kept(width, height, side, grid) for grid in grids}
    good = [grid for grid in grids if kept[grid] > _COVERED]
    if good:
        return min(good, key=lambda grid: (grid.cells, -kept[grid]))
    return min(grids, key=lambda grid: (-kept[grid], grid.cells))


def boxes(width: int, height: int, grid: Grid) -> list[tuple[int, int, int, int]]:
    """Return (left, top, right, bottom) of each cell, row by row; the last ones take the remainder."""
    lefts = [width // grid.columns * column for column in range(grid.columns)] + [width]
    tops = [height // grid.rows * row for row in range(grid.rows)] + [height]
    return [
        (lefts[column], tops[row], lefts[column + 1], tops[row + 1])
        for row in range(grid.rows)
        for column in range(grid.columns)
    ]


def _share_kept(width: int, height: int, side: int, grid: Grid) -> float:
    """Return the share of a picture's pixels that survives the shrinking of its cells to tiles.

    Whole families of grids tie but for the last bit, so the order of operations is part of the
    rule: ``s * 448 / L`` in place of ``s / L * 448`` chooses another grid for 502 x 2049 pixels.
    For the same reason cells are added one by one, row by row: ``sum`` rounds otherwise from
    Python 3.12 on.
    """
    total = 0.0
    for left, top, right, bottom in boxes(width, height, grid):
        longer, shorter = max(right - left, bottom - top), min(right - left, bottom - top)
        total += shorter / longer * side * side if longer > side else longer * shorter
    return total / (width * height)


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size of ``width`` x ``height`` pixels with the longer side brought to ``side``.

    A cell thinner than one in ``side`` keeps one pixel; the original fails on it.
    """
    if width >= height:
        return side, max(1, int(height / width * side))
    return max(1, int(width / height * side)), side


def cut_tiles(image: Image.Image, grid: Grid, side: int) -> list[Image.Image]:
    """Return the tiles of an upright RGB ``image``, at most ``side`` pixels long: thumbnail, then row by row."""
    parts = [image] if grid.cells > 1 else []
    parts += [image.crop(box) for box in boxes(image.width, image.height, grid)]
    return [part.resize(fitted(*part.size, side), Image.Resampling.BICUBIC) for part in parts]


def to_pixels(images: list[Image.Image], tiles: Tiles) -> torch.Tensor:
    """Return float32 pixels [tiles, 3, side, side]: normalised, then centred in zeros.

    Scaled in float64 and normalised in float32, as CLIPImageProcessor does; zero stands for
    "no picture here", not for black.
    """
    pixels = np.zeros((len(images), tiles.side, tiles.side, 3), dtype=np.float32)
    mean, std = np.array(tiles.mean, dtype=np.float32), np.array(tiles.std, dtype=np.float32)
    for image, target in zip(images, pixels, strict=True):
        scaled = (np.asarray(image) * np.float64(tiles.scale)).astype(np.float32)
        top, left = (tiles.side - image.height) // 2, (tiles.side - image.width) // 2
        target[top : top + image.height, left : left + image.width] = (scaled - mean) / std
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
