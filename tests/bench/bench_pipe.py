"""How fast ``vlmchat pipe`` answers many small pictures, beside a loop of ``generate`` and one process each.

``python -m tests.bench.bench_pipe --count 1000 --batch-size 8``: the embedded model, the same pictures and question
for all three, in this one run. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from PIL import Image

from tests.bench.bench_engine import folder_of, generated, inputs_of, peer
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions

QUESTION = "What is in this picture?"
NEW_TOKENS = 12
CHEAP = (["--version"], ["--help"], ["ask", "--help"], ["pipe", "--help"])


def pictures(folder: Path, count: int) -> list[Path]:
    """Write ``count`` PNGs of 112 x 112 pixels, no two alike."""
    paths = []
    for number in range(count):
        path = folder / f"{number:05}.png"
        Image.new("RGB", (112, 112), (number % 256, number // 256 % 256, 128)).save(path, compress_level=1)
        paths.append(path)
    return paths


MARKS = (1, 1_000, 5_000, 10_000)
"""Results behind which the memory is read."""


def pipe(paths: Sequence[Path], batch_size: int) -> tuple[float, dict[int, int]]:
    """Return seconds of one ``vlmchat pipe`` over ``paths``, start and load included, and its bytes by results."""
    arguments = ["pipe", "--prompt", QUESTION, "--max-new-tokens", str(NEW_TOKENS), "--batch-size", str(batch_size)]
    command = [sys.executable, "-m", "vlmchat", *arguments, "--dtype", "float32", "-m", "demo"]
    held: dict[int, int] = {}
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as stdin:
        stdin.write("".join(f"{path}\n" for path in paths).encode())
        stdin.seek(0)
        running = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, env=computed_anew())
        assert running.stdout is not None
        for number, _ in enumerate(running.stdout, 1):
            if number in MARKS or number == len(paths):
                held[number] = psutil.Process(running.pid).memory_info().rss
    assert running.wait() == 0
    assert number == len(paths), "a result for each line"
    return time.perf_counter() - begun, held


def computed_anew() -> dict[str, str]:
    """Return an environment in which no picture is known from an earlier run."""
    return {**os.environ, "VLMCHAT_FEATURE_CACHE": "0"}


def processes(paths: Sequence[Path]) -> float:
    """Return seconds of one ``vlmchat ask`` after the other."""
    begun = time.perf_counter()
    for path in paths:
        arguments = ["ask", "-i", str(path), QUESTION, "--no-save", "--max-new-tokens", str(NEW_TOKENS), "-m", "demo"]
        command = [sys.executable, "-m", "vlmchat", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=computed_anew())
    return time.perf_counter() - begun


def loop(paths: Sequence[Path]) -> float:
    """Return seconds of a plain loop: the same prompts and pixels into Transformers' ``generate``, one by one."""
    engine = TorchEngine()
    for _ in engine.load(folder_of("demo"), LoadOptions(dtype="float32")):
        pass
    peer(engine.runner.model.about.folder, "cpu", engine.runner.model.about.dtype)
    begun = time.perf_counter()
    for path in paths:
        inputs = inputs_of(engine, Request((user(QUESTION, read_picture(path)),)))
        stop = list(engine.runner.model.checkpoint.stop_ids)
        generated(engine, inputs, max_new_tokens=NEW_TOKENS, eos_token_id=stop)
    spent = time.perf_counter() - begun
    engine.close()
    return spent


def cheap() -> None:
    """Print the CPU-seconds of help, version and completion, the best of three."""
    asked = {"_VLMCHAT_COMPLETE": "bash_complete", "COMP_LINE": "vlmchat ask -m inter"}
    for arguments, more in (*((words, {}) for words in CHEAP), ([], asked)):
        costs = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "vlmchat", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **more})
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{' '.join(arguments) or 'completion':<14} {min(costs):.3f} CPU-s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--single", type=int, default=600, help="how many of them one by one")
    parser.add_argument("--processes", type=int, default=3, help="how many single processes to time")
    chosen = parser.parse_args()
    cheap()
    with tempfile.TemporaryDirectory() as folder:
        paths = pictures(Path(folder), chosen.count)
        start, _ = pipe(paths[:20], 1)
        for size, some in ((1, paths[: chosen.single]), (chosen.batch_size, paths)):
            spent, held = pipe(some, size)
            rate = (len(some) - 20) / max(spent - start, 1e-9)
            memory = ", ".join(f"{held[mark] / 1e6:.0f} MB after {mark:,}" for mark in sorted(held))
            print(f"pipe, batch {size:<3}  {rate:7.1f} pictures/s behind the start; {memory}", flush=True)
        few = paths[: min(100, chosen.count)]
        print(f"generate loop    {len(few) / loop(few):7.1f} pictures/s, loading not counted")
        few = paths[: chosen.processes]
        print(f"one process each {len(few) / processes(few):7.2f} pictures/s")


if __name__ == "__main__":
    main()
