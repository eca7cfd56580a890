"""config.json and preprocessor_config.json of an Ovis2 checkpoint -> what the family works with.

Values are always the checkpoint's own; what this program has no native code for is refused here,
before a byte of weights is read (the project's Ovis2 facts, §3, §4, §9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Ovis2Config as NativeConfig
from transformers import Ovis2VisionConfig, Qwen2Config

from vlmchat.families.configs import DTYPES, lookup, reading, require, unusable
from vlmchat.families.family import Config
from vlmchat.families.ovis2.limits import INDICATORS
from vlmchat.families.ovis2.processing import Tiles
from vlmchat.families.packed.gptq import GptqFormat, read_format

_QWEN2_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip
"""What decides Qwen2's numbers, beside ``rope_theta``; the rest of the dump is generation defaults."""


@dataclass(frozen=True, slots=True)
class Ovis2Config:
    """One checkpoint's geometry."""

    native: NativeConfig
    """For Transformers' class; its tie is off, :attr:`tied` decides."""
    tied: bool
    """The output head is the token embedding, whatever ``lm_head`` the files hold."""
    packing: GptqFormat | None
    """How the language model's linear layers are quantized; None where they are not."""
    tiles: Tiles
    tokens_per_tile: int
    """Visual words of one tile: its patches in squares of ``hidden_stride``."""
    dtype: torch.dtype
    context_tokens: int


def translate(config: Config, preprocessor: Config, quantization: Config | None) -> Ovis2Config:
    """Read the parsed config.json, preprocessor_config.json and, in GPTQ repositories, quantization config.

    Raises:
        CheckpointError: a key is missing, or has a value without a native counterpart.
    """
    with reading():
        visual, llm = config["visual_tokenizer_config"], config["llm_config"]
        native = NativeConfig(
            vision_config=_vision(visual).to_dict(),
            text_config=_language_model(config).to_dict(),
            hidden_size=llm["hidden_size"],
            vocab_size=llm["vocab_size"],
            tie_word_embeddings=False,
        )
        tiles = _tiles(preprocessor)
        vision = native.vision_config
        _check_heads(native)
        if tiles.side != vision.image_size:
            raise unusable(f"has image_size {vision.image_size}, but preprocessor_config.json cuts {tiles.side} pixels")
        return Ovis2Config(
            native=native,
            tied=bool(llm["tie_word_embeddings"]) and not config.get("disable_tie_weight", False),
            packing=None if quantization is None else read_format(quantization),
            tiles=tiles,
            tokens_per_tile=(-(-(tiles.side // vision.patch_size) // vision.hidden_stride)) ** 2,
            dtype=lookup(DTYPES, config["torch_dtype"], "torch_dtype"),
            context_tokens=config["multimodal_max_length"],
        )


def _language_model(config: Config) -> Qwen2Config:
    llm = config["llm_config"]
    require(config, "hidden_size", llm["hidden_size"])
    require(llm, "model_type", "qwen2")
    require(llm, "use_sliding_window", None, False)
    require(llm, "rope_scaling", None)
    return Qwen2Config(
        **{key: llm[key] for key in _QWEN2_KEYS},
        rope_parameters={"rope_type": "default", "rope_theta": llm["rope_theta"]},
        use_sliding_window=False,
        tie_word_embeddings=False,
        # Token ids are the tokenizer's business; Transformers would check its defaults against vocab_size.
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )


def _vision(visual: Mapping[str, Any]) -> Ovis2VisionConfig:
    backbone = visual["backbone_config"]
    require(visual, "model_type", "aimv2_visual_tokenizer")
    require(visual, "tokenize_function", "softmax")
    for key in ("drop_cls_token", "use_indicators"):
        require(visual, key, False, None)
    require(visual, "depths", None)
    # Natively one flag rules both; they are the same in every known checkpoint.
    require(backbone, "use_bias", backbone["qkv_bias"])
    return Ovis2VisionConfig(
        hidden_size=backbone["hidden_size"],
        intermediate_size=backbone["intermediate_size"],
        num_hidden_layers=backbone["num_hidden_layers"],
        num_attention_heads=backbone["num_attention_heads"],
        num_channels=backbone["num_channels"],
        image_size=backbone["image_size"],
        patch_size=backbone["patch_size"],
        rms_norm_eps=backbone["rms_norm_eps"],
        qkv_bias=backbone["qkv_bias"],
        mlp_bias=backbone["use_bias"],
        hidden_act="silu",
        vocab_size=visual["vocab_size"],
        hidden_stride=visual["hidden_stride"],
        num_visual_indicator_tokens=INDICATORS,
        tokenize_function="softmax",
    )


def _check_heads(native: NativeConfig) -> None:
    for part in (native.text_config, native.vision_config):
        if part.hidden_size % part.num_attention_heads:
            raise unusable(f"has num_attention_heads {part.num_attention_heads} for hidden_size {part.hidden_size}")
    text = native.text_config
    if text.num_attention_heads % text.num_key_value_heads:
        raise unusable(f"has num_key_value_heads {text.num_key_value_heads} for {text.num_attention_heads} heads")


def _tiles(preprocessor: Config) -> Tiles:
    """Read CLIPImageProcessor's settings; its ``crop_size`` is what Ovis2 takes for the side of a tile."""
    for key, value in (("do_rescale", True), ("do_normalize", True), ("do_center_crop", False), ("resample", 3)):
        require(preprocessor, key, value)
    crop = preprocessor["crop_size"]
    require(crop, "width", crop["height"])
    red, green, blue = preprocessor["image_mean"]
    mean = (float(red), float(green), float(blue))
    red, green, blue = preprocessor["image_std"]
    std = (float(red), float(green), float(blue))
    return Tiles(crop["height"], float(preprocessor["rescale_factor"]), mean, std)
