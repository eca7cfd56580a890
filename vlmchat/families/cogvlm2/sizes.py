"""A CogVLM2 network in numbers, from its config.json (facts §2, §3). No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmchat.families.cogvlm2.sampling import MAX_FRAMES
from vlmchat.families.sizes import (
    Attention,
    Config,
    Linear,
    Packing,
    Part,
    Pictures,
    Sizes,
    gated_mlp,
)

KV_HEADS = 8
"""``num_multi_query_heads`` where config.json has none (the class default; both image repositories)."""
_ALIVE = 3
"""Tensors of the tower's width that live at once in a block, beside two of its MLP's width."""


def count(config: Config) -> Sizes:
    """Count one network.

    Raises:
        KeyError: a key is missing.
    """
    video = "CogVLMVideoForCausalLM" in config["architectures"]
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_multi_query_heads", KV_HEADS)
    shape = Attention(hidden, heads, kv_heads, hidden // heads, config["intermediate_size"])
    vision = config["vision_config"]
    return Sizes(
        decoder=Part(_layers(shape, video), 2 * hidden + shape.head_size // 2, config["num_hidden_layers"]),
        vision=(_tower(vision), Part(_adapter(vision, shape), _rest(vision, hidden))),
        ends=2 * config["vocab_size"] * hidden + hidden,
        vocabulary=config["vocab_size"],
        attention=shape,
        pictures=_pictures(vision, video),
        context_tokens=config.get("max_position_embeddings"),
        dtype=config.get("torch_dtype"),
        packing=Packing("bnb", vision=True) if config.get("quantization_config") else None,
    )


def _layers(shape: Attention, video: bool) -> tuple[Linear, ...]:
    """Return the layers of one decoder block: the language expert's, and the vision expert's for pictures."""
    fused = shape.hidden + 2 * shape.kv_heads * shape.head_size
    language = (Linear(shape.hidden, fused), Linear(shape.hidden, shape.hidden), *gated_mlp(shape.hidden, shape.inner))
    return language if video else (*language, Linear(shape.hidden, fused, bias=True), *language[1:])


def _tower(vision: Mapping[str, Any]) -> Part:
    """Count EVA2-CLIP-E."""
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    linears = (Linear(width, 3 * width, True), Linear(width, width, True))
    mlp = (Linear(width, inner, True), Linear(inner, width, True))
    return Part((*linears, *mlp), 4 * width, vision["num_hidden_layers"])


def _adapter(vision: Mapping[str, Any], shape: Attention) -> tuple[Linear, ...]:
    return Linear(vision["hidden_size"], shape.hidden), *gated_mlp(shape.hidden, shape.inner)


def _rest(vision: Mapping[str, Any], hidden: int) -> int:
    """Count patches, positions, class token, the convolution that shrinks the grid, a norm, and two marks."""
    width: int = vision["hidden_size"]
    patches = width * (int(vision["in_channels"] * vision["patch_size"] ** 2) + 1)
    shrink = width * (4 * width + 1)
    return patches + (int(vision["num_positions"]) + 1) * width + shrink + 2 * hidden + 2 * hidden


def _pictures(vision: Mapping[str, Any], video: bool) -> Pictures:
    """Count the one picture of a conversation; or the one video, each frame with its number in the prompt."""
    frames = MAX_FRAMES if video else 1
    features = frames * ((vision["image_size"] // vision["patch_size"] // 2) ** 2 + 2)
    return Pictures(
        tiles=frames,
        tokens=features + frames * video,
        features=features,
        side=vision["image_size"],
        tile_numbers=vision["num_positions"] * (_ALIVE * vision["hidden_size"] + 2 * vision["intermediate_size"]),
        most=1,
        medium="video" if video else "picture",
    )
