"""The CogVLM2 network in plain torch; Transformers has no class for it (facts §4).

Where the dtype of an intermediate value decides the last bits, the original's choice is kept: the
rotary tables are computed in the dtype the model runs in, RMSNorm multiplies its weight in float32
before it rounds, and logits are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache

from vlmchat.families.attention import Keeping, causal_attention
from vlmchat.families.cogvlm2.config import CogVLM2Config
from vlmchat.families.cogvlm2.vision import VisionTower
from vlmchat.families.family import Position, Span
from vlmchat.families.masks import Order
from vlmchat.families.packed.base import replace_linears
from vlmchat.families.packed.bnb4 import Bnb4Linear

if TYPE_CHECKING:
    from vlmchat.families.recorded import RecordedStep, Steady


class Routes(NamedTuple):
    """Which places of a span go through which expert, as int64 place numbers over all its rows.

    A tuple, so that Accelerate carries it to a layer's device.
    """

    language: Tensor
    vision: Tensor


def routes_of(experts: Tensor | None) -> Routes | None:
    """Sort the places of ``experts`` [rows, length] bool, once for all layers; None: all take the language expert."""
    if experts is None:
        return None
    flat = experts.flatten()
    vision = flat.nonzero().flatten()
    return Routes((~flat).nonzero().flatten(), vision) if len(vision) else None


def rotary_tables(inv_freq: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin [.., head size / 2] of ``positions`` [..], in the dtype of ``inv_freq`` [head size / 2].

    Positions, products and results are all rounded to that dtype, as in the original: in bfloat16
    positions above 256 begin to collide, and the weights were trained with that.
    """
    angles = positions.to(inv_freq.dtype).unsqueeze(-1) * inv_freq
    return angles.cos(), angles.sin()


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``states`` [rows, heads, length, head size], whose halves are the two coordinates of each plane."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class RmsNorm(nn.Module):
    """Root mean square norm that multiplies its weight in float32 before rounding."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the last axis."""
        wide = hidden.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight.float() * scaled).to(hidden.dtype)


class GatedMlp(nn.Module):
    """down(activation(gate(x)) * up(x)), without biases."""

    def __init__(self, config: CogVLM2Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.up = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.down = nn.Linear(config.intermediate, config.hidden, bias=False)
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [rows, length, hidden] to the same shape."""
        mapped: Tensor = self.down(self.activation(self.gate(hidden)) * self.up(hidden))
        return mapped


class Projections(nn.Module):
    """One expert's part of an attention layer; only the vision expert's input has a bias."""

    def __init__(self, config: CogVLM2Config, bias: bool) -> None:
        super().__init__()
        width = config.hidden + 2 * config.kv_heads * config.head_size
        self.qkv = nn.Linear(config.hidden, width, bias=bias)
        self.dense = nn.Linear(config.hidden, config.hidden, bias=False)


def routed(hidden: Tensor, routes: Routes | None, language: nn.Module, vision: nn.Module | None) -> Tensor:
    """Send each place of ``hidden`` [rows, length, in] through its own expert and no other: [rows, length, out]."""
    if routes is None or vision is None:
        everything: Tensor = language(hidden)
        return everything
    flat = hidden.flatten(0, 1)
    seen = vision(flat[routes.vision])
    mixed: Tensor = seen.new_empty(len(flat), seen.shape[-1])
    mixed[routes.vision] = seen
    if len(routes.language):
        mixed[routes.language] = language(flat[routes.language])
    return mixed.view(*hidden.shape[:2], -1)


class Placement(NamedTuple):
    """Where the places of a span stand; the same for every layer. A tuple for the same reason as :class:`Routes`."""

    positions: Tensor
    """Rotary positions, int64 [rows, length]."""
    routes: Routes | None
    seen: Tensor | None
    """[rows, 1, length, keys], what each place attends to (bool) or what is added to scores; None where the rows are
    equally far."""


class Attention(nn.Module):
    """Causal attention with grouped keys, over projections of one or two experts."""

    inv_freq: Tensor

    def __init__(self, config: CogVLM2Config, layer: int) -> None:
        super().__init__()
        self.language = Projections(config, bias=False)
        self.vision = None if config.video else Projections(config, bias=True)
        self.register_buffer("inv_freq", torch.empty(config.head_size // 2))
        self.layer = layer
        self.heads = config.heads
        self.widths = [config.hidden, *2 * [config.kv_heads * config.head_size]]
        self.head_size = config.head_size

    def forward(self, hidden: Tensor, order: Placement, past_key_values: Keeping) -> Tensor:
        """Attend from ``hidden`` [rows, length, hidden] to everything in ``past_key_values`` and to itself."""
        vision, routes = self.vision, order.routes
        fused = routed(hidden, routes, self.language.qkv, vision and vision.qkv)
        query, key, value = (
            part.reshape(*hidden.shape[:2], -1, self.head_size).transpose(1, 2)
            for part in torch.split(fused, self.widths, dim=-1)
        )
        cos, sin = rotary_tables(self.inv_freq, order.positions.unsqueeze(1))
        keys, values = past_key_values.update(rotate(key, cos, sin), value, self.layer)
        attended = causal_attention(rotate(query, cos, sin), keys, values, order.seen).transpose(1, 2).flatten(2)
        return routed(attended, routes, self.language.dense, vision and vision.dense)


class ExpertMlp(nn.Module):
    """One gated MLP per expert."""

    def __init__(self, config: CogVLM2Config) -> None:
        super().__init__()
        self.language = GatedMlp(config)
        self.vision = None if config.video else GatedMlp(config)

    def forward(self, hidden: Tensor, routes: Routes | None) -> Tensor:
        """Map [rows, length, hidden] to the same shape."""
        return routed(hidden, routes, self.language, self.vision)


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, config: CogVLM2Config, layer: int) -> None:
        super().__init__()
        self.input_norm = RmsNorm(config.hidden, config.norm_eps)
        self.attention = Attention(config, layer)
        self.post_attention_norm = RmsNorm(config.hidden, config.norm_eps)
        self.mlp = ExpertMlp(config)

    def forward(self, hidden: Tensor, order: Placement, past_key_values: Keeping) -> Tensor:
        """Map [rows, length, hidden] to the same shape."""
        hidden = hidden + self.attention(self.input_norm(hidden), order, past_key_values=past_key_values)
        mapped: Tensor = hidden + self.mlp(self.post_attention_norm(hidden), order.routes)
        return mapped


class CogVLM2Model(nn.Module):
    """Tower, decoder and head."""

    _no_split_modules: ClassVar[list[str]] = ["DecoderLayer", "VisionTower"]
    """For Accelerate, which hands the cache through untouched under the name ``past_key_values``."""

    def __init__(self, config: CogVLM2Config) -> None:
        super().__init__()
        self.vision = VisionTower(config)
        self.embed_tokens = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.layers))
        self.norm = RmsNorm(config.hidden, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden, config.vocabulary, bias=False)

    def forward(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache`` and return hidden states [rows, length, hidden] behind the last norm."""
        seen = Order.of(span, cache).before() if span.starts else None
        return self.through_layers(span.embeddings, Placement(span.positions, routes_of(span.experts), seen), cache)

    def through_layers(self, hidden: Tensor, order: Placement, cache: Keeping) -> Tensor:
        """Run embeddings [rows, length, hidden] through all layers and the last norm."""
        for layer in self.layers:
            hidden = layer(hidden, order, past_key_values=cache)
        normed: Tensor = self.norm(hidden)
        return normed


class CogVLM2Network:
    """One CogVLM2 model, weights still on the meta device when built."""

    joins_tiles = True

    def __init__(self, config: CogVLM2Config) -> None:
        with torch.device("meta"):
            self.module = CogVLM2Model(config).eval()
        if config.quantized:
            linears = [name for name, part in self.module.named_modules() if isinstance(part, nn.Linear)]
            replace_linears(self.module, [name for name in linears if name != "lm_head"], Bnb4Linear.like)
        self.recorded: RecordedStep | None = None

    def encode(self, pixels: Tensor) -> Tensor:
        """Return features [pictures, tokens, hidden], begin and end marks included, of ``pixels``."""
        features: Tensor = self.module.vision(pixels)
        return features

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [rows, length, hidden] of ``ids`` [rows, length]."""
        embeddings: Tensor = self.module.embed_tokens(ids)
        return embeddings

    def hidden_states(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind ``cache``; return hidden states [rows, length, hidden] behind the last norm."""
        hidden: Tensor = self.module(span, cache)
        return hidden

    def next_logits(
        self, ids: Sequence[int], positions: Sequence[Position], totals: tuple[int, ...], cache: Cache
    ) -> Tensor | None:
        """Return float32 logits [rows, vocab] behind a token of each row; None where torch's operations are to run.

        A generated token is language, so that the two branches of a layer do not matter to a recording; no compiled
        code knows them.
        """
        places = [place for place in positions if isinstance(place, int)]
        if self.recorded is None or len(places) < len(positions):
            return None
        return self.recorded.next_logits(ids, places, cache)

    def steady(self, dtype: torch.dtype, device: torch.device) -> Steady | None:
        """Return the decoder as something whose steps can be recorded; None where hooks move data between layers."""
        moved = any("_hf_hook" in vars(part) for part in self.module.modules())
        return None if moved else _SteadySteps(self, device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [.., vocab] of hidden states [.., hidden]."""
        logits: Tensor = self.module.lm_head(hidden).float()
        return logits

    def decoder_layers(self) -> int:
        """Return the number of decoder layers."""
        return len(self.module.layers)

    def blocks(self) -> nn.ModuleList:
        """Return the decoder layers."""
        return self.module.layers


class _SteadySteps:
    """The decoder's steps for recording: all places take the language expert."""

    def __init__(self, network: CogVLM2Network, device: torch.device) -> None:
        self._model, self._device = network.module, device
        self.embed, self.logits = network.embed, network.logits

    def placed(self, positions: Sequence[int]) -> Tensor:
        """Return the positions, int64 [rows, 1]."""
        return torch.tensor(positions, device=self._device)[:, None]

    def run(self, hidden: Tensor, placed: Tensor, seen: Tensor, cache: Keeping) -> Tensor:
        """Run embeddings through all layers and the last norm."""
        return self._model.through_layers(hidden, Placement(placed, None, seen), cache)
