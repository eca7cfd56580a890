"""Pictures -> tiles -> pixels, the way InternVL2 was trained (dynamic resolution, thumbnail last).

Facts §5: among the grids of at most ``max_tiles`` cells take the one whose aspect ratio is nearest
to the picture's; resize to fill it with PIL's bicubic filter, cut row by row, and when there is
more than one tile append the whole picture as one tile. Checked against 45,845 sizes elsewhere and
against the golden grids and tiles in ``tests/reference/internvl2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics per RGB channel, on values in 0..1."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """The limits of one checkpoint, from its config.json."""

    tile_size: int
    """Side of a tile in pixels (``force_image_size``)."""
    min_tiles: int
    max_tiles: int
    """Of one picture, thumbnail apart (``max_dynamic_patch``)."""
    thumbnail: bool
    """Append the whole picture when it was cut (``use_thumbnail``)."""


@lru_cache
def candidate_grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Return all (columns, rows) with ``min_tiles <= columns * rows <= max_tiles``, fewest tiles first."""
    grids = {
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if min_tiles <= columns * rows <= max_tiles
    }
    return tuple(sorted(grids, key=lambda grid: (grid[0] * grid[1], grid)))


def choose_grid(width: int, height: int, tiling: Tiling) -> tuple[int, int]:
    """Return (columns, rows) for a picture of ``width`` x ``height`` pixels.

    Nearest aspect ratio wins. On an exact tie the larger grid wins only where the picture has more
    than half the pixels that grid would show, so that small pictures are not blown up.
    """
    aspect = width / height
    best = (1, 1)
    nearest = float("inf")
    for columns, rows in candidate_grids(tiling.min_tiles, tiling.max_tiles):
        distance = abs(aspect - columns / rows)
        shown = tiling.tile_size**2 * columns * rows
        if distance < nearest:
            nearest, best = distance, (columns, rows)
        elif distance == nearest and width * height > 0.5 * shown:
            best = (columns, rows)
    return best


def count_tiles(width: int, height: int, tiling: Tiling) -> int:
    """Return the tiles of a picture, thumbnail included."""
    columns, rows = choose_grid(width, height, tiling)
    cells = columns * rows
    return cells + 1 if tiling.thumbnail and cells > 1 else cells


def cut_tiles(image: Image.Image, tiling: Tiling) -> list[Image.Image]:
    """Return the tiles of an upright RGB ``image``, row by row, the thumbnail last."""
    columns, rows = choose_grid(image.width, image.height, tiling)
    side = tiling.tile_size
    filled = image.resize((side * columns, side * rows), Image.Resampling.BICUBIC)
    tiles = [
        filled.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
        for row in range(rows)
        for column in range(columns)
    ]
    if tiling.thumbnail and len(tiles) > 1:
        tiles.append(image.resize((side, side), Image.Resampling.BICUBIC))
    return tiles


def to_pixels(tiles: list[Image.Image]) -> torch.Tensor:
    """Return float32 pixels [tiles, 3, side, side], scaled to 0..1 and normalised with MEAN and STD."""
    stacked = torch.from_numpy(np.stack([np.asarray(tile) for tile in tiles]))
    scaled = stacked.permute(0, 3, 1, 2).to(torch.float32).div(255)
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return (scaled - mean) / std
