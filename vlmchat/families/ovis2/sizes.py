"""An Ovis2 network in numbers, from its config.json (the project's Ovis2 facts, §2 to §4). No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmchat.families.ovis2.limits import INDICATORS, MAX_CELLS_ALONE
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

_ALIVE = 4
"""Tensors of the tower's width that live at once in a block, beside three of its MLP's width."""
_WORDS_ALIVE = 2
"""Tensors over the visual vocabulary that live at once: probabilities before and behind padding."""


def count(config: Config) -> Sizes:
    """Count one network.

    Raises:
        KeyError: a key is missing.
    """
    llm, visual = config["llm_config"], config["visual_tokenizer_config"]
    shape = Attention(
        hidden=llm["hidden_size"],
        heads=llm["num_attention_heads"],
        kv_heads=llm["num_key_value_heads"],
        head_size=llm["hidden_size"] // llm["num_attention_heads"],
        inner=llm["intermediate_size"],
    )
    tied = bool(llm["tie_word_embeddings"]) and not config.get("disable_tie_weight", False)
    linears = (*attention_layers(shape, bias=True), *gated_mlp(shape.hidden, shape.inner))
    return Sizes(
        decoder=Part(linears, 2 * shape.hidden, llm["num_hidden_layers"]),
        vision=(_tower(visual["backbone_config"]), Part((), _rest(visual, shape.hidden))),
        ends=(1 if tied else 2) * llm["vocab_size"] * shape.hidden + shape.hidden,
        vocabulary=llm["vocab_size"],
        attention=shape,
        pictures=_pictures(visual),
        context_tokens=config.get("multimodal_max_length"),
        dtype=config.get("torch_dtype"),
        packing=_packing(config.get("quantization_config")),
        tied=tied,
    )


def _tower(backbone: Mapping[str, Any]) -> Part:
    """Count AIMv2 without the norm behind its last block, which Ovis2 does not read."""
    width, bias = backbone["hidden_size"], backbone["qkv_bias"]
    linears = (*[Linear(width, width, bias)] * 4, *gated_mlp(width, backbone["intermediate_size"], bias))
    return Part(linears, 2 * width, backbone["num_hidden_layers"])


def _rest(visual: Mapping[str, Any], hidden: int) -> int:
    """Count the patches' embedding, the head over the visual words, and the words' embeddings."""
    backbone = visual["backbone_config"]
    width, patch = int(backbone["hidden_size"]), int(backbone["patch_size"])
    embedding = width * (int(backbone.get("num_channels", 3)) * patch**2 + 1) + width
    positions = (int(backbone["image_size"]) // patch) ** 2 * width
    vocabulary, stride = int(visual["vocab_size"]), int(visual["hidden_stride"])
    words = vocabulary - INDICATORS
    head = words * (stride**2 * width + 2)
    return embedding + positions + head + vocabulary * hidden


def _pictures(visual: Mapping[str, Any]) -> Pictures:
    backbone, stride = visual["backbone_config"], visual["hidden_stride"]
    patches = (backbone["image_size"] // backbone["patch_size"]) ** 2
    words = (-(-(backbone["image_size"] // backbone["patch_size"]) // stride)) ** 2
    tiles = MAX_CELLS_ALONE + 1
    return Pictures(
        tiles=tiles,
        # Begin, end, one behind the thumbnail, and one between each two neighbours in a row or column of rows.
        tokens=tiles * words + 3 + MAX_CELLS_ALONE - 1,
        features=tiles * words,
        side=backbone["image_size"],
        tile_numbers=patches * (_ALIVE * backbone["hidden_size"] + 3 * backbone["intermediate_size"]),
        word_numbers=_WORDS_ALIVE * words * visual["vocab_size"],
    )


def _packing(quantization: Mapping[str, Any] | None) -> Packing | None:
    if quantization is None:
        return None
    return Packing("gptq", quantization["bits"], quantization.get("group_size", 128))
