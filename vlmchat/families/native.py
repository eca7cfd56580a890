"""Transformers' image-text classes, driven step by step.

Their ``forward`` is bypassed where it would search the placeholder ids again: the engine knows the
positions and hands embeddings. A family adds how its pictures become features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig

from vlmchat.families.attention import Keeping
from vlmchat.families.family import Position, Span
from vlmchat.families.lean import LeanDecoder
from vlmchat.families.masks import Order
from vlmchat.families.rotary import RotaryTables

if TYPE_CHECKING:
    from vlmchat.families.fused.step import FusedStep
    from vlmchat.families.recorded import RecordedStep, Steady

Masks: TypeAlias = Tensor | dict[str, Tensor] | None
"""Bool [rows, 1, length, keys], True where a key is attended to; by kind of layer where layers differ."""


class TiedHead(nn.Module):
    """An output head that is the token embedding; it has no parameter of its own.

    Embedding and head call one module, so that whatever brings its weight from another device or
    from disk for a call serves both.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        """Let ``embedding`` give logits for hidden states, and embeddings for ids as before."""
        super().__init__()
        kind: Any = type(embedding)

        class EmbeddingAndHead(kind):
            def forward(self, inputs: Tensor) -> Tensor:
                if inputs.is_floating_point():
                    return functional.linear(inputs, self.weight)
                embeddings: Tensor = super().forward(inputs)
                return embeddings

        embedding.__class__ = EmbeddingAndHead
        # In a tuple, so that the embedding is not registered a second time.
        self._embedding = (embedding,)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits [.., vocab] of ``hidden`` [.., hidden]."""
        logits: Tensor = self._embedding[0](hidden)
        return logits

    def as_linear(self) -> nn.Linear:
        """Return an ordinary head over the same weight."""
        weight = self._embedding[0].weight
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        linear.weight = weight
        return linear


class NativeNetwork:
    """A model with a decoder and ``lm_head``, weights on the meta device when built."""

    joins_tiles = True
    runs_lean = True
    """Its decoder may be driven by :class:`~vlmchat.families.lean.LeanDecoder`."""

    def __init__(self, architecture: Any, config: PreTrainedConfig) -> None:
        """Build Transformers' class ``architecture`` for ``config``."""
        # Buffers that no file holds (rotary frequencies) are computed here and now, in float32.
        with init_empty_weights(include_buffers=False):
            model = architecture._from_config(config, attn_implementation="sdpa")
        self.module: nn.Module = model.eval()
        self._inner = model.model
        self._text: Any = model.get_decoder()
        self.lean = LeanDecoder(self._text) if self.runs_lean and LeanDecoder.knows(self._text) else None
        self.recorded: RecordedStep | None = None
        """Computes a token of each row by recorded kernels, where it is set."""

    def tie_head(self) -> None:
        """Make the output head one with the token embedding: its own weight is not stored."""
        self.module.add_module("lm_head", TiedHead(self._text.embed_tokens))

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [rows, length, hidden] of ``ids`` [rows, length]."""
        embeddings: Tensor = self._text.embed_tokens(ids)
        return embeddings

    def hidden_states(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache``; return the last hidden states [rows, length, hidden]."""
        rows, length = span.embeddings.shape[:2]
        if rows == 1 and span.experts is None and (step := self._step(length)) is not None:
            return step.hidden_states(span.embeddings, span.positions[0].tolist(), cache)
        masks = self.masks(span, cache)
        if self.lean is not None and not isinstance(masks, dict) and self.lean.serves():
            return self.lean(span.embeddings, span.positions, masks, cache)
        hidden: Tensor = self._text(
            inputs_embeds=span.embeddings,
            position_ids=span.positions,
            attention_mask=masks,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def next_logits(
        self, ids: Sequence[int], positions: Sequence[Position], totals: tuple[int, ...], cache: Cache
    ) -> Tensor | None:
        """Return float32 logits [rows, vocab] behind a token of each row; None where torch's operations are to run."""
        places = [place for place in positions if isinstance(place, int)]
        step = self._step(len(ids)) or self.recorded
        return None if step is None or len(places) < len(positions) else step.next_logits(ids, places, cache)

    def steady(self, dtype: torch.dtype, device: torch.device) -> Steady | None:
        """Return the decoder as something whose steps can be recorded."""
        return _SteadySteps(self, self.lean, dtype, device) if self.lean is not None and self.lean.serves() else None

    def _step(self, rows: int) -> FusedStep | None:
        """Return what computes so many tokens in compiled code, if anything does."""
        fused = self.lean.fused if self.lean is not None else None
        return fused if fused is not None and fused.serves(rows) else None

    def masks(self, span: Span, cache: Cache) -> Masks:
        """Return what each position attends to; None where that is all before it, in rows that are equally far."""
        if not span.starts:
            return None
        order = Order.of(span, cache)
        return self.narrowed(order, order.before())

    def narrowed(self, order: Order, seen: Tensor) -> Masks:
        """Narrow ``seen`` [rows, 1, length, keys] to the sliding window in the layers that have one."""
        config = self._text.config
        window: int | None = getattr(config, "sliding_window", None)
        if window is None:
            return seen
        near = seen & order.within(window)
        kinds = set(getattr(config, "layer_types", None) or ())
        return {kind: near if kind == "sliding_attention" else seen for kind in kinds} if kinds else near

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [.., vocab] of hidden states [.., hidden]."""
        if hidden.ndim == 2 and (step := self._step(len(hidden))) is not None:
            return step.logits(hidden)
        logits: Tensor = self.module.get_submodule("lm_head")(hidden).float()
        return logits

    def decoder_layers(self) -> int:
        """Return the number of language-model layers."""
        layers: int = self._text.config.num_hidden_layers
        return layers

    def blocks(self) -> nn.ModuleList:
        """Return the language model's decoder layers."""
        layers: nn.ModuleList = self._text.layers
        return layers


class _SteadySteps:
    """A lean decoder's steps for recording."""

    def __init__(self, network: NativeNetwork, lean: LeanDecoder, dtype: torch.dtype, device: torch.device) -> None:
        self._lean, self._dtype = lean, dtype
        self._tables = RotaryTables(lean.text.rotary_emb, dtype, device)
        self.embed, self.logits = network.embed, network.logits

    def placed(self, positions: Sequence[int]) -> Tensor:
        """Return cosines and sines [2, rows, 1, turned part of a head]."""
        return self._tables.of(positions).unsqueeze(2).to(self._dtype)

    def run(self, hidden: Tensor, placed: Tensor, seen: Tensor, cache: Keeping) -> Tensor:
        """Run embeddings through all layers and the last norm."""
        return self._lean.through_layers(hidden, (placed[0], placed[1]), seen, cache)
