"""The native InternVL2 network: Transformers' class, and the rotary tables that depend on the length."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.cache_utils import Cache

from vlmchat.families.family import Position, Span
from vlmchat.families.native import NativeNetwork
from vlmchat.families.packed.awq import AwqLinear
from vlmchat.families.packed.base import replace_linears
from vlmchat.families.rotary import Shared
from vlmchat.families.tower_attention import use_tower_attention


class WholePromptRotary(nn.Module):
    """A rotary table that depends on the length, chosen by the whole prompt, however it is computed.

    Transformers looks at the positions of one call, so a prompt in chunks would get another table
    for each chunk; and its dynamic table stays enlarged for the next, shorter prompt. Here every
    call starts from the trained table and sees ``total``, as a fresh original model does.
    """

    def __init__(self, native: nn.Module) -> None:
        super().__init__()
        self.native = native
        self.totals: tuple[int, ...] = (0,)
        """Length of each row's sequence as if it were computed in one call."""

    def forward(self, hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin [rows, length, head size] for ``position_ids`` [rows, length], a table for each row."""
        tables = [self._table(total) for total in self.totals]
        if len(set(tables)) == 1:
            return self._turned(hidden, position_ids, max(self.totals))
        turned = [self._turned(hidden, position_ids[row : row + 1], total) for row, total in enumerate(self.totals)]
        cos, sin = (torch.cat(parts) for parts in zip(*turned, strict=True))
        return cos, sin

    def _turned(self, hidden: Tensor, position_ids: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the table of a sequence of ``total`` positions."""
        native: Any = self.native
        native.max_seq_len_cached = native.original_max_seq_len
        native.inv_freq = native.original_inv_freq.clone()
        last = position_ids.new_full((len(position_ids), 1), total - 1)
        cos, sin = native(hidden, torch.cat([position_ids, last], dim=1))
        return cos[:, :-1], sin[:, :-1]

    def shared(self) -> Shared | None:
        """Return the one table of all rows; None where they differ, or where every length has its own."""
        tables = {self._table(total) for total in self.totals}
        if len(tables) > 1:
            return None
        (table,), trained = tables, self._trained
        if max(self.totals) <= trained:
            return Shared(table, trained)
        return Shared(table, sys.maxsize) if self.native.rope_type == "longrope" else None

    def _table(self, total: int) -> Hashable:
        """Say which table a sequence of ``total`` positions has: two short ones share it."""
        return total > self._trained if self.native.rope_type == "longrope" else max(total, self._trained)

    @property
    def _trained(self) -> int:
        """The length from which on the table is another one."""
        native: Any = self.native
        if native.rope_type == "longrope":
            return int(native.config.rope_parameters["original_max_position_embeddings"])
        return int(native.original_max_seq_len)


class InternVL2Network(NativeNetwork):
    """One InternVL2 model, weights still on the meta device when built."""

    def __init__(self, config: InternVLConfig, awq_group: int | None = None) -> None:
        super().__init__(InternVLForConditionalGeneration, config)
        use_tower_attention(self._inner.vision_tower.config)
        language = self._inner.language_model
        if awq_group is not None:
            names = [name for name, layer in language.layers.named_modules() if isinstance(layer, nn.Linear)]
            replace_linears(language.layers, names, lambda linear: AwqLinear.like(linear, awq_group))
        self._rotary: WholePromptRotary | None = None
        if language.rotary_emb.rope_type != "default":
            self._rotary = language.rotary_emb = WholePromptRotary(language.rotary_emb)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return projected features [tiles, tokens, hidden] of ``pixels`` [tiles, 3, side, side]."""
        features: Tensor = self._inner.get_image_features(
            pixel_values=pixels, vision_feature_layer=-1, vision_feature_select_strategy="default", return_dict=True
        ).pooler_output
        return features

    def hidden_states(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache``; return the last hidden states [rows, length, hidden]."""
        if self._rotary is not None:
            self._rotary.totals = span.totals
        return super().hidden_states(span, cache)

    def next_logits(
        self, ids: Sequence[int], positions: Sequence[Position], totals: tuple[int, ...], cache: Cache
    ) -> Tensor | None:
        """Return float32 logits [rows, vocab] behind a new token of each row; None where no compiled code runs."""
        if self._rotary is not None:
            self._rotary.totals = totals
        return super().next_logits(ids, positions, totals, cache)
