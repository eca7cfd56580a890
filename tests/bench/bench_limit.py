"""Decode beside what the memory gives: every token reads all weights of the decoder and its head once.

    python -m tests.bench.bench_limit [--device cpu|cuda] [--model 1b|8b|FOLDER] [--quantization none|8-bit|4-bit]

The same model as the engine decodes with it (compiled steps on a CPU, recorded ones on a GPU) and by torch's
operations, taking turns, and the rate at which torch adds up a large tensor in the same run. ``8b`` writes 17 GB of
random weights to the folder of temporary files. Run it alone.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch

from tests.bench.bench_engine import folder_of
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.quantize import HEAD
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.families.native import NativeNetwork
from vlmchat.options import LoadOptions, Sampling

READ_BYTES = {"cpu": 1 << 30, "cuda": 1 << 33}
"""Of the tensor that is added up, by device: far more than any cache holds."""
PROMPT_WORDS = 200


def read_rate(device: torch.device, repeats: int = 15) -> float:
    """Return the bytes a second at which torch adds float32 numbers up: the best of some times, as a limit is."""
    numbers, took = torch.ones(READ_BYTES[device.type] // 4, device=device), []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        float(numbers.sum())
        took.append(time.perf_counter() - start)
    return READ_BYTES[device.type] / min(took[1:])


def read_bytes(network: NativeNetwork) -> int:
    """Return the bytes of weights that a step reads."""
    parts = network.blocks(), network.module.get_submodule(HEAD)
    held = sum(t.numel() * t.element_size() for part in parts for t in (*part.parameters(), *part.buffers()))
    if next(parts[1].parameters(), None) is None and not any(True for _ in parts[1].buffers()):
        embedding = network._text.embed_tokens.weight  # a head that is the embedding has no weight of its own
        held += embedding.numel() * embedding.element_size()
    return held


def decoded(engine: TorchEngine, request: Request) -> float:
    """Return tokens a second of decode, through the event stream."""
    finished = list(engine.generate(request))[-1]
    assert isinstance(finished, Finished)
    return finished.timing.decode_tokens_per_s


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="1b")
    parser.add_argument("--quantization", default="none")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    engine = TorchEngine()
    options = LoadOptions(device=arguments.device, dtype="bfloat16", quantization=arguments.quantization)
    for _ in engine.load(folder_of(arguments.model), options):
        pass
    model = engine.runner.model
    model.checkpoint.stop_ids = frozenset()
    network = model.network
    assert isinstance(network, NativeNetwork)
    lean = network.lean
    assert lean is not None
    fast = lean.fused, network.recorded
    request = Request((user("red " * PROMPT_WORDS),), Sampling(max_new_tokens=arguments.tokens))
    memory = read_rate(model.device)
    rates: dict[str, list[float]] = {"as loaded": [], "torch's operations": []}
    for _ in range(1 + arguments.repeats):
        for way, (lean.fused, network.recorded) in zip(rates, (fast, (None, None)), strict=True):
            rates[way].append(decoded(engine, request))
    lean.fused, network.recorded = fast
    name = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else platform.machine()
    weights, memory = read_bytes(network), max(memory, read_rate(model.device))
    print(f"{name}, torch {torch.__version__}, {arguments.model}, {arguments.quantization}")
    print(f"{weights / 1e9:.2f} GB of weights a token; torch reads {memory / 1e9:,.0f} GB/s\n")
    print("| decode | tok/s | GB/s | of the limit |\n| --- | ---: | ---: | ---: |")
    for way, found in rates.items():
        rate = statistics.median(found[1:])
        print(f"| {way} | {rate:,.1f} | {rate * weights / 1e9:,.1f} | {rate * weights / memory:.2f} |")
    if fast[1] is not None:
        print(f"\n{fast[1].recorded} recordings, {fast[1].played} steps played; {fast[1].flaw or 'no flaw'}")
    engine.close()


if __name__ == "__main__":
    main()
