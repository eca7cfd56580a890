"""The language models InternVL2 comes with, as Transformers configs (facts §1, §3).

InternLM2 is Llama with other names and a fused q/k/v; Qwen2, Llama and Phi-3 are themselves. What
decides their numbers is taken from the checkpoint; the rest of the dump are generation defaults
of Transformers 4.37 and stays unread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from transformers import LlamaConfig, Phi3Config, Qwen2Config
from transformers.configuration_utils import PreTrainedConfig

from vlmchat.families.internvl2 import weights
from vlmchat.families.mapping import Rule

Regime: TypeAlias = Callable[[int], Hashable]
"""Prompt length -> which rotary table it is computed with; None for tables that never change."""

_GEOMETRY = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """One language model, understood."""

    native: PreTrainedConfig
    rules: tuple[Rule, ...]
    context_tokens: int
    regime: Regime
    awq_group: int | None
    """Input features that share a scale in an AWQ checkpoint; None for full-precision weights."""


def translate(llm: Mapping[str, Any]) -> LanguageModel:
    """Read ``llm_config``.

    Raises:
        KeyError: a key is missing.
        ValueError: a value has no native counterpart; the message says which.
    """
    architecture = llm["architectures"][0]
    if architecture not in _READERS:
        raise ValueError(f"the language model {architecture} is not one of {', '.join(_READERS)}")
    if llm.get("use_sliding_window"):
        raise ValueError("use_sliding_window has no native code here")
    return _READERS[architecture](llm)


def _qwen2(llm: Mapping[str, Any]) -> LanguageModel:
    native = Qwen2Config(**_shared(llm), rope_parameters=_plain_rope(llm), use_sliding_window=False)
    return _described(llm, native, weights.PLAIN_RULES)


def _llama(llm: Mapping[str, Any]) -> LanguageModel:
    native = LlamaConfig(
        **_shared(llm),
        rope_parameters=_plain_rope(llm),
        attention_bias=bool(llm.get("attention_bias")),
        mlp_bias=bool(llm.get("mlp_bias")),
    )
    return _described(llm, native, weights.PLAIN_RULES)


def _internlm2(llm: Mapping[str, Any]) -> LanguageModel:
    scaling = llm.get("rope_scaling")
    rope = _plain_rope(llm) if scaling is None else _dynamic_rope(llm, scaling)
    native = LlamaConfig(**_shared(llm), rope_parameters=rope, attention_bias=bool(llm["bias"]))
    rules = weights.internlm2_rules(llm["num_attention_heads"], llm["num_key_value_heads"])
    if scaling is None:
        return _described(llm, native, rules)
    trained = llm["max_position_embeddings"]
    # Above the trained length the base grows with every token, so each length has its own table.
    return _described(
        llm,
        native,
        rules,
        context=int(trained * scaling["factor"]),
        regime=lambda length: length if length > trained else None,
    )


def _phi3(llm: Mapping[str, Any]) -> LanguageModel:
    scaling = llm.get("rope_scaling")
    if scaling is None:
        native = Phi3Config(**_shared(llm), rope_parameters=_plain_rope(llm), sliding_window=None)
        return _described(llm, native, weights.PLAIN_RULES)
    if scaling["type"] not in ("su", "longrope"):
        raise ValueError(f"rope_scaling type {scaling['type']!r} has no native code here")
    trained: int = llm["original_max_position_embeddings"]
    rope = {
        "rope_type": "longrope",
        "rope_theta": llm["rope_theta"],
        "short_factor": scaling["short_factor"],
        "long_factor": scaling["long_factor"],
        "original_max_position_embeddings": trained,
    }
    native = Phi3Config(
        **_shared(llm), original_max_position_embeddings=trained, rope_parameters=rope, sliding_window=None
    )
    return _described(llm, native, weights.PLAIN_RULES, regime=lambda length: length > trained)


_READERS: dict[str, Callable[[Mapping[str, Any]], LanguageModel]] = {
    "Qwen2ForCausalLM": _qwen2,
    "LlamaForCausalLM": _llama,
    "InternLM2ForCausalLM": _internlm2,
    "Phi3ForCausalLM": _phi3,
}


def _shared(llm: Mapping[str, Any]) -> dict[str, Any]:
    # Token ids are the tokenizer's business; Transformers would check its defaults against vocab_size.
    ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return {key: llm[key] for key in _GEOMETRY} | {"tie_word_embeddings": False} | ids


def _plain_rope(llm: Mapping[str, Any]) -> dict[str, Any]:
    if llm.get("rope_scaling"):
        raise ValueError(f"rope_scaling {llm['rope_scaling']} has no native code for {llm['architectures'][0]}")
    return {"rope_type": "default", "rope_theta": llm["rope_theta"]}


def _dynamic_rope(llm: Mapping[str, Any], scaling: Mapping[str, Any]) -> dict[str, Any]:
    if scaling["type"] != "dynamic":
        raise ValueError(f"rope_scaling type {scaling['type']!r} has no native code here")
    return {"rope_type": "dynamic", "rope_theta": llm["rope_theta"], "factor": scaling["factor"]}


def _described(
    llm: Mapping[str, Any],
    native: PreTrainedConfig,
    rules: tuple[Rule, ...],
    context: int | None = None,
    regime: Regime = lambda length: None,
) -> LanguageModel:
    limit = context or llm["max_position_embeddings"]
    return LanguageModel(native, rules, limit, regime, _awq_group(llm.get("quantization_config")))


def _awq_group(quantization: Mapping[str, Any] | None) -> int | None:
    """Return the group size of an AWQ checkpoint, None where nothing is quantized."""
    if quantization is None:
        return None
    expected = {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}
    for key, value in expected.items():
        found = quantization[key]
        if (found.lower() if isinstance(found, str) else found) != value:
            raise ValueError(f"quantization {key} {found!r} has no native code here; {value!r} has")
    group: int = quantization["group_size"]
    return group
