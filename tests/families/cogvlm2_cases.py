"""The CogVLM2 fixtures as messages and tensors, and the real checkpoints as names and shapes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.reference_cases import REFERENCE, Case
from vlmchat.conversation import Message, Picture, Video, assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.generate import Runner
from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import load_now
from vlmchat.families.family import Prompt
from vlmchat.media.image import read_picture
from vlmchat.options import Dtype, LoadOptions, Sampling, VisionOptions

ROOT = REFERENCE / "cogvlm2"
IMAGE, INT4, VIDEO = (ROOT / f"cogvlm2-{name}" for name in ("image", "image-int4", "video"))
SAMPLING = ROOT / "video_sampling"


@dataclass(frozen=True)
class CogVLM2Case(Case):
    """One conversation of a CogVLM2 fixture."""

    def messages(self) -> tuple[Message, ...]:
        """Return the conversation; the picture or clip is given with the last question."""
        told = [part for asked, answer in self.about["history"] for part in (user(asked), assistant(answer))]
        return (*told, user(self.about["query"], *self.media()))

    def media(self) -> Iterator[Picture | Video]:
        """Yield the picture, or the clip frame by frame."""
        if self.about["image"]:
            yield read_picture(self.folder / "inputs" / self.about["image"])
        if self.about["frames"]:
            frames = tuple(read_picture(self.folder / "inputs" / name) for name in self.about["frames"])
            yield Video("clip", "clip", frames)

    def request(self) -> Request:
        """Return the case as vlmchat would be asked."""
        vision = VisionOptions(template=self.about["template_version"])
        return Request(self.messages(), Sampling(max_new_tokens=16), vision)


def cogvlm2_cases(*folders: Path) -> list[CogVLM2Case]:
    """Return the float32 cases of these fixtures; of all when none is named."""
    return [
        CogVLM2Case(folder, about)
        for folder in folders or (IMAGE, INT4, VIDEO)
        for about in abouts(folder)
        if not about["name"].startswith("bf16/")
    ]


def abouts(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a fixture's cases.json."""
    cases: list[dict[str, Any]] = json.loads((folder / "cases.json").read_text(encoding="utf-8"))["cases"]
    return cases


def runner_of(folder: Path, dtype: Dtype = "float32") -> Runner:
    """Load a fixture's checkpoint on the CPU."""
    return Runner(load_now(folder / "checkpoint", LoadOptions(device="cpu", dtype=dtype)))


@dataclass(frozen=True)
class Computed:
    """What the network computes for a whole prompt in one call."""

    prompt: Prompt
    pixels: list[Tensor]
    features: list[Tensor]
    hidden: Tensor
    """[length, hidden], behind the last norm."""
    logits: Tensor


@torch.inference_mode()
def computed(runner: Runner, case: CogVLM2Case, change: Callable[[Prompt], Prompt] = lambda prompt: prompt) -> Computed:
    """Run the tower and the decoder over the whole prompt of ``case``, as ``change`` leaves it."""
    checkpoint, network = runner.model.checkpoint, runner.model.network
    request = case.request()
    prompt = change(checkpoint.layout(request.messages, request.vision))
    pixels = [checkpoint.pixels(picture).to(runner.model.dtype) for picture in prompt.pictures]
    features = [network.encode(picture) for picture in pixels]
    known = {number: encoded[0] for number, encoded in enumerate(features)}
    span = runner.passes.span(prompt, known, 0, len(prompt.ids))
    hidden = network.hidden_states(span, RowCache(network.decoder_layers()).native)[0]
    return Computed(prompt, pixels, features, hidden, network.logits(hidden))


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference between a tensor and the end of what was computed."""
    return float((found[-len(expected) :].float() - expected.float()).abs().max())


def real_tensors(video: bool) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the released checkpoints, written down from facts §3."""
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (128256, 4096),
        "lm_head.weight": (128256, 4096),
        "model.norm.weight": (4096,),
    }
    for layer in range(32):
        stem = f"model.layers.{layer}."
        tensors[stem + "input_layernorm.weight"] = tensors[stem + "post_attention_layernorm.weight"] = (4096,)
        tensors[stem + "self_attn.rotary_emb.inv_freq"] = (64,)
        for expert in ("language",) if video else ("language", "vision"):
            tensors[stem + f"self_attn.{expert}_expert_query_key_value.weight"] = (6144, 4096)
            tensors[stem + f"self_attn.{expert}_expert_dense.weight"] = (4096, 4096)
            tensors[stem + f"mlp.{expert}_mlp.gate_proj.weight"] = (14336, 4096)
            tensors[stem + f"mlp.{expert}_mlp.up_proj.weight"] = (14336, 4096)
            tensors[stem + f"mlp.{expert}_mlp.down_proj.weight"] = (4096, 14336)
        if not video:
            tensors[stem + "self_attn.vision_expert_query_key_value.bias"] = (6144,)
    return tensors | dict(_vision_tensors(257 if video else 9217))


def _vision_tensors(positions: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    stem = "model.vision."
    yield from _with_bias(stem + "patch_embedding.proj", (1792, 3, 14, 14))
    yield stem + "patch_embedding.cls_embedding", (1, 1792)
    yield stem + "patch_embedding.position_embedding.weight", (positions, 1792)
    for block in range(63):
        inside = stem + f"transformer.layers.{block}."
        yield from _with_bias(inside + "input_layernorm", (1792,))
        yield from _with_bias(inside + "post_attention_layernorm", (1792,))
        yield from _with_bias(inside + "attention.query_key_value", (5376, 1792))
        yield from _with_bias(inside + "attention.dense", (1792, 1792))
        yield from _with_bias(inside + "mlp.fc1", (15360, 1792))
        yield from _with_bias(inside + "mlp.fc2", (1792, 15360))
    yield from _with_bias(stem + "conv", (1792, 1792, 2, 2))
    yield stem + "linear_proj.linear_proj.weight", (4096, 1792)
    yield from _with_bias(stem + "linear_proj.norm1", (4096,))
    yield stem + "linear_proj.gate_proj.weight", (14336, 4096)
    yield stem + "linear_proj.dense_h_to_4h.weight", (14336, 4096)
    yield stem + "linear_proj.dense_4h_to_h.weight", (4096, 14336)
    yield stem + "boi", (1, 1, 4096)
    yield stem + "eoi", (1, 1, 4096)


def _with_bias(name: str, weight: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield name + ".weight", weight
    yield name + ".bias", weight[:1]


def packed(tensors: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of an int4 repository: every linear layer but the head in four tensors."""
    stored: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        if len(shape) != 2 or name.split(".")[-2] in (
            "embed_tokens",
            "lm_head",
            "position_embedding",
            "patch_embedding",
        ):
            stored[name] = shape
            continue
        stored[name] = (math.prod(shape) // 2, 1)
        stored[name + ".absmax"] = (math.prod(shape) // 64,)
        stored[name + ".quant_map"] = (16,)
        stored[name + ".quant_state.bitsandbytes__fp4"] = (82,)
    return stored
