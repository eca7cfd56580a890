"""From trained weights to a checkpoint folder in the original hub layout, as InternVL2-1B's looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlmchat.demo.network import Network, Sizes
from vlmchat.demo.optim import load_flat
from vlmchat.demo.store import TILING
from vlmchat.demo.vocabulary import CONTROL, SYSTEM_MESSAGE

POSITIONS: Final = 1024
"""Longest conversation trained on."""


def export(flat: Tensor, sizes: Sizes, folder: Path) -> None:
    """Write config, generation config and bf16 weights beside the tokenizer files in ``folder``."""
    network = Network(sizes)
    load_flat(network, flat)
    tensors = {
        name: value.to(torch.bfloat16).contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("readers.")
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (("config.json", config(sizes)), ("generation_config.json", _generation(sizes))):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _control(sizes: Sizes, token: str) -> int:
    return sizes.vocabulary - len(CONTROL) + CONTROL.index(token)


def _generation(sizes: Sizes) -> dict[str, object]:
    return {"_from_model_config": True, "eos_token_id": _control(sizes, "<|im_end|>"), "do_sample": False}


def config(sizes: Sizes) -> dict[str, object]:
    """Return config.json: the keys of the released InternVL2 configs, the values of the demo."""
    return {
        "_commit_hash": None,
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": sizes.tile,
        "llm_config": _text_config(sizes),
        "max_dynamic_patch": TILING.max_tiles,
        "min_dynamic_patch": TILING.min_tiles,
        "model_type": "internvl_chat",
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "system_message": SYSTEM_MESSAGE,
        "template": "Hermes-2",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": None,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "vision_config": _vision_config(sizes),
    }


def _text_config(sizes: Sizes) -> dict[str, object]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": _control(sizes, "<|endoftext|>"),
        "eos_token_id": _control(sizes, "<|im_end|>"),
        "hidden_act": "silu",
        "hidden_size": sizes.width,
        "initializer_range": 0.02,
        "intermediate_size": sizes.inner,
        "max_position_embeddings": POSITIONS,
        "max_window_layers": sizes.text_layers,
        "model_type": "qwen2",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.text_layers,
        "num_key_value_heads": sizes.kv_heads,
        "rms_norm_eps": sizes.norm_eps,
        "rope_theta": sizes.rope_theta,
        "sliding_window": POSITIONS,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.37.2",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": sizes.vocabulary,
    }


def _vision_config(sizes: Sizes) -> dict[str, object]:
    return {
        "architectures": ["InternVisionModel"],
        "attention_dropout": 0.0,
        "drop_path_rate": 0.0,
        "dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_size": sizes.width,
        "image_size": sizes.tile,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": sizes.inner,
        "layer_norm_eps": sizes.norm_eps,
        "model_type": "intern_vit_6b",
        "norm_type": "layer_norm",
        "num_attention_heads": sizes.heads,
        "num_channels": 3,
        "num_hidden_layers": sizes.vision_layers,
        "patch_size": sizes.patch,
        "qk_normalization": False,
        "qkv_bias": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.37.2",
        "use_bfloat16": True,
        "use_flash_attn": False,
    }
