"""What a network holds and moves, counted from its config.json alone. No torch here.

Each family counts its own networks (``families/*/sizes.py``); the engine turns the counts into bytes
for a device and a quantization (``engine/fit.py``). A config that lacks a key, or is of no family
counted here, has no sizes: they are unknown, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vlmchat.errors import CheckpointError
from vlmchat.families.registry import read_config

Config: TypeAlias = Mapping[str, Any]
"""A parsed config.json, or the part of one that a catalog row gives."""


@dataclass(frozen=True, slots=True)
class Linear:
    """The shape of a linear layer."""

    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Numbers in its weight, bias apart."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Part:
    """``repeats`` equal blocks: their linear layers, and all their other parameters as one number."""

    linears: tuple[Linear, ...]
    others: int
    repeats: int = 1

    @property
    def parameters(self) -> int:
        """Parameters in all blocks together."""
        linear = sum(layer.weights + layer.bias * layer.outputs for layer in self.linears)
        return self.repeats * (linear + self.others)


@dataclass(frozen=True, slots=True)
class Packing:
    """How the linear layers of a checkpoint that comes quantized are stored."""

    method: Literal["awq", "gptq", "bnb"]
    bits: int = 4
    group: int = 0
    """Input features that share a scale in AWQ and GPTQ; below 1 all of a layer do."""
    vision: bool = False
    """Whether the vision tower's are packed too."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What one decoder layer is made of."""

    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    """Width of the MLP."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the largest picture, or video, of a conversation is made of."""

    tiles: int
    """Passes of the vision tower: tiles with thumbnail, or frames."""
    tokens: int
    """Prompt positions, marks between tiles included."""
    features: int
    """Positions that hold features, which the engine keeps for later turns."""
    side: int
    """Of a tile, in pixels."""
    tile_numbers: int
    """Numbers alive at once inside the tower, for each tile of a pass."""
    word_numbers: int = 0
    """Numbers alive at once behind the tower, one tile at a time (Ovis2: a probability for each visual word)."""
    most: int | None = None
    """How many one conversation takes; None: the context is the only limit."""
    medium: Literal["picture", "video"] = "picture"


@dataclass(frozen=True, slots=True)
class Sizes:
    """One network in numbers."""

    decoder: Part
    vision: tuple[Part, ...]
    """Tower, projector, visual vocabulary."""
    ends: int
    """Embedding, output head where it is not the embedding, last norm."""
    vocabulary: int
    """Rows of the embedding."""
    attention: Attention
    pictures: Pictures
    context_tokens: int | None
    dtype: str | None
    """The dtype of the files by ``torch_dtype``; None where config.json does not say."""
    packing: Packing | None = None
    tied: bool = False
    """The output head is the embedding, so that all of its rows are read for every token."""

    @property
    def parameters(self) -> int:
        """Parameters the network holds once loaded."""
        return self.decoder.parameters + sum(part.parameters for part in self.vision) + self.ends

    @property
    def kv_numbers_per_token(self) -> int:
        """Keys and values of one position over all layers, with the key/value heads there really are."""
        return self.decoder.repeats * 2 * self.attention.kv_heads * self.attention.head_size


_COUNTERS: Mapping[str, str] = {
    "InternVLChatModel": "internvl2",
    "Ovis": "ovis2",
    "CogVLMForCausalLM": "cogvlm2",
    "CogVLMVideoForCausalLM": "cogvlm2",
}
"""Class name in config.json -> the family whose ``sizes`` module counts it."""


def sizes_of(config: Config) -> Sizes | None:
    """Count the network of a parsed config.json; None where that cannot be known from it."""
    names = config.get("architectures")
    known = [_COUNTERS[name] for name in _COUNTERS if isinstance(names, Sequence) and name in names]
    if not known:
        return None
    try:
        sizes: Sizes = import_module(f"vlmchat.families.{known[0]}.sizes").count(config)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
        return None
    return sizes


def sizes_of_folder(folder: Path) -> Sizes | None:
    """Count the network of a checkpoint folder, weights there or not; None where that cannot be known."""
    try:
        config = read_config(folder)
        if "quantization_config" not in config and (folder / "quantize_config.json").exists():
            config["quantization_config"] = read_config(folder, "quantize_config.json")
    except CheckpointError:
        return None
    sizes = sizes_of(config)
    if sizes is not None and sizes.dtype is None:
        # Late: a catalog row needs no headers, and `show` pays for every import.
        from vlmchat.families.headers import prevailing_dtype

        return replace(sizes, dtype=prevailing_dtype(folder))
    return sizes


def gated_mlp(hidden: int, inner: int, bias: bool = False) -> tuple[Linear, ...]:
    """Return the three layers of ``down(act(gate(x)) * up(x))``."""
    return Linear(hidden, inner, bias), Linear(hidden, inner, bias), Linear(inner, hidden, bias)


def attention_layers(shape: Attention, bias: bool, output_bias: bool = False) -> tuple[Linear, ...]:
    """Return the query, key, value and output projections of a decoder layer."""
    wide, narrow = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    return (
        Linear(shape.hidden, wide, bias),
        Linear(shape.hidden, narrow, bias),
        Linear(shape.hidden, narrow, bias),
        Linear(wide, shape.hidden, output_bias),
    )
