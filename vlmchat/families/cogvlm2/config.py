"""config.json of a CogVLM2 checkpoint -> what the rest of the family works with (facts §1, §2).

The hub's files have no ``model_type``; CogVLM v1 uses the same class name with another tower,
tokenizer and vocabulary, and is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from transformers.activations import ACT2FN

from vlmchat.errors import CheckpointError
from vlmchat.families.cogvlm2.sizes import KV_HEADS
from vlmchat.families.configs import DTYPES, lookup, reading, require, unusable
from vlmchat.families.family import Config
from vlmchat.options import Template

IMAGE, VIDEO = "CogVLMForCausalLM", "CogVLMVideoForCausalLM"
ARCHITECTURES = (IMAGE, VIDEO)
_V1_VOCABULARY, _V1_SIDE = 32000, 490
"""CogVLM v1 sits on Vicuna and reads pictures of 490 x 490 pixels; no CogVLM2 does either."""


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Geometry of the vision tower."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    channels: int
    patch: int
    """Side of a patch in pixels."""
    side: int
    """Side of the square picture in pixels."""
    positions: int
    """Rows of the position table: one per patch, and the class token."""
    activation: str
    norm_eps: float

    @property
    def features(self) -> int:
        """Features of one picture: patches in squares of two (an odd last row falls away), begin and end."""
        return (self.side // self.patch // 2) ** 2 + 2


@dataclass(frozen=True, slots=True)
class CogVLM2Config:
    """One checkpoint's geometry and conversation rules."""

    vision: VisionConfig
    video: bool
    """A clip instead of a picture; the decoder then has no vision experts."""
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    activation: str
    norm_eps: float
    quantized: bool
    """Linear layers are stored as bitsandbytes fp4."""
    dtype: torch.dtype | None
    """``torch_dtype``, where the file has it."""
    template: Template
    bos_id: int
    placeholder_id: int
    """The pad id, which stands at feature positions (128002 in every released checkpoint)."""
    stop_ids: frozenset[int]
    context_tokens: int

    @property
    def head_size(self) -> int:
        """Numbers per attention head."""
        return self.hidden // self.heads


def translate(config: Config) -> CogVLM2Config:
    """Read a parsed config.json.

    Raises:
        CheckpointError: it is CogVLM v1, a key is missing, or has a value without native code.
    """
    with reading():
        _refuse_v1(config)
        require(config, "tie_word_embeddings", None, False)
        return _translate(config, video=VIDEO in config["architectures"])


def _translate(config: Config, video: bool) -> CogVLM2Config:
    stops = config["eos_token_id"]
    dtype = config.get("torch_dtype")
    translated = CogVLM2Config(
        vision=_vision(config["vision_config"]),
        video=video,
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_multi_query_heads", KV_HEADS),
        vocabulary=config["vocab_size"],
        activation=_activation(config["hidden_act"]),
        norm_eps=config["rms_norm_eps"],
        quantized=_is_quantized(config),
        dtype=None if dtype is None else lookup(DTYPES, dtype, "torch_dtype"),
        template=lookup({name: name for name in get_args(Template)}, config["template_version"], "template_version"),
        bos_id=config["bos_token_id"],
        placeholder_id=config["pad_token_id"],
        stop_ids=frozenset(stops if isinstance(stops, list) else [stops]),
        context_tokens=config["max_position_embeddings"],
    )
    _check_heads(translated)
    return translated


def _vision(vision: Mapping[str, Any]) -> VisionConfig:
    read = VisionConfig(
        hidden=vision["hidden_size"],
        intermediate=vision["intermediate_size"],
        layers=vision["num_hidden_layers"],
        heads=vision["num_heads"],
        channels=vision["in_channels"],
        patch=vision["patch_size"],
        side=vision["image_size"],
        positions=vision["num_positions"],
        activation=_activation(vision["hidden_act"]),
        norm_eps=vision["layer_norm_eps"],
    )
    if (read.side // read.patch) ** 2 + 1 != read.positions:
        raise unusable(f"has num_positions {read.positions} for pictures of {read.side} pixels")
    return read


def _activation(name: str) -> str:
    if name not in ACT2FN:
        raise unusable(f"has hidden_act {name!r}, which Transformers does not know")
    return name


def _check_heads(config: CogVLM2Config) -> None:
    for name, whole, part in (
        ("num_attention_heads", config.hidden, config.heads),
        ("num_multi_query_heads", config.heads, config.kv_heads),
        ("num_heads", config.vision.hidden, config.vision.heads),
    ):
        if whole % part:
            raise unusable(f"has {name} {part}, which does not divide {whole}")


def _refuse_v1(config: Config) -> None:
    if config["vocab_size"] == _V1_VOCABULARY or config["vision_config"]["image_size"] == _V1_SIDE:
        raise CheckpointError(
            "The checkpoint is of CogVLM, the first version, which this program cannot run.",
            "Use a CogVLM2 checkpoint; `vlmchat models` lists them.",
        )


def _is_quantized(config: Config) -> bool:
    """Say whether layers are bitsandbytes fp4; other ways to quantize are refused."""
    scheme: Mapping[str, Any] | None = config.get("quantization_config")
    if scheme is None:
        return False
    require(scheme, "quant_method", "bitsandbytes")
    require(scheme, "load_in_4bit", True)
    require(scheme, "bnb_4bit_quant_type", "fp4")
    require(scheme, "bnb_4bit_quant_storage", None, "uint8")
    require(scheme, "bnb_4bit_use_double_quant", None, False)
    require(scheme, "llm_int8_skip_modules", None, ["lm_head"])
    return True
