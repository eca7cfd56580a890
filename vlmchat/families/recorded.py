"""Decode steps on a GPU: recorded once as a CUDA graph, played again for every token.

Why: a step of 32 layers is some 700 kernels of a few microseconds each, and Python hands them over more slowly than a
GPU computes them. A graph is one call. It reads and writes where it was recorded, so all that changes from token to
token lies in tensors that stay: ids, places, turns of the rotary tables. Keys and values are written at a place that a
tensor names, and read as a whole stretch of the buffers with a mask over it.

Written without a GPU at hand: what is recorded is proven on a CPU, played again from a trace of torch's operations
(``tests/families/test_recorded.py``); a GPU's graphs themselves have not run yet. So nothing rests on them. Whatever
goes wrong while one is recorded, or a graph that gives other logits than its operations did, ends recording for this
model, and torch's operations compute as before.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from vlmchat.families.attention import Keeping

STRETCH = 1024
"""Places by which the stretch grows that a step looks at. Those not filled yet are read for nothing: of InternVL2-8B at
most 134 MB beside 15 GB of weights."""
PLAIN_STEPS = 4
"""Steps by torch's operations before one is recorded, about what recording costs (two to warm up, one to record): rows
that come and go, or answers of a word, never pay for a graph that is not used."""
_TOLERANCE = 0.02
"""Between the logits of a graph and those of its own operations, in units of their spread. The same kernels ran."""
Record: TypeAlias = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what a step does; returns what does it again on the same tensors. May raise RuntimeError."""
_log = logging.getLogger(__name__)


def record_graph(device: torch.device, work: Callable[[], None]) -> Callable[[], None]:
    """Record ``work`` as a CUDA graph of ``device``; returns what plays it.

    Raises:
        RuntimeError: it does something that cannot be recorded, or memory ran out.
    """
    with torch.cuda.device(device):
        # Libraries set themselves up with the first calls, which a recording does not allow; on a stream of its own,
        # as torch's notes on CUDA graphs ask for.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The vision tower of the next request may work on a thread of its own meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        return graph.replay


class _Recording(NamedTuple):
    """A step on the buffers as they are."""

    stretch: int
    """Places that are looked at."""
    play: Callable[[], None]


class Steady(Protocol):
    """A decoder that does the same operations for every token."""

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [rows, 1, hidden] of ``ids`` [rows, 1]."""

    def placed(self, positions: Sequence[int]) -> Tensor:
        """Return what the layers have to know of rotary positions, of one shape and dtype for so many."""

    def run(self, hidden: Tensor, placed: Tensor, seen: Tensor, cache: Keeping) -> Tensor:
        """Run embeddings [rows, 1, hidden] through all layers and the last norm.

        Args:
            hidden: the embeddings.
            placed: what :meth:`placed` gave.
            seen: [rows, 1, 1, keys] in the dtype of ``hidden``, added to scores.
            cache: takes keys and values.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [rows, vocab] of ``hidden`` [rows, hidden]."""


class RecordedStep:
    """Runs a new token of each row through a decoder and its head."""

    def __init__(self, decoder: Steady, device: torch.device, record: Record | None = None) -> None:
        """Prepare; nothing is recorded yet.

        Args:
            decoder: its weights must stay where they are from now on.
            device: where they are.
            record: makes recordings; CUDA graphs where nothing else is said.
        """
        self._decoder, self._device, self._record = decoder, device, record or partial(record_graph, device)
        self._buffer: Callable[[], Tensor | None] = lambda: None
        """The last layer's keys as they were last seen: all layers' buffers move together."""
        self._waited = 0
        """Steps that torch's operations have made on these buffers."""
        self._recording: _Recording | None = None
        self._inputs = self._placed = self._logits = torch.empty(0)
        self.flaw = ""
        """Why nothing is recorded any more; empty while all is well."""
        self.recorded = self.played = 0
        """Recordings made and steps played; tests look whether there were any."""

    def next_logits(self, ids: Sequence[int], positions: Sequence[int], cache: Cache) -> Tensor | None:
        """Run one token of each row behind ``cache``, every row of which gets a place more.

        Args:
            ids: of the tokens.
            positions: their rotary positions.
            cache: not empty.

        Returns:
            float32 logits [rows, vocab], which stay until the next call; None where torch's operations are to run.
        """
        if self.flaw:
            return None
        places = cache.layers[0].extent.lengths
        self._follow(cache, max(places) + 1)
        if self._recording is None and self._waited < PLAIN_STEPS:
            self._waited += 1
            return None
        try:
            if self._recording is None:
                self._recording = self._made(ids, places, positions, cache)
            else:
                self._put(ids, places, positions)
            self._recording.play()
        except RuntimeError as problem:
            self._give_up(f"{type(problem).__name__}: {problem}")
            return None
        self.played += 1
        return self._logits

    def _follow(self, cache: Cache, wanted: int) -> None:
        """Have room for ``wanted`` places in ``cache``, and forget a recording that does not fit it any more."""
        last = cache.layers[-1]
        known = self._buffer()
        moves = known is None or known is not last.keys or wanted > known.shape[2]
        if self._recording is not None and (moves or wanted > self._recording.stretch):
            # Before the buffers grow: it holds memory of its own.
            self._recording = None
        if moves:
            for layer in cache.layers:
                layer.reserve(wanted)
            self._buffer, self._waited = weakref.ref(last.keys), 0

    def _made(self, ids: Sequence[int], places: Sequence[int], positions: Sequence[int], cache: Cache) -> _Recording:
        """Record the step of these tokens.

        Raises:
            RuntimeError: it cannot be recorded, or does not do again what was recorded.
        """
        last: Any = cache.layers[-1].keys
        stretch: int = min(-(-(max(places) + 1) // STRETCH) * STRETCH, last.shape[2])
        for layer in cache.layers:
            for buffer in (layer.keys, layer.values):
                # What nobody wrote yet is read with weight zero, which must not meet a NaN.
                buffer[:, :, max(places) : stretch] = 0
        self._inputs = torch.zeros(2, len(ids), dtype=torch.int64, device=self._device)
        self._placed = torch.empty_like(self._decoder.placed(positions))
        self._put(ids, places, positions)
        work = partial(self._step, self._inputs, self._placed, stretch, cache)
        expected = work().clone()
        self._logits = torch.empty_like(expected)
        # Bound to tensors, not to names that the next recording gives to others.
        play = self._record(partial(_into, self._logits, work))
        self._logits.zero_()
        play()
        off = float((self._logits - expected).abs().max() / expected.std())
        if not off <= _TOLERANCE:
            raise RuntimeError(f"played again a step gave logits that are off by {off:.3g} of their spread")
        self.recorded += 1
        return _Recording(stretch, play)

    def _put(self, ids: Sequence[int], places: Sequence[int], positions: Sequence[int]) -> None:
        """Write what is new into the tensors that stay."""
        self._inputs.copy_(torch.tensor([ids, places]))
        self._placed.copy_(self._decoder.placed(positions))

    def _step(self, inputs: Tensor, placed: Tensor, stretch: int, cache: Cache) -> Tensor:
        """Run the tokens in ``inputs`` (ids and places); return float32 logits [rows, vocab]."""
        ids, places = inputs
        hidden = self._decoder.embed(ids[:, None])
        columns = torch.arange(stretch, device=hidden.device)
        behind = (columns > places[:, None])[:, None, None]
        seen = torch.zeros(behind.shape, dtype=hidden.dtype, device=hidden.device)
        seen.masked_fill_(behind, torch.finfo(hidden.dtype).min)
        hidden = self._decoder.run(hidden, placed, seen, _Stretch(cache, places, stretch))
        return self._decoder.logits(hidden[:, -1])

    def _give_up(self, why: str) -> None:
        self.flaw, self._recording = why, None
        self._inputs = self._placed = self._logits = torch.empty(0)
        _log.info("Decode steps are not recorded: %s", why)


class _Stretch:
    """Writes one new place of each row into the buffers of a cache; gives the stretch that is looked at."""

    def __init__(self, cache: Cache, places: Tensor, stretch: int) -> None:
        """Write at ``places`` [rows], wherever these are when a recording is played."""
        self._cache, self._stretch = cache, stretch
        self._where = torch.arange(len(places), device=places.device), places

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values [rows, kv heads, 1, head size]; return those of the stretch."""
        layer: Any = self._cache.layers[layer_idx]
        for buffer, new in ((layer.keys, key_states), (layer.values, value_states)):
            buffer.transpose(1, 2).index_put_(self._where, new[:, :, 0])
        return layer.keys[:, :, : self._stretch], layer.values[:, :, : self._stretch]


def _into(result: Tensor, work: Callable[[], Tensor]) -> None:
    """Do ``work`` and leave what it gives in ``result``."""
    result.copy_(work())
