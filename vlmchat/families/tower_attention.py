"""The attention of vision towers: everything sees everything, in sequences of a thousand patches.

In bfloat16 on a CPU torch's fused attention is slow: it multiplies blocks of 512 keys, and with the class token before
1,024 patches the last block holds one. Here each head's scores [length, length] are one product, then a softmax in
place, then a second product, all in buffers that stay in the cache. An InternViT-300M tile (16 heads of 64, 1,025
places) takes 18 ms a layer instead of 31 to 38, on two cores with AVX-512. Scores are rounded to bfloat16 before the
softmax, as in the eager attention of the original code; the softmax itself computes in float32.

In float32 the fused attention runs at the rate of the matrix products (158 of 185 GFLOP/s) and stays.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "vlmchat_tower"
"""Under which Transformers' towers find :func:`tower_attention_forward`."""
LONG = 512
"""Places from which on a head's two products are worth a call each; below, the fused attention is as fast."""


def tower_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend from every place to every place.

    Args:
        query: [tiles, heads, length, head size].
        key: as ``query``.
        value: as ``query``.
        scale: what scores are multiplied by.

    Returns:
        [tiles, length, heads, head size], contiguous.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or query.shape[2] < LONG:
        fused = functional.scaled_dot_product_attention(query, key, value, scale=scale)
        return fused.transpose(1, 2).contiguous()
    tiles, heads, length, size = query.shape
    query = query * scale
    scores = query.new_empty(length, length)
    attended = query.new_empty(tiles, length, heads, size)
    for tile in range(tiles):
        for head in range(heads):
            torch.mm(query[tile, head], key[tile, head].t(), out=scores)
            torch.softmax(scores, dim=-1, out=scores)
            torch.mm(scores, value[tile, head], out=attended[tile, :, head])
    return attended


def tower_attention_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Do the same in the form Transformers calls; with a mask its own attention runs."""
    if attention_mask is not None:
        masked: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return masked
    return tower_attention(query, key, value, options["scaling"]), None


def use_tower_attention(config: PreTrainedConfig) -> None:
    """Let the built tower with this ``config`` attend by :func:`tower_attention`."""
    AttentionInterface.register(NAME, tower_attention_forward)
    config._attn_implementation = NAME
