"""The native InternVL2 network: Transformers' class, driven step by step.

Nothing is computed here that Transformers lacks. Its ``forward`` is bypassed where it would search
the placeholder ids again: the engine knows the positions and hands embeddings.
"""

from __future__ import annotations

from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.cache_utils import Cache

from vlmchat.families.family import Span


class InternVL2Network:
    """One InternVL2 model, weights still on the meta device when built."""

    def __init__(self, config: InternVLConfig) -> None:
        # Buffers that no file holds (rotary frequencies) are computed here and now, in float32.
        with init_empty_weights(include_buffers=False):
            model = InternVLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
        self.module: nn.Module = model.eval()
        self._inner = model.model
        self._head = model.lm_head

    def encode(self, pixels: Tensor) -> Tensor:
        """Return projected features [tiles, tokens, hidden] of ``pixels`` [tiles, 3, side, side]."""
        features: Tensor = self._inner.get_image_features(
            pixel_values=pixels, vision_feature_layer=-1, vision_feature_select_strategy="default", return_dict=True
        ).pooler_output
        return features

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [1, length, hidden] of ``ids`` [1, length]."""
        embeddings: Tensor = self._inner.language_model.embed_tokens(ids)
        return embeddings

    def forward(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache``; return the last position's logits [1, vocab] in float32."""
        hidden = self._inner.language_model(
            inputs_embeds=span.embeddings, position_ids=span.positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        logits: Tensor = self._head(hidden[:, -1]).float()
        return logits

    def decoder_layers(self) -> int:
        """Return the number of language-model layers."""
        layers: int = self._inner.language_model.config.num_hidden_layers
        return layers
