"""Decode and prefill beside llama.cpp at the same bits, taking turns in one run.

    python -m venv /some/where && /some/where/bin/pip install xllamacpp gguf
    python -m tests.bench.bench_llama --peer /some/where/bin/python [--bits 16|8|4]

Both run a random language model of Qwen2-0.5B's geometry (that of InternVL2-1B) on as many threads, greedily, a
prompt of 512 tokens and 64 new ones: medians and the ratio. The rate at which this machine's memory is read comes
from the same run, and with it the limit: every step reads every weight once. Run it alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from tests.bench.bench_engine import NEW_TOKENS, Speed, folder_of, ours
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions, Quantization, Sampling

PROMPT_TOKENS = 512
BITS: dict[str, tuple[Quantization, str, float]] = {
    "16": ("none", "f16", 2),
    "8": ("8-bit", "q8_0", 1),
    "4": ("4-bit", "q4_0", 5 / 8),
}
"""Bits -> our setting, llama.cpp's, bytes a decoder weight takes here."""
DECODER, HEAD = 357_900_000, 135_900_000
"""Weights of the decoder's matrices and of the output head."""


class Peer:
    """llama.cpp's server in its own process, asleep between two questions."""

    def __init__(self, python: str, kind: str) -> None:
        folder = Path(tempfile.gettempdir()) / "vlmchat-bench-gguf"
        sizes = (str(torch.get_num_threads()), str(PROMPT_TOKENS), str(NEW_TOKENS))
        script = Path(__file__).with_name("llama_peer.py")
        command = [python, str(script), str(folder), kind, *sizes]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.system = str(self._line()["system"]).strip()

    def _line(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line: dict[str, float] = json.loads(self._process.stdout.readline())
        return line

    def answer(self) -> Speed:
        """Answer once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Speed(**self._line())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def read_rate() -> float:
    """Return bytes per second at which all threads read memory, the best of five."""
    numbers = torch.zeros(1 << 27, dtype=torch.int64)

    def seconds() -> float:
        start = time.perf_counter()
        numbers.sum()
        return time.perf_counter() - start

    return numbers.numel() * numbers.element_size() / min(seconds() for _ in range(5))


def request_of(engine: TorchEngine) -> Request:
    """Return a question of just ``PROMPT_TOKENS`` tokens."""
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    empty = engine.measure(Request((user(""),), sampling)).prompt_tokens
    words = PROMPT_TOKENS - empty
    while (size := engine.measure(request := Request((user("7" * words),), sampling)).prompt_tokens) != PROMPT_TOKENS:
        words += PROMPT_TOKENS - size
    return request


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="an interpreter with xllamacpp and gguf")
    parser.add_argument("--bits", choices=BITS, action="append")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print("| bits | | vlmchat tok/s | llama.cpp tok/s | ratio | limit by reading |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for bits in arguments.bits or BITS:
        quantization, kind, size = BITS[bits]
        engine = TorchEngine()
        for _ in engine.load(folder_of("1b"), LoadOptions(dtype="bfloat16", quantization=quantization)):
            pass
        engine.runner.model.checkpoint.stop_ids = frozenset()
        request, peer = request_of(engine), Peer(arguments.peer, kind)
        pairs = [(ours(engine, request), peer.answer()) for _ in range(arguments.repeats + 1)][1:]
        peer.close()
        engine.close()
        limit = read_rate() / (DECODER * size + HEAD * (2 if size == 2 else 1))
        for what, bound in (("prefill", ""), ("decode", f"{limit:.0f}")):
            mine, theirs = (statistics.median(getattr(pair[side], what) for pair in pairs) for side in (0, 1))
            print(f"| {bits} | {what} | {mine:,.1f} | {theirs:,.1f} | {mine / theirs:.2f} | {bound} |", flush=True)
    print(
        f"\n{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}; peer: {peer.system}"
    )


if __name__ == "__main__":
    main()
