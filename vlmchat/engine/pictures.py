"""The pictures of several turns -> features: each picture once, tiles in batches of the device's liking."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

import torch
from torch import Tensor

from vlmchat.engine.ahead import Ahead, hand_over
from vlmchat.engine.device import SMALL_MODEL, spare_for_pictures
from vlmchat.engine.events import Encoding, RowEvent
from vlmchat.engine.grain import TILE_BATCH
from vlmchat.engine.known_pictures import KnownPictures
from vlmchat.engine.loader import Model
from vlmchat.engine.turn import Turn
from vlmchat.engine.vision_cache import VisionCache
from vlmchat.errors import VlmchatError
from vlmchat.families.family import PictureInput

SMALL_TILE_BATCH = 8
"""Tiles per pass of a model below :data:`~vlmchat.engine.device.SMALL_MODEL`, on any device: one tile is less work
than the calls around it. 24 drawn pictures through the demo, 16 at a time: 0.55 s instead of 0.70 s."""


@dataclass(slots=True, eq=False)
class _Job:
    """One picture that has to be encoded, for the first turn that needs it."""

    turn: Turn
    picture: PictureInput
    place: int
    """From 1, over the pictures of its turn that have to be encoded."""
    parts: list[Tensor] = field(default_factory=list)
    """Features [tokens, hidden] of each tile done."""
    features: Tensor | None = None
    """Of all tiles [positions, hidden]."""
    problem: VlmchatError | None = None


class Pictures:
    """The vision tower of one checkpoint and what it remembers."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.cache = VisionCache()
        self.known: KnownPictures | None = None
        """What is kept on disk; None: nothing is looked for there or written."""
        self.encoded_tiles = 0
        """Tiles that went through the vision tower since the load; tests count them."""
        self._counting = Lock()

    def ahead(self, stopped: Callable[[], bool]) -> Ahead | None:
        """Return what encodes for turns that wait, beside the decoder; None where that costs more than it saves."""
        model = self._model
        if not spare_for_pictures(model.device, model.about.weight_bytes):
            return None
        return Ahead(self.encode, model.device, stopped)

    def encode(
        self, turns: Sequence[Turn], stopped: Callable[[], bool]
    ) -> Generator[RowEvent, None, dict[Turn, VlmchatError] | None]:
        """Give ``turns`` the features that their positions behind the cached ones need.

        Returns:
            The turns with a picture that cannot be used, and why; None when stopped.
        """
        jobs: dict[str, _Job] = {}
        for turn in turns:
            self._look_up(turn, jobs)
        tiles = self._tiles(jobs.values())
        while not stopped() and (batch := list(islice(tiles, self._tiles_per_pass()))):
            yield from self._pass(batch, jobs.values())
        return None if stopped() else _handed_out(turns, jobs)

    def _tiles_per_pass(self) -> int:
        if not self._model.network.joins_tiles:
            return 1
        least = SMALL_TILE_BATCH if self._model.about.weight_bytes < SMALL_MODEL else 1
        return max(least, TILE_BATCH.get(self._model.device.type, 1))

    def _look_up(self, turn: Turn, jobs: dict[str, _Job]) -> None:
        """Take what is known of the features ``turn`` needs, and add a job for each other picture."""
        place = 0
        for number in _needed(turn):
            if number in turn.features:
                continue
            picture = turn.prompt.pictures[number]
            known = self._recall(picture.key, turn.request.private)
            if known is not None:
                turn.features[number] = known
            elif picture.key not in jobs:
                place += 1
                jobs[picture.key] = _Job(turn, picture, place)

    def _recall(self, key: str, private: bool) -> Tensor | None:
        """Return the features of a picture seen before: in this process, or in any."""
        found = self.cache.get(key)
        if found is None and self.known is not None and (found := self.known.get(key, touch=not private)) is not None:
            self.cache.put(key, found)
        return found

    def _tiles(self, jobs: Iterable[_Job]) -> Iterator[tuple[_Job, Tensor]]:
        """Yield the tiles [1, 3, side, side] of each picture, one picture after the other in memory."""
        for job in jobs:
            try:
                pixels = self._model.checkpoint.pixels(job.picture)
            except VlmchatError as problem:
                job.problem = problem
                continue
            for tile in pixels.chunk(len(pixels)):
                if job.problem is None:
                    yield job, tile

    def _pass(self, batch: Sequence[tuple[_Job, Tensor]], jobs: Iterable[_Job]) -> Iterator[RowEvent]:
        """Run the vision tower over a batch of tiles."""
        pixels = torch.cat([tile for _, tile in batch]).to(self._model.device, self._model.dtype)
        concerned = dict.fromkeys(job for job, _ in batch)
        try:
            encoded = self._model.network.encode(pixels)
        except VlmchatError as problem:
            for job in concerned:
                job.problem = problem
            return
        with self._counting:
            self.encoded_tiles += len(batch)
        for (job, _), features in zip(batch, encoded, strict=True):
            job.parts.append(features)
        for job in concerned:
            if len(job.parts) == job.picture.tiles:
                job.features = torch.cat(job.parts)
                hand_over(job.features)
                self.cache.put(job.picture.key, job.features)
                if self.known is not None and not job.turn.request.private:
                    self.known.put(job.picture.key, job.features)
            if job.turn.fresh:
                places = sum(other.turn is job.turn for other in jobs)
                yield job.turn.number, Encoding(job.place, places, len(job.parts), job.picture.tiles)


def _needed(turn: Turn) -> list[int]:
    """Return the pictures that positions from ``turn.cached`` on show."""
    return sorted({slot.picture for slot in turn.prompt.slots if slot.start + slot.length > turn.cached})


def _handed_out(turns: Sequence[Turn], jobs: Mapping[str, _Job]) -> dict[Turn, VlmchatError]:
    """Give each turn its features; return the turns of a picture that has a problem."""
    failed: dict[Turn, VlmchatError] = {}
    for turn in turns:
        for number in _needed(turn):
            job = jobs.get(turn.prompt.pictures[number].key)
            if job is not None and job.problem is not None:
                failed[turn] = job.problem
            elif job is not None and job.features is not None:
                turn.features[number] = job.features
    return failed
