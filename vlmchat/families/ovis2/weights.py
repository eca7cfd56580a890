"""Original Ovis2 tensor names -> parameters of Transformers' Ovis2 class (the project's Ovis2 facts, §4)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from vlmchat.families.mapping import Rule, thirds
from vlmchat.families.ovis2.config import Ovis2Config
from vlmchat.families.packed.gptq import TENSORS

_BACKBONE = r"visual_tokenizer\.backbone\."
_BLOCK = _BACKBONE + r"trunk\.blocks\.(\d+)\."
_TOWER = "model.vision_tower.transformer."
_LAYER = _TOWER + r"encoder.layers.\1."


def _positions(stored: Tensor) -> tuple[Tensor, ...]:
    """Take the batch dimension off a position table [1, patches, hidden]."""
    return (stored.squeeze(0),)


VISION_RULES = (
    Rule(_BACKBONE + r"preprocessor\.patchifier\.proj\.(weight|bias)", (_TOWER + r"embeddings.patch_embedding.\1",)),
    Rule(_BACKBONE + r"preprocessor\.patchifier\.norm\.weight", (_TOWER + "embeddings.rms_norm.weight",)),
    Rule(_BACKBONE + r"preprocessor\.pos_embed", (_TOWER + "embeddings.position_embedding.weight",), _positions),
    Rule(_BLOCK + r"norm_([12])\.weight", (_LAYER + r"rms_norm\2.weight",)),
    Rule(
        _BLOCK + r"attn\.qkv\.(weight|bias)", tuple(_LAYER + rf"attention.{which}_proj.\2" for which in "qkv"), thirds
    ),
    Rule(_BLOCK + r"attn\.proj\.(weight|bias)", (_LAYER + r"attention.out_proj.\2",)),
    Rule(_BLOCK + r"mlp\.fc1\.(weight|bias)", (_LAYER + r"ffn.gate_proj.\2",)),
    Rule(_BLOCK + r"mlp\.fc3\.(weight|bias)", (_LAYER + r"ffn.up_proj.\2",)),
    Rule(_BLOCK + r"mlp\.fc2\.(weight|bias)", (_LAYER + r"ffn.down_proj.\2",)),
    Rule(r"visual_tokenizer\.head\.0\.weight", ("model.vision_tower.head_linear.weight",)),
    Rule(r"visual_tokenizer\.head\.1\.(weight|bias)", (r"model.vision_tower.head_norm.\1",)),
    Rule(r"vte\.weight", ("model.visual_embeddings_table.weight",)),
)
"""AIMv2 (q, k, v fused in equal thirds; silu(fc1) * fc3, then fc2), the head and the visual vocabulary."""

QWEN2_RULES = (
    Rule(r"llm\.model\.(embed_tokens|norm)\.weight", (r"model.language_model.\1.weight",)),
    Rule(r"llm\.model\.layers\.(\d+)\.(.+\.(?:weight|bias))", (r"model.language_model.layers.\1.\2",)),
)
"""Qwen2 keeps its inner names."""

PACKED_RULE = Rule(
    rf"llm\.model\.layers\.(\d+)\.(.+\.(?:{'|'.join(TENSORS)}))",
    (r"model.language_model.layers.\1.\2",),
    as_stored=True,
)
"""The packed linear layers of a GPTQ repository; their biases are ordinary tensors."""


def rules(config: Ovis2Config) -> Iterator[Rule]:
    """Yield the rules of one checkpoint: a tied one does without its output head."""
    yield from VISION_RULES
    yield from QWEN2_RULES
    if config.packing is not None:
        yield PACKED_RULE
    yield Rule(
        _BACKBONE + r"trunk\.post_trunk_norm\.weight",
        (),
        reason="Ovis2 reads the last block's output; the norm behind it belongs to AIMv2 alone",
        shape=(config.native.vision_config.hidden_size,),
        needed=True,
    )
    if not config.tied:
        yield Rule(r"llm\.lm_head\.weight", ("lm_head.weight",))
        return
    yield Rule(
        r"llm\.lm_head\.weight",
        (),
        reason="the output head is tied to the token embedding, whatever is stored for it",
        shape=(config.native.vocab_size, config.native.hidden_size),
    )
