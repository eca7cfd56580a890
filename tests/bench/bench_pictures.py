"""Pictures: one tile of the vision tower against the GEMM rate, and a known picture against a new one.

    python -m tests.bench.bench_pictures [--dtype bfloat16|float32] [--passes 1 2 4 13] [--repeats N]

InternVL2-1B's geometry (InternViT-300M, Qwen2-0.5B), random weights. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.bench.bench_engine import opened_1b, picture
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.feature_files import FeatureFiles
from vlmchat.engine.known_pictures import KnownPictures
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import Sampling, VisionOptions

SIDE = 448


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def products(dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Return work that is only the tower's own largest product, [1025, 1024] x [1024, 4096], and its operations."""
    rows, inner, outer, times = (SIDE // 14) ** 2 + 1, 1024, 4096, 20
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
    return lambda: [torch.nn.functional.linear(left, right) for _ in range(times)], times * 2 * rows * inner * outer


@torch.inference_mode()
def tiles(engine: TorchEngine, passes: Sequence[int], repeats: int) -> None:
    """Print what a tile costs in passes of several sizes, each measured right beside the product alone."""
    network, dtype = engine.runner.model.network, engine.runner.model.dtype
    gemm, operations = products(dtype)
    print("| tiles a pass | TFLOP a tile | s a tile | GFLOP/s | GEMM | of GEMM |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in passes:
        pixels = torch.randn(count, 3, SIDE, SIDE, dtype=dtype)
        work = counted(engine) * count
        pairs = [(seconds(gemm), seconds(lambda: network.encode(pixels))) for _ in range(1 + repeats)][1:]  # noqa: B023
        alone = operations / statistics.median(pair[0] for pair in pairs)
        took = statistics.median(pair[1] for pair in pairs)
        print(
            f"| {count} | {work / count / 1e12:.2f} | {took / count:.2f} | {work / took / 1e9:,.0f} | "
            f"{alone / 1e9:,.0f} | {work / took / alone:.2f} |",
            flush=True,
        )
    print()


def counted(engine: TorchEngine) -> int:
    """Return the operations of one tile as its geometry says: all products, attention's too."""
    config: Any = engine.runner.model.network.module.config
    vision = config.vision_config
    length, width, inner = (SIDE // 14) ** 2 + 1, vision.hidden_size, vision.intermediate_size
    block = 2 * length * width * (4 * width + 2 * inner) + 4 * length**2 * width
    hidden = config.text_config.hidden_size
    projector = 2 * (length - 1) // 4 * hidden * (4 * width + hidden)
    return int(vision.num_hidden_layers * block + projector + 2 * (length - 1) * width * 3 * 14**2)


def first_token(engine: TorchEngine, request: Request) -> Finished:
    """Answer as a new process would: nothing in memory."""
    engine.runner.forget()
    finished = list(engine.generate(request))[-1]
    assert isinstance(finished, Finished)
    return finished


def known(engine: TorchEngine, folder: Path) -> None:
    """Print the time to the first token about a picture of one tile: new, new and written, known."""
    request = Request(
        (user("What is this?", picture(SIDE, SIDE)),), Sampling(max_new_tokens=1), VisionOptions(max_tiles=1)
    )
    pictures = engine.runner.pictures
    found: dict[str, list[Finished]] = {"new, cache off": [], "new, written": [], "known": []}
    first_token(engine, request)
    for number in range(3):
        pictures.known = None
        found["new, cache off"].append(first_token(engine, request))
        pictures.known = KnownPictures(FeatureFiles(folder / str(number), 10**9), engine.runner.model)
        found["new, written"].append(first_token(engine, request))
        pictures.known.close()
        pictures.known = KnownPictures(FeatureFiles(folder / str(number), 10**9), engine.runner.model)
        found["known"].append(first_token(engine, request))
        pictures.known.close()
    print("| picture of one tile | image s | first token s | ratio |\n| --- | ---: | ---: | ---: |")
    base = statistics.median(end.timing.first_token_s for end in found["new, cache off"])
    for name, ends in found.items():
        image, first = (
            statistics.median(getattr(end.timing, field) for end in ends) for field in ("image_s", "first_token_s")
        )
        print(f"| {name} | {image:.3f} | {first:.3f} | {first / base:.3f} |")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 2, 4, 13])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    engine = opened_1b(arguments.dtype)
    tiles(engine, arguments.passes, arguments.repeats)
    with tempfile.TemporaryDirectory() as features:
        known(engine, Path(features))
    engine.close()


if __name__ == "__main__":
    main()
