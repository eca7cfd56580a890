"""Pictures: one tile of the vision tower against the GEMM rate, and a known picture against a new one.

    python -m tests.bench.bench_pictures

InternVL2-1B's geometry (InternViT-300M, Qwen2-0.5B), random weights in bfloat16. Run it alone on the machine.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.bench_engine import picture
from tests.bench.checkpoints import INTERNVL2_1B, build_internvl2
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.feature_files import FeatureFiles
from vlmchat.engine.known_pictures import KnownPictures
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions, Sampling, VisionOptions

REPEATS = 3
SIDE = 448


def median_seconds(work: Callable[[], object]) -> float:
    """Return the median of ``REPEATS`` runs behind one that is not counted."""
    taken = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def gemm_rate() -> float:
    """Return FLOP/s of the tower's own largest product, [1025, 1024] x [1024, 4096] in bfloat16."""
    rows, inner, outer = (SIDE // 14) ** 2 + 1, 1024, 4096
    left, right = torch.randn(rows, inner).bfloat16(), torch.randn(outer, inner).bfloat16()
    return (
        20
        * 2
        * rows
        * inner
        * outer
        / median_seconds(lambda: [torch.nn.functional.linear(left, right) for _ in range(20)])
    )


@torch.inference_mode()
def tile(engine: TorchEngine) -> None:
    """Print what one tile costs."""
    network, dtype = engine.runner.model.network, engine.runner.model.dtype
    pixels = torch.randn(1, 3, SIDE, SIDE, dtype=dtype)
    with FlopCounterMode(display=False) as counter:
        network.encode(pixels)
    rate, took = gemm_rate(), median_seconds(lambda: network.encode(pixels))
    reached = counter.get_total_flops() / took
    print("| | TFLOP | s | GFLOP/s | of GEMM |\n| --- | ---: | ---: | ---: | ---: |")
    print(f"| GEMM of the tower's MLP | | | {rate / 1e9:,.0f} | 1.00 |")
    print(
        f"| one tile and its projector | {counter.get_total_flops() / 1e12:.2f} | {took:.2f} | "
        f"{reached / 1e9:,.0f} | {reached / rate:.2f} |\n"
    )


def first_token(engine: TorchEngine, request: Request) -> Finished:
    """Answer as a new process would: nothing in memory."""
    engine.runner.forget()
    finished = list(engine.generate(request))[-1]
    assert isinstance(finished, Finished)
    return finished


def known(engine: TorchEngine, folder: Path) -> None:
    """Print the time to the first token about a picture of one tile: new, new and written, known."""
    request = Request((user("What is this?", picture(SIDE)),), Sampling(max_new_tokens=1), VisionOptions(max_tiles=1))
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
    folder = build_internvl2(Path(tempfile.gettempdir()) / "vlmchat-bench-1b", INTERNVL2_1B, torch.bfloat16)
    engine = TorchEngine()
    for _ in engine.load(folder, LoadOptions(device="cpu", dtype="bfloat16")):
        pass
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}\n")
    tile(engine)
    with tempfile.TemporaryDirectory() as features:
        known(engine, Path(features))
    engine.close()


if __name__ == "__main__":
    main()
