"""Loading beside reading: how long a checkpoint takes from a warm page cache, against its bytes read into memory.

    python -m tests.bench.bench_load [--ways "bf16, mapped" ...] [--repeats N]

InternVL2-1B's geometry, random weights in bfloat16 (1.9 GB). Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from tests.bench.bench_engine import folder_of
from vlmchat.engine.arrange import arrange
from vlmchat.engine.loader import Model, load_now
from vlmchat.engine.shards import open_shards
from vlmchat.options import LoadOptions

REPEATS = 5
LAID_OUT = "bf16, laid out"
"""As the engine does for a CPU: then arranged for its kernels."""
BARE = "to fp32, the bare conversion"
"""Each tensor of the file converted and nothing else: what the memory allows."""
WAYS: dict[str, LoadOptions | None] = {
    "bf16, mapped": LoadOptions(device="cpu", dtype="bfloat16"),
    LAID_OUT: LoadOptions(device="cpu", dtype="bfloat16"),
    "to 8-bit": LoadOptions(device="cpu", dtype="bfloat16", quantization="8-bit"),
    "to 4-bit": LoadOptions(device="cpu", dtype="bfloat16", quantization="4-bit"),
    "to fp32 (twice the bytes)": LoadOptions(device="cpu", dtype="float32"),
    BARE: None,
}


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes; what it made is gone afterwards."""
    start = time.perf_counter()
    made = work()
    took = time.perf_counter() - start
    del made
    gc.collect()
    return took


def laid_out(folder: Path, options: LoadOptions) -> Model:
    """Load and arrange."""
    model = load_now(folder, options)
    list(arrange(model))
    return model


def work_of(name: str, folder: Path) -> Callable[[], object]:
    """Return the load that ``name`` says, or the bare conversion."""
    options = WAYS[name]
    if options is not None:
        return partial(laid_out if name == LAID_OUT else load_now, folder, options)
    (shard,) = open_shards(folder)
    return lambda: [shard.read(name).float() for name in shard.tensors()]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args()
    folder = folder_of("1b")
    file = folder / "model.safetensors"
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), {file.stat().st_size / 1e9:.1f} GB\n")
    print("| | load s | read s | ratio |\n| --- | ---: | ---: | ---: |")
    for name in arguments.ways:
        work, pairs = work_of(name, folder), []
        # The first load imports the libraries and brings the file into the page cache.
        for _ in range(1 + arguments.repeats):
            pairs.append((seconds(work), seconds(file.read_bytes)))
        load, read = (statistics.median(pair[side] for pair in pairs[1:]) for side in (0, 1))
        print(f"| {name} | {load:.2f} | {read:.2f} | {load / read:.2f} |")


if __name__ == "__main__":
    main()
