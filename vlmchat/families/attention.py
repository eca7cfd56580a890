"""Causal attention with grouped keys, as every decoder here computes it that is not Transformers' own."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Keeping(Protocol):
    """Keeps keys and values: the part of Transformers' caches that a decoder calls."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take the keys and values [rows, kv heads, length, head size] of new places; return those of all places."""
        ...


def causal_attention(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """Attend from the last places of each row.

    Args:
        query: [rows, heads, length, head size], the newest ``length`` places.
        keys: [rows, kv heads, total, head size]; consecutive query heads share one.
        values: as ``keys``.
        seen: bool [rows, 1, length, total], what each place attends to, or in the dtype of ``query`` what is added to
            scores; None where the rows are equally far.

    Returns:
        [rows, heads, length, head size]
    """
    length, total = query.shape[2], keys.shape[2]
    groups = query.shape[1] // keys.shape[1]
    if length == 1:
        # One place sees everything, so the heads of a group can stand as its places: no key is copied.
        folded = query.reshape(len(query), keys.shape[1], groups, -1)
        return functional.scaled_dot_product_attention(folded, keys, values, attn_mask=seen).reshape(query.shape)
    if groups > 1:
        keys, values = (states.repeat_interleave(groups, dim=1) for states in (keys, values))
    if seen is None and length == total:
        return functional.scaled_dot_product_attention(query, keys, values, is_causal=True)
    if seen is None:
        seen = causal_mask(length, total, query.device)
    return functional.scaled_dot_product_attention(query, keys, values, attn_mask=seen)


def causal_mask(length: int, total: int, device: torch.device) -> Tensor:
    """Return bool [length, total]: what each of the newest ``length`` of ``total`` places attends to."""
    return torch.ones(length, total, dtype=torch.bool, device=device).tril(total - length)
