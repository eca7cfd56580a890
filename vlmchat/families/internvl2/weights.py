"""Original InternVL2 tensor names -> parameters of Transformers' InternVL class (facts §2)."""

from __future__ import annotations

from vlmchat.families.mapping import Rule, thirds

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

QWEN2_RULES = (
    Rule(r"language_model\.model\.(embed_tokens|norm)\.weight", (r"model.language_model.\1.weight",)),
    Rule(r"language_model\.model\.layers\.(\d+)\.(.+)", (r"model.language_model.layers.\1.\2",)),
    Rule(r"language_model\.lm_head\.weight", ("lm_head.weight",)),
)
"""Qwen2 keeps its inner names; the output head is stored and never tied."""
