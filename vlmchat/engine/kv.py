"""The KV cache of one sequence, and how much of it the next turn can keep.

Keys and values are written in place into buffers that grow by whole blocks, so a decode step
copies one token, not the whole history (Transformers' DynamicCache concatenates on every step),
and cutting back to a common prefix is a change of one number.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from vlmchat.engine.grain import KV_BLOCK as BLOCK
from vlmchat.families.family import Position, Prompt


class InPlaceLayer(CacheLayerMixin):
    """Keys and values of one decoder layer: buffers [batch, kv heads, capacity, head size]."""

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the first block in the dtype and on the device of the first keys."""
        self.keys = key_states.new_empty((*key_states.shape[:2], 0, key_states.shape[3]))
        self.values = value_states.new_empty((*value_states.shape[:2], 0, value_states.shape[3]))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append and return all keys and values up to now, as views of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self._grow(-(-end // BLOCK) * BLOCK)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grow(self, capacity: int) -> None:
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_empty((*old.shape[:2], capacity, old.shape[3]))
            new[:, :, : self.length] = old[:, :, : self.length]
            setattr(self, name, new)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (keys seen by a query of this length, offset of the first key)."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Return the tokens held."""
        return self.length

    def get_max_length(self) -> int:
        """Return -1: the layer grows until memory ends; the engine guards the context limit."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last ``-tokens_to_remove`` tokens (Transformers passes a negative count)."""
        self.length -= abs(tokens_to_remove)


class SequenceCache:
    """The cache of the sequence computed last, and what stands at each of its positions."""

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self.reset()

    def reset(self) -> None:
        """Forget everything and free the buffers."""
        self.native = Cache(layers=[InPlaceLayer() for _ in range(self._layers)])
        self._held: list[Hashable] = []

    def __len__(self) -> int:
        """Return the positions that are computed and kept."""
        return len(self._held)

    def keep_common(self, marks: Sequence[Hashable]) -> int:
        """Cut back to the longest common prefix with ``marks`` and return its length.

        The last position of ``marks`` is never taken from the cache: its logits are wanted.
        """
        common = 0
        for held, mark in zip(self._held, marks[:-1], strict=False):
            if held != mark:
                break
            common += 1
        surplus = len(self._held) - common
        if surplus:
            self.native.crop(-surplus)
            del self._held[common:]
        return common

    def note(self, marks: Sequence[Hashable]) -> None:
        """Record what the positions computed just now hold."""
        self._held += marks

    def bytes(self) -> int:
        """Return the memory of the buffers."""
        return sum(
            buffer.numel() * buffer.element_size()
            for layer in self.native.layers
            for buffer in (layer.keys, layer.values)
            if isinstance(buffer, torch.Tensor)
        )


def marks_of(prompt: Prompt) -> list[Hashable]:
    """Return an identity for every position of ``prompt``: equal marks mean equal keys and values.

    A text position is its token id, a feature position the picture's key and the feature's number;
    rotary position, expert branch and rotary table are added where the family sets them.
    """
    marks: list[Hashable] = list(prompt.ids)
    for slot in prompt.slots:
        key = prompt.pictures[slot.picture].key
        for place in range(slot.length):
            marks[slot.start + place] = (key, slot.offset + place)
    if prompt.positions is not None:
        marks = list(zip(marks, prompt.positions, strict=True))
    if prompt.experts is not None:
        marks = list(zip(marks, prompt.experts, strict=True))
    if prompt.regime is not None:
        marks = [(mark, prompt.regime) for mark in marks]
    return marks


def mark_of_token(token: int, position: Position, prompt: Prompt) -> Hashable:
    """Return the identity :func:`marks_of` gives to a generated ``token`` once it is part of a prompt."""
    mark: Hashable = token
    if prompt.positions is not None:
        mark = (mark, position)
    if prompt.experts is not None:
        mark = (mark, False)
    return mark if prompt.regime is None else (mark, prompt.regime)
