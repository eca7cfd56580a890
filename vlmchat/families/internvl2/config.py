"""config.json of an InternVL2 checkpoint -> what the rest of the family works with.

Values are always the checkpoint's own; what this program has no native code for is refused here,
before a byte of weights is read (facts §1, §3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import InternVLConfig, InternVLVisionConfig

from vlmchat.families.configs import DTYPES, lookup, reading, require
from vlmchat.families.family import Config
from vlmchat.families.internvl2.language import LanguageModel
from vlmchat.families.internvl2.language import translate as translate_language
from vlmchat.families.internvl2.processing import Tiling
from vlmchat.families.internvl2.prompt import DEFAULT_SYSTEM, TEMPLATES
from vlmchat.families.turns import Template


@dataclass(frozen=True, slots=True)
class InternVL2Config:
    """One checkpoint's geometry and conversation rules."""

    native: InternVLConfig
    """For Transformers' classes; ``image_token_id`` is set by the tokenizer's owner."""
    tiling: Tiling
    tokens_per_tile: int
    template: Template
    system_message: str
    dtype: torch.dtype
    language: LanguageModel


def translate(config: Config) -> InternVL2Config:
    """Read a parsed config.json.

    Raises:
        CheckpointError: a key is missing, or has a value without a native counterpart.
    """
    with reading():
        return _translate(config)


def _translate(config: Config) -> InternVL2Config:
    require(config, "ps_version", "v2")
    require(config, "select_layer", -1)
    vision, llm = config["vision_config"], config["llm_config"]
    side = config.get("force_image_size") or vision["image_size"]
    ratio = config["downsample_ratio"]
    language = translate_language(llm)
    native = InternVLConfig(
        vision_config=_vision(vision).to_dict(),
        text_config=language.native.to_dict(),
        downsample_ratio=ratio,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    native.text_config = language.native
    return InternVL2Config(
        native=native,
        tiling=_tiling(config, side),
        tokens_per_tile=int((side // vision["patch_size"]) ** 2 * ratio**2),
        template=lookup(TEMPLATES, config["template"], "template"),
        system_message=config.get("system_message") or DEFAULT_SYSTEM,
        dtype=lookup(DTYPES, config["torch_dtype"], "torch_dtype"),
        language=language,
    )


def _tiling(config: Config, side: int) -> Tiling:
    dynamic = config["dynamic_image_size"]
    return Tiling(
        tile_size=side,
        min_tiles=config["min_dynamic_patch"] if dynamic else 1,
        max_tiles=config["max_dynamic_patch"] if dynamic else 1,
        thumbnail=bool(config["use_thumbnail"]),
    )


def _vision(vision: dict[str, Any]) -> InternVLVisionConfig:
    return InternVLVisionConfig(
        hidden_size=vision["hidden_size"],
        num_hidden_layers=vision["num_hidden_layers"],
        num_attention_heads=vision["num_attention_heads"],
        intermediate_size=vision["intermediate_size"],
        attention_bias=vision["qkv_bias"],
        use_qk_norm=vision["qk_normalization"],
        norm_type=vision["norm_type"],
        hidden_act=vision["hidden_act"],
        layer_norm_eps=vision["layer_norm_eps"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        num_channels=vision["num_channels"],
        # True makes the tower's last norm an identity, which the original does not have.
        use_mean_pooling=True,
    )
