"""Transformers' image-text classes, driven step by step.

Their ``forward`` is bypassed where it would search the placeholder ids again: the engine knows the
positions and hands embeddings. A family adds how its pictures become features.
"""

from __future__ import annotations

from typing import Any

from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig

from vlmchat.families.family import Span


class NativeNetwork:
    """A model with ``model.language_model`` and ``lm_head``, weights on the meta device when built."""

    def __init__(self, architecture: Any, config: PreTrainedConfig) -> None:
        """Build Transformers' class ``architecture`` for ``config``."""
        # Buffers that no file holds (rotary frequencies) are computed here and now, in float32.
        with init_empty_weights(include_buffers=False):
            model = architecture._from_config(config, attn_implementation="sdpa")
        self.module: nn.Module = model.eval()
        self._inner = model.model

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [1, length, hidden] of ``ids`` [1, length]."""
        embeddings: Tensor = self._inner.language_model.embed_tokens(ids)
        return embeddings

    def hidden_states(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache``; return the last hidden states [1, length, hidden]."""
        hidden: Tensor = self._inner.language_model(
            inputs_embeds=span.embeddings, position_ids=span.positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [.., vocab] of hidden states [.., hidden]."""
        logits: Tensor = self.module.get_submodule("lm_head")(hidden).float()
        return logits

    def decoder_layers(self) -> int:
        """Return the number of language-model layers."""
        layers: int = self._inner.language_model.config.num_hidden_layers
        return layers

    def blocks(self) -> nn.ModuleList:
        """Return the language model's decoder layers."""
        layers: nn.ModuleList = self._inner.language_model.layers
        return layers
