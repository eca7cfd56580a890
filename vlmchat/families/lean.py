"""Transformers' Qwen2, Llama and Phi-3 decoders without what stands around their arithmetic.

The same modules and the same order of rounding, so that the result is that of the library's own ``forward``, which
is the reference in ``tests/families/test_lean.py`` and the path of whatever is not served here: another
architecture, sliding windows, layers spread over devices. Left out are the decorators and output recorders of
every call, the mask that says what one new place knows anyway, and above all copies of keys and values: grouped
query heads stand as places of one head (2.2 ms a layer against 0.05 at 450 tokens, 14 heads over 2, two cores).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.models.phi3.modeling_phi3 import Phi3Model
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

from vlmchat.families.attention import Keeping, causal_attention, causal_mask

if TYPE_CHECKING:
    from vlmchat.families.fused.step import FusedStep

Keep: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes the keys and values of new places in one layer; returns those of all places."""


class LeanDecoder:
    """Drives the layers of one decoder; what makes its decode steps faster is found here."""

    def __init__(self, text: Any) -> None:
        """Take the decoder, weights loaded or not yet."""
        self.text = text
        config = text.config
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self.fused: FusedStep | None = None
        """Computes few tokens in compiled code instead, where it is set."""
        self.calls = 0
        """Spans computed here; tests look whether any was."""

    @staticmethod
    def knows(text: Any) -> bool:
        """Say whether ``text`` is one of the decoders whose arithmetic is written down here."""
        kinds = set(getattr(text.config, "layer_types", None) or ("full_attention",))
        plain = getattr(text.config, "sliding_window", None) is None and kinds == {"full_attention"}
        return type(text) in (Qwen2Model, LlamaModel, Phi3Model) and plain

    def gates_with_silu(self) -> bool:
        """Say whether the MLPs' activation is the usual one."""
        return str(self.text.config.hidden_act) in ("silu", "swish")

    def serves(self) -> bool:
        """Say no where Accelerate's hooks move data between the layers."""
        return not any("_hf_hook" in vars(part) for part in (self.text, *self.text.layers))

    def __call__(self, hidden: Tensor, positions: Tensor, seen: Tensor | None, cache: Cache) -> Tensor:
        """Run embeddings behind ``cache``; return what the last norm makes of them.

        Args:
            hidden: [rows, length, hidden].
            positions: int64 [rows, length].
            seen: bool [rows, 1, length, keys]; None where the rows are equally far.
            cache: what it holds grows by ``length``.
        """
        self.calls += 1
        length, before = hidden.shape[1], cache.get_seq_length()
        if seen is None and length > 1 and before:
            seen = causal_mask(length, before + length, hidden.device)
        waves = self.text.rotary_emb(hidden, position_ids=positions)
        return self.through_layers(hidden, waves, seen, cache)

    def through_layers(
        self, hidden: Tensor, waves: tuple[Tensor, Tensor], seen: Tensor | None, cache: Keeping
    ) -> Tensor:
        """Run embeddings through all layers and the last norm.

        Args:
            hidden: [rows, length, hidden].
            waves: cosines and sines [rows, length, turned part of a head], in the dtype of ``hidden``.
            seen: [rows, 1, length, keys], bool or in the dtype of ``hidden`` to be added to scores; None as above.
            cache: takes new keys and values.
        """
        tables = waves[0].unsqueeze(2), _signed(waves[1]).unsqueeze(2)
        for at, layer in enumerate(self.text.layers):
            # Straight from the table of parts: a module's own look-up takes a microsecond, 12 times a layer.
            parts = layer._modules
            normed = _normed(hidden, parts["input_layernorm"])
            hidden = hidden + self._attended(
                normed, parts["self_attn"], tables, seen, partial(cache.update, layer_idx=at)
            )
            hidden = hidden + _gated(_normed(hidden, parts["post_attention_layernorm"]), parts["mlp"])
        return _normed(hidden, self.text.norm)

    def _attended(
        self, hidden: Tensor, attention: Any, tables: tuple[Tensor, Tensor], seen: Tensor | None, keep: Keep
    ) -> Tensor:
        """Return the attention layer's output [rows, length, hidden]; ``keep`` takes the new keys and values."""
        size: int = attention.head_dim
        turning = (self._heads + self._kv_heads) * size
        parts = attention._modules
        if "qkv_proj" in parts:
            fused: Tensor = parts["qkv_proj"](hidden)
            both, value = fused[..., :turning], fused[..., turning:]
        else:
            both = torch.cat((parts["q_proj"](hidden), parts["k_proj"](hidden)), dim=-1)
            value = parts["v_proj"](hidden)
        turned = _turned(both.view(*both.shape[:2], -1, size), *tables).transpose(1, 2)
        query, key = turned[:, : self._heads], turned[:, self._heads :]
        keys, values = keep(key, value.view(*value.shape[:2], -1, size).transpose(1, 2))
        attended = causal_attention(query, keys, values, seen).transpose(1, 2).flatten(2)
        mapped: Tensor = parts["o_proj"](attended)
        return mapped


def _normed(hidden: Tensor, norm: Any) -> Tensor:
    """Normalise the last axis; the weight is multiplied after rounding, as all three architectures do.

    A CPU of torch's has one kernel for a layer norm and seven for this. Beside its own negative a state has mean
    zero, so that the layer norm of both is this: 8 us instead of 18 for one token, 0.5 ms of a step of 24 layers.
    """
    width, epsilon = hidden.shape[-1], norm.variance_epsilon
    if hidden.device.type == "cpu":
        mirrored = torch.cat((hidden, -hidden), dim=-1)
        scaled = functional.layer_norm(mirrored, (2 * width,), None, None, epsilon)[..., :width]
    else:
        scaled = functional.rms_norm(hidden, (width,), None, epsilon)
    weighted: Tensor = norm.weight * scaled
    return weighted


def _signed(sin: Tensor) -> Tensor:
    """Negate the first half of the last axis: with it turning needs no negated copy of the states."""
    first, second = sin.chunk(2, dim=-1)
    return torch.cat((-first, second), dim=-1)


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``states`` [rows, length, heads, head size] by tables [rows, length, 1, turned part of the head]."""
    width = cos.shape[-1]
    part = states[..., :width]
    swapped = torch.cat((part[..., width // 2 :], part[..., : width // 2]), dim=-1)
    turned = (part * cos).add_(swapped.mul_(sin))
    return turned if width == states.shape[-1] else torch.cat((turned, states[..., width:]), dim=-1)


def _gated(hidden: Tensor, mlp: Any) -> Tensor:
    """Return down(activation(gate) * up); the engine may have joined the first two (``engine/arrange.py``)."""
    parts = mlp._modules
    activation = parts["activation_fn" if "activation_fn" in parts else "act_fn"]
    if "gate_up_proj" in parts:
        gate, up = parts["gate_up_proj"](hidden).chunk(2, dim=-1)
        product = up * activation(gate)
    else:
        product = activation(parts["gate_proj"](hidden)) * parts["up_proj"](hidden)
    mapped: Tensor = parts["down_proj"](product)
    return mapped
