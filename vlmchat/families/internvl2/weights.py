"""Original InternVL2 tensor names -> parameters of Transformers' InternVL class (facts §2)."""

from __future__ import annotations

from torch import Tensor

from vlmchat.families.mapping import Rule, Split, thirds

_EMBEDDING = "model.language_model.embed_tokens.weight"

_VISION = r"vision_model\.encoder\.layers\.(\d+)\."
_LAYER = r"model.vision_tower.encoder.layer.\1."

VISION_RULES = (
    Rule(r"vision_model\.embeddings\.class_embedding", ("model.vision_tower.embeddings.cls_token",)),
    Rule(r"vision_model\.embeddings\.position_embedding", ("model.vision_tower.embeddings.position_embeddings",)),
    Rule(
        r"vision_model\.embeddings\.patch_embedding\.(weight|bias)",
        (r"model.vision_tower.embeddings.patch_embeddings.projection.\1",),
    ),
    Rule(
        _VISION + r"attn\.qkv\.(weight|bias)",
        tuple(_LAYER + rf"attention.{which}_proj.\2" for which in "qkv"),
        thirds,
    ),
    Rule(_VISION + r"attn\.proj\.(weight|bias)", (_LAYER + r"attention.projection_layer.\2",)),
    Rule(_VISION + r"attn\.([qk])_norm\.weight", (_LAYER + r"attention.\2_norm.weight",)),
    Rule(_VISION + r"norm1\.(weight|bias)", (_LAYER + r"layernorm_before.\2",)),
    Rule(_VISION + r"norm2\.(weight|bias)", (_LAYER + r"layernorm_after.\2",)),
    Rule(_VISION + r"ls([12])", (_LAYER + r"lambda_\2",)),
    Rule(_VISION + r"mlp\.(fc[12])\.(weight|bias)", (_LAYER + r"mlp.\2.\3",)),
)
"""InternViT of both sizes; the fused q/k/v is q, k, v in equal thirds along the output axis."""

PROJECTOR_RULES = (
    Rule(r"mlp1\.0\.(weight|bias)", (r"model.multi_modal_projector.layer_norm.\1",)),
    Rule(r"mlp1\.1\.(weight|bias)", (r"model.multi_modal_projector.linear_1.\1",)),
    Rule(r"mlp1\.3\.(weight|bias)", (r"model.multi_modal_projector.linear_2.\1",)),
)
"""LayerNorm, Linear, (GELU,) Linear over the shuffled pixels."""

_PACKED = r"(?:qweight|qzeros|scales)"
"""What AWQ stores in place of a linear weight; kept as stored, see families/packed/awq.py."""
_ENDS = (
    Rule(r"language_model\.model\.norm\.weight", ("model.language_model.norm.weight",)),
    Rule(r"language_model\.model\.(?:embed_tokens|tok_embeddings)\.weight", (_EMBEDDING,)),
    Rule(r"language_model\.(?:lm_head|output)\.weight", ("lm_head.weight",)),
)
"""Both ends of the language model; the output head is stored and never tied."""

PLAIN_RULES = (
    *_ENDS,
    Rule(
        rf"language_model\.model\.layers\.(\d+)\.((?:self_attn|mlp)\.\w+\.{_PACKED})",
        (r"model.language_model.layers.\1.\2",),
        as_stored=True,
    ),
    Rule(
        rf"language_model\.model\.layers\.(\d+)\.(?!.*\b{_PACKED}$|.*inv_freq$)(.+)",
        (r"model.language_model.layers.\1.\2",),
    ),
    Rule(
        r"language_model\.model\.(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",
        (),
        reason="rotary frequencies follow from rope_theta; Transformers before 4.32 stored them",
    ),
)
"""Qwen2, Llama and Phi-3 keep their inner names (Phi-3 its fused q/k/v and gate/up)."""

_INTERNLM2_LAYER = r"language_model\.model\.layers\.(\d+)\."
_INTERNLM2_NAMES = {
    r"attention\.wo": "self_attn.o_proj",
    r"feed_forward\.w1": "mlp.gate_proj",
    r"feed_forward\.w3": "mlp.up_proj",
    r"feed_forward\.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def internlm2_rules(heads: int, kv_heads: int) -> tuple[Rule, ...]:
    """Return the rules of an InternLM2 language model with this many query and key/value heads."""
    layer, native = _INTERNLM2_LAYER, r"model.language_model.layers.\1."
    qkv = tuple(rf"{native}self_attn.{which}_proj.\2" for which in "qkv")
    rules = [*_ENDS]
    for old, new in _INTERNLM2_NAMES.items():
        rules.append(Rule(layer + old + r"\.(weight|bias)", (rf"{native}{new}.\2",)))
        rules.append(Rule(layer + old + rf"\.({_PACKED})", (rf"{native}{new}.\2",), as_stored=True))
    rules.append(Rule(layer + r"attention\.wqkv\.(weight|bias)", qkv, grouped_qkv(heads, kv_heads, dim=0)))
    packed = grouped_qkv(heads, kv_heads, dim=1)
    rules.append(Rule(layer + rf"attention\.wqkv\.({_PACKED})", qkv, packed, as_stored=True))
    return tuple(rules)


def grouped_qkv(heads: int, kv_heads: int, dim: int) -> Split:
    """Return the split of InternLM2's fused projection: per kv head its query heads, then k, then v.

    Args:
        heads: query heads.
        kv_heads: key/value heads; ``heads / kv_heads`` queries share one.
        dim: the output axis, 0 of a weight or bias, 1 of AWQ's packed tensors. Eight columns share a
            packed word and a head is a multiple of eight wide, so words are never cut.
    """

    def split(tensor: Tensor) -> tuple[Tensor, ...]:
        slots = heads // kv_heads + 2
        width = tensor.shape[dim] // (kv_heads * slots)
        grouped = tensor.reshape(*tensor.shape[:dim], kv_heads, slots, width, *tensor.shape[dim + 1 :])
        queries = grouped.narrow(dim + 1, 0, heads // kv_heads)
        keys, values = grouped.narrow(dim + 1, heads // kv_heads, 2).unbind(dim + 1)
        return queries.flatten(dim, dim + 2), keys.flatten(dim, dim + 1), values.flatten(dim, dim + 1)

    return split
