"""Few tokens at a time, in compiled code and by torch's operations on the same weights, taking turns in one run.

    python -m tests.bench.bench_steps [--quantization none|8-bit|4-bit] [--context N] [--repeats N]

A step of several sequences (what ``pipe --batch-size`` decodes by), and some tokens of one behind ``--context`` others
(the next turn of a chat). InternVL2-1B's geometry in bfloat16, random weights, as the engine loads them for compiled
code: mapped, not laid out. Run it alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from tests.bench.bench_engine import folder_of
from vlmchat.engine.kv import Piece, RowCache
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.families.family import Span
from vlmchat.families.native import NativeNetwork
from vlmchat.options import LoadOptions, Quantization

SEQUENCES, TOKENS = (1, 4, 16, 64), (2, 16, 64, 128)
SHORT = 100
"""Tokens of each sequence of a step."""
CHOICES: tuple[Quantization, ...] = ("none", "8-bit", "4-bit")


class Bench:
    """One loaded network and a cache of one sequence of ``context`` tokens."""

    def __init__(self, network: NativeNetwork, context: int) -> None:
        self._network, self._context = network, context
        self._cache = self._run(RowCache(network.decoder_layers()), context)

    def _run(self, cache: RowCache, length: int) -> RowCache:
        """Run tokens behind what ``cache`` holds."""
        first = cache.lengths[0]
        positions = torch.arange(first, first + length).expand(len(cache), -1)
        embeddings = self._network.embed(torch.randint(0, 1000, (len(cache), length)))
        self._network.hidden_states(Span(embeddings, positions, (first + length,) * len(cache)), cache.native)
        cache.note([[0] * length] * len(cache))
        return cache

    def tokens(self, count: int) -> None:
        """Run ``count`` tokens behind the context, which stays as it was."""
        self._cache.take([Piece(self._cache, 0, self._context)])
        self._run(self._cache, count)

    def step(self, cache: RowCache) -> None:
        """Run a token of each sequence to its logits."""
        rows, place = len(cache), cache.lengths[0]
        logits = self._network.next_logits([7] * rows, [place] * rows, (place + 1,) * rows, cache.native)
        if logits is None:
            span = Span(
                self._network.embed(torch.full((rows, 1), 7)), torch.full((rows, 1), place), (place + 1,) * rows
            )
            logits = self._network.logits(self._network.hidden_states(span, cache.native)[:, -1])
        cache.note([[0]] * rows)

    def sequences(self, count: int) -> RowCache:
        """Return a cache of so many sequences."""
        return self._run(RowCache(self._network.decoder_layers(), count), SHORT)

    def compare(self, work: Callable[[], None], repeats: int) -> tuple[float, float]:
        """Return median milliseconds in compiled code and by torch's operations."""
        lean = self._network.lean
        assert lean is not None
        fused = lean.fused
        assert fused is not None
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(1 + repeats):
            for times, way in zip(took, (fused, None), strict=True):
                lean.fused = way
                start = time.perf_counter()
                work()
                times.append(time.perf_counter() - start)
        lean.fused = fused
        mine, theirs = (1e3 * statistics.median(times[1:]) for times in took)
        return mine, theirs


@torch.inference_mode()
def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quantization", choices=CHOICES, action="append")
    parser.add_argument("--context", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print("| | compiled ms | torch ms | ratio |\n| --- | ---: | ---: | ---: |")
    for quantization in arguments.quantization or CHOICES:
        engine = TorchEngine()
        for _ in engine.load(folder_of("1b"), LoadOptions(dtype="bfloat16", quantization=quantization)):
            pass
        network = engine.runner.model.network
        assert isinstance(network, NativeNetwork)
        bench = Bench(network, arguments.context)
        works: list[tuple[str, Callable[[], None]]] = []
        for count in SEQUENCES:
            works.append((f"a step of {count}", partial(bench.step, bench.sequences(count))))
        for count in TOKENS:
            works.append((f"{count} tokens behind {arguments.context:,}", partial(bench.tokens, count)))
        for what, work in works:
            mine, theirs = bench.compare(work, arguments.repeats)
            print(f"| {quantization}, {what} | {mine:.0f} | {theirs:.0f} | {theirs / mine:.2f} |", flush=True)
        engine.close()


if __name__ == "__main__":
    main()
