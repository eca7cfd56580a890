"""Original CogVLM2 tensor names -> parameters of the native network (facts §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlmchat.families.mapping import Rule
from vlmchat.families.packed.bnb4 import padded_state

_LAYER = r"model\.layers\.(\d+)\."
_BLOCK = r"model\.vision\.transformer\.layers\.(\d+)\."
_EXPERT = r"(language|vision)_expert_"

_LANGUAGE_RULES = (
    Rule(r"model\.(embed_tokens|norm)\.weight", (r"\1.weight",)),
    Rule(r"lm_head\.weight", ("lm_head.weight",)),
    Rule(_LAYER + r"(input|post_attention)_layernorm\.weight", (r"layers.\1.\2_norm.weight",)),
    Rule(_LAYER + r"self_attn\.rotary_emb\.inv_freq", (r"layers.\1.attention.inv_freq",)),
)
_LANGUAGE_LINEARS = (
    Rule(_LAYER + r"self_attn\." + _EXPERT + r"query_key_value\.weight", (r"layers.\1.attention.\2.qkv.weight",)),
    Rule(_LAYER + r"self_attn\." + _EXPERT + r"dense\.weight", (r"layers.\1.attention.\2.dense.weight",)),
    Rule(_LAYER + r"mlp\.(language|vision)_mlp\.(gate|up|down)_proj\.weight", (r"layers.\1.mlp.\2.\3.weight",)),
)
_LANGUAGE_BIASES = (
    Rule(_LAYER + r"self_attn\.vision_expert_query_key_value\.bias", (r"layers.\1.attention.vision.qkv.bias",)),
)
_VISION_RULES = (
    Rule(r"model\.vision\.patch_embedding\.proj\.(weight|bias)", (r"vision.patches.\1",)),
    Rule(r"model\.vision\.patch_embedding\.cls_embedding", ("vision.class_token",)),
    Rule(r"model\.vision\.patch_embedding\.position_embedding\.weight", ("vision.positions",)),
    Rule(_BLOCK + r"input_layernorm\.(weight|bias)", (r"vision.blocks.\1.attention_norm.\2",)),
    Rule(_BLOCK + r"post_attention_layernorm\.(weight|bias)", (r"vision.blocks.\1.mlp_norm.\2",)),
    Rule(_BLOCK + r"attention\.query_key_value\.bias", (r"vision.blocks.\1.qkv.bias",)),
    Rule(_BLOCK + r"attention\.dense\.bias", (r"vision.blocks.\1.dense.bias",)),
    Rule(_BLOCK + r"mlp\.(fc[12])\.bias", (r"vision.blocks.\1.\2.bias",)),
    Rule(r"model\.vision\.conv\.(weight|bias)", (r"vision.shrink.\1",)),
    Rule(r"model\.vision\.linear_proj\.norm1\.(weight|bias)", (r"vision.adapter.norm.\1",)),
    Rule(r"model\.vision\.(boi|eoi)", (r"vision.\1",)),
)
_VISION_LINEARS = (
    Rule(_BLOCK + r"attention\.query_key_value\.weight", (r"vision.blocks.\1.qkv.weight",)),
    Rule(_BLOCK + r"attention\.dense\.weight", (r"vision.blocks.\1.dense.weight",)),
    Rule(_BLOCK + r"mlp\.(fc[12])\.weight", (r"vision.blocks.\1.\2.weight",)),
    Rule(r"model\.vision\.linear_proj\.linear_proj\.weight", ("vision.adapter.project.weight",)),
    Rule(r"model\.vision\.linear_proj\.gate_proj\.weight", ("vision.adapter.gate.weight",)),
    Rule(r"model\.vision\.linear_proj\.dense_h_to_4h\.weight", ("vision.adapter.up.weight",)),
    Rule(r"model\.vision\.linear_proj\.dense_4h_to_h\.weight", ("vision.adapter.down.weight",)),
)


def rules(quantized: bool) -> Sequence[Rule]:
    """Return the rules of a checkpoint; in a ``quantized`` one a linear layer is four tensors."""
    linears = (*_LANGUAGE_LINEARS, *_VISION_LINEARS)
    others = (*_LANGUAGE_RULES, *_LANGUAGE_BIASES, *_VISION_RULES)
    return (*others, *(packed for rule in linears for packed in _packed(rule))) if quantized else (*others, *linears)


def _packed(rule: Rule) -> tuple[Rule, ...]:
    """Turn the rule of a linear layer's weight into those of its four packed tensors."""
    owner = rule.targets[0].removesuffix(".weight")
    return (
        replace(rule, as_stored=True),
        Rule(rule.pattern + r"\.absmax", (owner + ".absmax",), as_stored=True),
        Rule(rule.pattern + r"\.quant_map", (owner + ".quant_map",), as_stored=True),
        Rule(
            rule.pattern + r"\.quant_state\.bitsandbytes__fp4", (owner + ".quant_state",), padded_state, as_stored=True
        ),
    )
