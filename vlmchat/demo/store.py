"""Rendered training pictures on disk: tiles as the real image pipeline cuts them, and their dense labels.

Written once by ``train`` (about 3 ms a picture on one core) and mapped into memory afterwards. Picture ``i`` depends on
``(SEED, i)`` alone, so any number of workers writes the same files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlmchat.demo.draw import GRID, cells, draw
from vlmchat.demo.labels import PICTURE_FIELDS, PLACES, SPOTS, THING_FIELDS, picture_labels, thing_labels, thing_places
from vlmchat.demo.world import Scene, sample_scene
from vlmchat.families.internvl2.processing import Tiling, cut_tiles

SEED: Final = 2024
TILE: Final = 112
LOCAL: Final = 4
"""Most tiles of a training picture, thumbnail apart."""
TILING: Final = Tiling(tile_size=TILE, min_tiles=1, max_tiles=3, thumbnail=True)
"""The limits of the shipped config.json."""
WIDE_TILING: Final = Tiling(tile_size=TILE, min_tiles=1, max_tiles=4, thumbnail=True)
"""A quarter of the tiled pictures are cut by these, so that ``--max-tiles 4`` is no surprise."""
SINGLE_ASPECT: Final = (0.76, 1.49)
TILED_ASPECTS: Final = ((0.3, 0.74), (1.5, 3.3))


@dataclass(frozen=True)
class Plan:
    """How many pictures there are: the first ``single`` are one tile each, the next ``tiled`` several."""

    single: int
    tiled: int

    @property
    def total(self) -> int:
        """All pictures."""
        return self.single + self.tiled


def scene_of(plan: Plan, index: int, seed: int = SEED) -> Scene:
    """Return the scene of picture ``index``."""
    if index < plan.single:
        return sample_scene(seed, index, SINGLE_ASPECT)
    return sample_scene(seed, index, TILED_ASPECTS[index % 2])


def tiles_of(plan: Plan, index: int, scene: Scene, image: Image.Image) -> list[Image.Image]:
    """Cut a picture; the whole picture comes last."""
    wide = index >= plan.single and index % 8 >= 6
    return cut_tiles(image, WIDE_TILING if wide else TILING)


class Store:
    """The memory-mapped pictures and labels of a folder.

    ``whole`` uint8 [n, 112, 112, 3] single tile or thumbnail; ``local`` uint8 [tiled, 4, 112, 112, 3] the cut tiles and
    ``cuts`` uint8 [tiled] how many of them; ``patches`` uint8 [n, 64] and ``tokens`` uint8 [n, 16] the thing in each
    cell (0 none); ``things`` int8 [n, 8, fields] and ``spots`` float16 [n, 8, 4] its labels;
    ``pictures`` int8 [n, fields] those of the whole.
    """

    def __init__(self, folder: Path, plan: Plan, write: bool = False) -> None:
        self.plan = plan
        self._folder = folder
        self._write = write
        n, grid = plan.total, GRID * GRID
        self.whole = self._map("whole", np.uint8, (n, TILE, TILE, 3))
        self.local = self._map("local", np.uint8, (max(plan.tiled, 1), LOCAL, TILE, TILE, 3))
        self.cuts = self._map("cuts", np.uint8, (max(plan.tiled, 1),))
        self.patches = self._map("patches", np.uint8, (n, grid))
        self.tokens = self._map("tokens", np.uint8, (n, grid // 4))
        self.things = self._map("things", np.int8, (n, SPOTS, len(THING_FIELDS)))
        self.spots = self._map("spots", np.float16, (n, SPOTS, len(PLACES)))
        self.pictures = self._map("pictures", np.int8, (n, len(PICTURE_FIELDS)))

    def _map(self, name: str, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        path = self._folder / f"{name}.npy"
        if self._write and not path.exists():
            np.lib.format.open_memmap(path, "w+", kind, shape).flush()
        array: NDArray[Any] = np.load(path, mmap_mode="r+" if self._write else "r")
        if array.shape != shape:
            raise ValueError(
                f"{path.name} holds {array.shape}, the plan says {shape}: remove the folder to draw it anew"
            )
        return array

    def draw(self, index: int) -> None:
        """Render picture ``index`` into the files."""
        scene = scene_of(self.plan, index)
        tiles = tiles_of(self.plan, index, scene, draw(scene))
        self.whole[index] = np.asarray(tiles[-1])
        if index >= self.plan.single:
            row = index - self.plan.single
            self.cuts[row] = len(tiles) - 1
            for place, tile in enumerate(tiles[:-1]):
                self.local[row, place] = np.asarray(tile)
        self.patches[index] = cells(scene, GRID)
        self.tokens[index] = cells(scene, GRID // 2)
        self.things[index], self.spots[index] = thing_labels(scene), thing_places(scene)
        self.pictures[index] = picture_labels(scene)

    def tiles(self, index: int) -> NDArray[np.uint8]:
        """Return the tiles of picture ``index`` in model order, uint8 [tiles, 112, 112, 3]."""
        whole = self.whole[index][None]
        if index < self.plan.single:
            return np.asarray(whole)
        row = index - self.plan.single
        return np.concatenate([self.local[row, : self.cuts[row]], whole])

    @lru_cache(maxsize=4096)  # noqa: B019 - one store lives as long as its process
    def scene(self, index: int) -> Scene:
        """Return the scene of picture ``index``."""
        return scene_of(self.plan, index)


def shards(plan: Plan, size: int = 1000) -> Iterator[range]:
    """Split the pictures into ranges, the units in which rendering resumes."""
    for start in range(0, plan.total, size):
        yield range(start, min(start + size, plan.total))
