"""Checkpoints of real geometry with random weights, in the original hub layout, built on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.reference_cases import QWEN2

INTERNVL2_1B = {
    "vision": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "image_size": 448,
    },
    "language": {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151655,
    },
}  # fmt: skip
"""InternVL2-1B: InternViT-300M and Qwen2-0.5B (facts §1)."""
CLASS_8B = {
    "vision": INTERNVL2_1B["vision"],
    "language": {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 92553,
    },
}  # fmt: skip
"""InternVL2-8B's numbers in Qwen2's modules, which the builder knows: the same sizes of every matrix."""


def build_internvl2(
    folder: Path, geometry: dict[str, dict[str, int]], dtype: torch.dtype, *, random: bool = True
) -> Path:
    """Write a checkpoint of ``geometry`` to ``folder`` unless it is there; tokenizer of the fixture.

    ``random`` False fills it with zeros, which is much faster, for tests that measure memory only.
    """
    if (folder / "model.safetensors").exists():
        return folder
    shutil.copytree(QWEN2 / "checkpoint", folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= geometry["vision"]
    config["llm_config"] |= geometry["language"]
    config |= {"force_image_size": geometry["vision"]["image_size"], "torch_dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    shapes = original_shapes(geometry)
    if random:
        tensors = {name: _random(name, shape).to(dtype) for name, shape in shapes.items()}
    else:
        tensors = {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def _random(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    return torch.randn(shape) * 0.02 + around


def original_shapes(geometry: dict[str, dict[str, int]]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of an InternVL2 checkpoint with a Qwen2 language model."""
    vision, llm = geometry["vision"], geometry["language"]
    return _vision_shapes(vision) | _projector_shapes(vision, llm) | _language_shapes(llm)


def _vision_shapes(vision: dict[str, int]) -> dict[str, tuple[int, ...]]:
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, width),
        "vision_model.embeddings.position_embedding": (1, (vision["image_size"] // 14) ** 2 + 1, width),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.patch_embedding.bias": (width,),
    }
    for block in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{block}."
        for name, out, inside in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width), ("mlp.fc1", inner, width),
            ("mlp.fc2", width, inner),
        ):  # fmt: skip
            shapes |= {f"{at}{name}.weight": (out, inside), f"{at}{name}.bias": (out,)}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1", "ls2"):
            shapes[at + name] = (width,)
    return shapes


def _projector_shapes(vision: dict[str, int], llm: dict[str, int]) -> dict[str, tuple[int, ...]]:
    shuffled, hidden = 4 * vision["hidden_size"], llm["hidden_size"]
    return {
        "mlp1.0.weight": (shuffled,), "mlp1.0.bias": (shuffled,), "mlp1.1.weight": (hidden, shuffled),
        "mlp1.1.bias": (hidden,), "mlp1.3.weight": (hidden, hidden), "mlp1.3.bias": (hidden,),
    }  # fmt: skip


def _language_shapes(llm: dict[str, int]) -> dict[str, tuple[int, ...]]:
    hidden, inner = llm["hidden_size"], llm["intermediate_size"]
    keys = hidden // llm["num_attention_heads"] * llm["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "language_model.model.embed_tokens.weight": (llm["vocab_size"], hidden),
        "language_model.lm_head.weight": (llm["vocab_size"], hidden),
        "language_model.model.norm.weight": (hidden,),
    }
    for layer in range(llm["num_hidden_layers"]):
        at = f"language_model.model.layers.{layer}."
        for name, out, inside in (
            ("self_attn.q_proj", hidden, hidden), ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden), ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden), ("mlp.up_proj", inner, hidden), ("mlp.down_proj", hidden, inner),
        ):  # fmt: skip
            shapes[f"{at}{name}.weight"] = (out, inside)
            if name[-6] in "qkv" and name.startswith("self_attn"):
                shapes[f"{at}{name}.bias"] = (out,)
        shapes |= {at + name: (hidden,) for name in ("input_layernorm.weight", "post_attention_layernorm.weight")}
    return shapes
