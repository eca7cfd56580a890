"""The first token of a cold turn about a picture, beside the original's own way through ``chat()``.

    python -m tests.bench.bench_first_turn [--dtype bfloat16|float32] [--repeats N]

The original code runs on Transformers 4.37 only, so its way is gone here with Transformers' own modules on the same
weights, in the kernels the original takes on a CPU: eager attention in the tower, torch's fused attention in
Qwen2, logits of every position in float32. With these the native tower gives the original's features to the bit (the
project's InternVL2 facts, §4), so it computes the same. Left out on its side, to its favour: cutting the picture, the
prompt, and what ``generate`` does around a token. InternVL2-1B's geometry, random weights.

The last column is a bound: the matrix products of tower and decoder alone, at the rate of the tower's largest product
measured in the same minute, as a share of the original's time. No order of the same arithmetic gets below it.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from tests.bench.bench_engine import inputs_of, opened_1b, peer, picture
from tests.bench.bench_pictures import counted, products, seconds
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.families.tower_attention import NAME
from vlmchat.options import Sampling

SIZES = {"1 tile": (448, 448), "3 tiles (2 and a thumbnail)": (896, 448)}


def ours(engine: TorchEngine, request: Request) -> tuple[float, int]:
    """Return seconds to the first token, from empty caches and with everything from the picture's file on, and it."""
    engine.runner.forget()
    finished = list(engine.generate(request))[-1]
    assert isinstance(finished, Finished)
    return finished.timing.first_token_s, finished.token_ids[0]


@torch.inference_mode()
def original(engine: TorchEngine, inputs: dict[str, torch.Tensor]) -> tuple[float, int]:
    """Return seconds to the first token of the original's steps, and the token."""
    # The engine's own language model is arranged for its kernels, and no longer what the original has.
    about = engine.runner.model.about
    module = peer(about.folder, "cpu", about.dtype)
    vision = module.config.vision_config
    place = engine.runner.model.checkpoint.tokenizer.control("<IMG_CONTEXT>")
    vision._attn_implementation = "eager"
    start = time.perf_counter()
    features = module.model.get_image_features(
        pixel_values=inputs["pixel_values"], vision_feature_layer=-1, vision_feature_select_strategy="default"
    ).pooler_output
    embeddings = module.model.language_model.embed_tokens(inputs["input_ids"])
    embeddings[inputs["input_ids"] == place] = features.flatten(0, 1)
    hidden = module.model.language_model(inputs_embeds=embeddings, use_cache=True).last_hidden_state
    token = int(module.lm_head(hidden).float()[0, -1].argmax())
    took = time.perf_counter() - start
    vision._attn_implementation = NAME
    return took, token


def least(engine: TorchEngine, request: Request) -> float:
    """Return seconds of the matrix products that both sides do, at the rate of the largest one alone."""
    model = engine.runner.model
    prompt = model.checkpoint.layout(request.messages, request.vision)
    linears = [layer for layer in model.network.blocks().modules() if isinstance(layer, torch.nn.Linear)]
    decoder = sum(2 * layer.weight.numel() for layer in linears) * len(prompt.ids)
    tower = counted(engine) * sum(picture.tiles for picture in prompt.pictures)
    gemm, operations = products(model.dtype)
    gemm()
    return (tower + decoder) / operations * statistics.median(seconds(gemm) for _ in range(5))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    engine = opened_1b(arguments.dtype)
    print("| cold first token | vlmchat s | the original's way s | ratio | products alone |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, size in SIZES.items():
        request = Request((user("What is this?", picture(*size)),), Sampling(max_new_tokens=1))
        inputs = inputs_of(engine, request)
        pairs = [(ours(engine, request), original(engine, inputs)) for _ in range(1 + arguments.repeats)][1:]
        if arguments.dtype == "float32":
            assert pairs[0][0][1] == pairs[0][1][1], "both must say the same token"
        mine, theirs = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
        bound = least(engine, request) / theirs
        print(f"| {name} | {mine:.2f} | {theirs:.2f} | {mine / theirs:.2f} | {bound:.2f} |", flush=True)
    engine.close()


if __name__ == "__main__":
    main()
