"""Decode and prefill beside Transformers' own ``generate`` on the same weights, in one run.

``python -m tests.bench.bench_engine [--model demo|1b|8b|FOLDER] [--device cpu|cuda] [--quantization none|8-bit|4-bit]
[--threads N]`` prints the table of the README: medians over alternating runs, and the ratio. ``generate`` always has
the weights as stored.
Run it alone: a second process on a core makes torch's threads wait for each other. ``1b`` is a random checkpoint of
InternVL2-1B's geometry.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import vlmchat
from tests.bench.checkpoints import CLASS_8B, INTERNVL2_1B, build_internvl2
from vlmchat.conversation import Picture, user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.loader import load_now
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.media.image import read_picture
from vlmchat.options import Dtype, LoadOptions, Sampling, VisionOptions

NEW_TOKENS = 64
PROMPT_WORDS = 400


@dataclass(frozen=True)
class Speed:
    """One answer: tokens per second of prefill (pictures included) and of decode."""

    prefill: float
    decode: float


def ours(engine: TorchEngine, request: Request) -> Speed:
    """Answer cold through the event stream, the path of every front end."""
    engine.runner.forget()
    finished = list(engine.generate(request))[-1]
    assert isinstance(finished, Finished)
    return Speed(finished.usage.prompt_tokens / finished.timing.first_token_s, finished.timing.decode_tokens_per_s)


def plain(engine: TorchEngine, request: Request) -> Speed:
    """Answer with ``generate`` on the same weights: once for one token, once for all."""
    inputs = inputs_of(engine, request)

    def timed(tokens: int) -> float:
        start = time.perf_counter()
        generated(engine, inputs, max_new_tokens=tokens, min_new_tokens=tokens)
        return time.perf_counter() - start

    count = request.sampling.max_new_tokens
    first, whole = timed(1), timed(count)
    return Speed(inputs["input_ids"].shape[1] / first, (count - 1) / (whole - first))


def inputs_of(engine: TorchEngine, request: Request) -> dict[str, torch.Tensor]:
    """Return ids and pixels of ``request`` for Transformers' ``generate``."""
    model = engine.runner.model
    prompt = model.checkpoint.layout(request.messages, request.vision)
    inputs = {"input_ids": torch.tensor([prompt.ids], device=model.device)}
    if prompt.pictures:
        pixels = torch.cat([model.checkpoint.pixels(picture) for picture in prompt.pictures])
        inputs["pixel_values"] = pixels.to(model.device, model.dtype)
    return inputs


@torch.inference_mode()
def generated(engine: TorchEngine, inputs: dict[str, torch.Tensor], **options: object) -> torch.Tensor:
    """Run Transformers' ``generate``, greedily; returns the new ids."""
    model = engine.runner.model
    module = peer(model.about.folder, model.about.device, model.about.dtype)
    module.config.image_token_id = model.checkpoint.tokenizer.control("<IMG_CONTEXT>")
    found: torch.Tensor = module.generate(**inputs, do_sample=False, pad_token_id=0, **options)
    return found[0, inputs["input_ids"].shape[1] :]


@lru_cache(1)
def peer(folder: Path, device: str, dtype: Any) -> Any:
    """Return Transformers' module with the weights of ``folder`` as stored: the engine lays its own out anew."""
    return load_now(folder, LoadOptions(device=device, dtype=dtype)).network.module


def picture(width: int, height: int) -> Picture:
    """Return a noisy picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.png"
        Image.effect_noise((width, height), 80).convert("RGB").save(path)
        return read_picture(path)


def opened_1b(dtype: Dtype) -> TorchEngine:
    """Load InternVL2-1B's geometry on the CPU, and print on what it runs."""
    engine = TorchEngine()
    for _ in engine.load(folder_of("1b"), LoadOptions(device="cpu", dtype=dtype)):
        pass
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, {dtype}\n")
    return engine


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantization", default="none")
    parser.add_argument("--threads", type=int, help="instead of the engine's choice")
    parser.add_argument("--tokens", type=int, default=NEW_TOKENS, help="decoded in each answer")
    arguments = parser.parse_args()
    engine = TorchEngine()
    options = LoadOptions(device=arguments.device, dtype=arguments.dtype, quantization=arguments.quantization)
    for _ in engine.load(folder_of(arguments.model), options):
        pass
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    # Nothing stops the answer early: every run decodes the same number of tokens.
    engine.runner.model.checkpoint.stop_ids = frozenset()
    words = min(PROMPT_WORDS, engine.runner.model.checkpoint.context_tokens // 8)
    requests = {
        "text": Request((user("red " * words),), Sampling(max_new_tokens=arguments.tokens)),
        "picture": Request(
            (user("What is this?", picture(448, 448)),),
            Sampling(max_new_tokens=arguments.tokens),
            VisionOptions(max_tiles=1),
        ),
    }
    about = engine.runner.model.about
    where = torch.cuda.get_device_name() if about.device.startswith("cuda") else platform.machine()
    print(f"{where}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    held = f"{about.dtype}, {about.quantization}, {about.weight_bytes / 1e6:,.0f} MB"
    print(f"{arguments.model}: {held}, medians of {arguments.repeats}\n")
    print("| | vlmchat tok/s | generate tok/s | ratio |\n| --- | ---: | ---: | ---: |")
    for name, request in requests.items():
        pairs = [(ours(engine, request), plain(engine, request)) for _ in range(arguments.repeats + 1)][1:]
        for what in ("prefill", "decode"):
            mine, theirs = (statistics.median(getattr(pair[side], what) for pair in pairs) for side in (0, 1))
            print(f"| {what}, {name} | {mine:,.0f} | {theirs:,.0f} | {mine / theirs:.2f} |")


def folder_of(model: str) -> Path:
    """Return the embedded model, a built checkpoint, or a folder as it is."""
    if model == "demo":
        return Path(vlmchat.__file__).parent / "demo" / "checkpoint"
    if model == "1b":
        return build_internvl2(Path(tempfile.gettempdir()) / "vlmchat-bench-1b", INTERNVL2_1B, torch.bfloat16)
    if model == "8b":
        return build_internvl2(Path(tempfile.gettempdir()) / "vlmchat-bench-8b", CLASS_8B, torch.bfloat16)
    return Path(model)


if __name__ == "__main__":
    main()
