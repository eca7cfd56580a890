"""config.json of a Transformers checkpoint -> the native class that runs it, where this program can prove it does.

An architecture is in :data:`SUPPORTED` when ``tests/families/test_generic.py`` compares its prompts, features,
logits and greedy tokens through the engine with Transformers' own. What else Transformers has may need what the
engine does not give (cross-attention, features added in several layers, states instead of keys and values) and
would answer with wrong numbers instead of failing, so it is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from vlmchat.errors import CheckpointError
from vlmchat.families.configs import DTYPES, reading, unusable
from vlmchat.families.family import Config


@dataclass(frozen=True, slots=True)
class Traits:
    """What an architecture asks for beyond features in place of placeholder tokens."""

    grid_positions: bool = False
    """Rotary positions have three axes, and a feature's are its row and column (M-RoPE, arXiv:2409.12191)."""
    joined_pictures: bool = False
    """The features of one picture attend to each other in both directions."""


SUPPORTED: Mapping[str, Traits] = {
    "gemma3": Traits(joined_pictures=True),
    "idefics3": Traits(),
    "internvl": Traits(),
    "llava": Traits(),
    "llava_next": Traits(),
    "qwen2_5_vl": Traits(grid_positions=True),
    "qwen2_vl": Traits(grid_positions=True),
    "smolvlm": Traits(),
}
"""Proven architectures by ``model_type``: the ``-hf`` repositories of LLaVA 1.5 and 1.6 (NeXT) and of InternVL,
SmolVLM and Idefics 3, Qwen2-VL and Qwen2.5-VL, Gemma 3 from 4B on."""

LANGUAGE_MODELS = frozenset(
    {"gemma3_text", "llama", "mistral", "qwen2", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3"}
)  # fmt: skip
"""Text models whose layers keep keys and values and nothing else, as the engine's cache does."""

_STEADY_ROTARY = frozenset({"default", "linear", "llama3", "mrope", "yarn"})
"""Rotary tables that do not depend on the length of one call; the engine computes a prompt in chunks."""


@dataclass(frozen=True, slots=True)
class GenericConfig:
    """One checkpoint's architecture and the figures the engine asks for."""

    native: PreTrainedConfig
    architecture: type[Any]
    """Transformers' class, built with ``_from_config``."""
    traits: Traits
    placeholder_id: int
    """Token that stands at every feature position."""
    merge: int
    """Patches along each side that become one feature, where positions follow the grid; 1 elsewhere."""
    dtype: torch.dtype | None
    context_tokens: int
    kv_elements_per_token: int


def concerns(config: Config) -> bool:
    """Say whether this is a config.json of Transformers: it has a class for it, or code in the repository has."""
    return config.get("model_type") in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or "auto_map" in config


def translate(config: Config) -> GenericConfig:
    """Read a parsed config.json; code that it names is never run.

    Raises:
        CheckpointError: it needs code from its repository, is of an architecture that is not proven, or lacks
            a key.
    """
    kind = _proven(config)
    with reading():
        native = CONFIG_MAPPING[kind].from_dict(dict(config))
        text = native.get_text_config()
        _check_language_model(text)
        head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        traits = SUPPORTED[kind]
        return GenericConfig(
            native=native,
            architecture=MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(native)],
            traits=traits,
            placeholder_id=native.image_token_id,
            merge=native.vision_config.spatial_merge_size if traits.grid_positions else 1,
            dtype=_dtype(config),
            context_tokens=text.max_position_embeddings,
            kv_elements_per_token=text.num_hidden_layers * 2 * text.num_key_value_heads * head_size,
        )


def _proven(config: Config) -> str:
    """Return the ``model_type`` of ``config``, or refuse it for the first thing that stands against it."""
    kind = str(config.get("model_type"))
    named = [str(name) for name in config.get("architectures") or ()]
    native = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
    if native is None or (named and native not in named):
        what = ", ".join(named) or kind
        if "auto_map" in config:
            raise _refused(f"{what} runs only with Python code from its own repository, which is never executed here")
        raise _refused(f"{what} is no architecture that Transformers runs natively from pictures and text")
    if kind not in SUPPORTED:
        raise _refused(f"{native} is native to Transformers, but this program has not proven its numbers with it")
    if "quantization_config" in config:
        raise _refused(f"This {native} is stored quantized, which is not proven for its architecture")
    return kind


def _check_language_model(text: PreTrainedConfig) -> None:
    """Refuse text models whose cache or rotary table the engine does not reproduce.

    Raises:
        CheckpointError: naming the text model or its rotary table.
    """
    if text.model_type not in LANGUAGE_MODELS:
        raise unusable(f"has a {text.model_type} text model; proven are {', '.join(sorted(LANGUAGE_MODELS))}")
    if unsteady := sorted(set(_rotary_types(text.rope_parameters)) - _STEADY_ROTARY):
        raise unusable(f"has a {unsteady[0]} rotary table, which is not proven here")


def _rotary_types(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kinds of rotary tables, of each layer type where they differ."""
    if "rope_type" in parameters:
        yield parameters["rope_type"]
    for value in parameters.values():
        if isinstance(value, Mapping):
            yield from _rotary_types(value)


def _dtype(config: Config) -> torch.dtype | None:
    word = config.get("dtype") or config.get("torch_dtype")
    return DTYPES.get(str(word))


def _refused(why: str) -> CheckpointError:
    return CheckpointError(f"{why}.", f"It runs {', '.join(sorted(SUPPORTED))}; `vlmchat models` lists the others.")
