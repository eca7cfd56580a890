"""An InternVL2 network in numbers, from its config.json (facts §1, §2). No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmchat.families.sizes import (
    Attention,
    Config,
    Linear,
    Packing,
    Part,
    Pictures,
    Sizes,
    attention_layers,
    gated_mlp,
)

_MARKS = 2
"""``<img>`` and ``</img>`` around the features of a picture."""
_ALIVE = 5
"""Tensors of the tower's width that live at once in a block, beside two of its MLP's width (measured on
the meta device: residuals, scaled outputs, the normed input)."""


def count(config: Config) -> Sizes:
    """Count one network.

    Raises:
        KeyError: a key is missing.
    """
    llm, vision = config["llm_config"], config["vision_config"]
    shape = Attention(
        hidden=llm["hidden_size"],
        heads=llm["num_attention_heads"],
        kv_heads=llm["num_key_value_heads"],
        head_size=llm["hidden_size"] // llm["num_attention_heads"],
        inner=llm["intermediate_size"],
    )
    merge = round(1 / config["downsample_ratio"])
    return Sizes(
        decoder=Part(_layers(llm, shape), 2 * shape.hidden, llm["num_hidden_layers"]),
        vision=(_tower(vision), Part((), _rest(vision, shape.hidden, merge))),
        ends=2 * llm["vocab_size"] * shape.hidden + shape.hidden,
        vocabulary=llm["vocab_size"],
        attention=shape,
        pictures=_pictures(config, merge),
        context_tokens=llm.get("max_position_embeddings"),
        dtype=config.get("torch_dtype"),
        packing=_packing(llm.get("quantization_config")),
    )


def _layers(llm: Mapping[str, Any], shape: Attention) -> tuple[Linear, ...]:
    """Return the linear layers of one decoder block; Phi-3 keeps q/k/v and gate/up fused."""
    architecture = llm["architectures"][0]
    if architecture == "Phi3ForCausalLM":
        fused = (shape.heads + 2 * shape.kv_heads) * shape.head_size
        return (
            Linear(shape.hidden, fused),
            Linear(shape.heads * shape.head_size, shape.hidden),
            Linear(shape.hidden, 2 * shape.inner),
            Linear(shape.inner, shape.hidden),
        )
    everywhere = bool(llm.get("bias" if architecture == "InternLM2ForCausalLM" else "attention_bias"))
    bias = architecture == "Qwen2ForCausalLM" or everywhere
    return *attention_layers(shape, bias, everywhere), *gated_mlp(shape.hidden, shape.inner, bool(llm.get("mlp_bias")))


def _tower(vision: Mapping[str, Any]) -> Part:
    """Count InternViT: q, k, v apart, two layers of an MLP, two scales, norms with a bias or without."""
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    bias = vision["qkv_bias"]
    linears = (*[Linear(width, width, bias)] * 3, Linear(width, width, True), *_plain_mlp(width, inner))
    norms = 4 * width if vision["norm_type"] == "layer_norm" else 2 * width
    return Part(linears, 2 * width + norms + 2 * width * vision["qk_normalization"], vision["num_hidden_layers"])


def _plain_mlp(width: int, inner: int) -> tuple[Linear, Linear]:
    return Linear(width, inner, True), Linear(inner, width, True)


def _rest(vision: Mapping[str, Any], hidden: int, merge: int) -> int:
    """Count patches, positions, class token, and the projector over ``merge`` x ``merge`` patches."""
    width, patch = int(vision["hidden_size"]), int(vision["patch_size"])
    joined = width * merge**2
    embedding = width * (int(vision.get("num_channels", 3)) * patch**2 + 1) + width
    positions = ((int(vision["image_size"]) // patch) ** 2 + 1) * width
    return embedding + positions + 2 * joined + (joined + 1) * hidden + (hidden + 1) * hidden


def _pictures(config: Config, merge: int) -> Pictures:
    vision = config["vision_config"]
    side = config.get("force_image_size") or vision["image_size"]
    patches = (side // vision["patch_size"]) ** 2
    tiles = config["max_dynamic_patch"] if config["dynamic_image_size"] else 1
    tiles += bool(config["use_thumbnail"]) and tiles > 1
    features = tiles * (patches // merge**2)
    return Pictures(
        tiles=tiles,
        tokens=features + _MARKS,
        features=features,
        side=side,
        tile_numbers=(patches + 1) * (_ALIVE * vision["hidden_size"] + 2 * vision["intermediate_size"]),
    )


def _packing(quantization: Mapping[str, Any] | None) -> Packing | None:
    return None if quantization is None else Packing("awq", quantization["bits"], quantization["group_size"])
