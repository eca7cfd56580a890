"""The KV cache of the sequences that are computed together, and how much of it others can take over.

Keys and values are written in place into buffers that grow by whole blocks, so a decode step
copies one token, not the whole history (Transformers' DynamicCache concatenates on every step),
and cutting back to a common prefix is a change of one number. Every row begins at the first column and
has its own length, so rows of any lengths stand side by side without padding in front.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from vlmchat.engine.grain import KV_BLOCK, KV_BLOCK_RECORDED
from vlmchat.families.family import Position, Prompt


class Extent:
    """How far each row is filled, one account for all layers; it moves on when a whole pass is done."""

    def __init__(self, rows: int) -> None:
        self.lengths = [0] * rows
        self._columns: tuple[object, tuple[Tensor, Tensor]] | None = None

    @property
    def level(self) -> bool:
        """All rows are equally far."""
        return len(set(self.lengths)) <= 1

    @property
    def longest(self) -> int:
        """The length of the longest row."""
        return max(self.lengths)

    def columns(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return (row, column) of the next ``length`` places of each row, int64 [rows, 1] and [rows, length]."""
        wanted = (tuple(self.lengths), length, device)
        if self._columns is None or self._columns[0] != wanted:
            starts = torch.tensor(self.lengths, device=device)[:, None]
            rows = torch.arange(len(starts), device=device)[:, None]
            self._columns = wanted, (rows, starts + torch.arange(length, device=device))
        return self._columns[1]


class InPlaceLayer(CacheLayerMixin):
    """Keys and values of one decoder layer: buffers [rows, kv heads, capacity, head size]."""

    is_sliding = False
    is_croppable = False

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make empty buffers in the dtype and on the device of the first keys."""
        self.keys = key_states.new_empty((*key_states.shape[:2], 0, key_states.shape[3]))
        self.values = value_states.new_empty((*value_states.shape[:2], 0, value_states.shape[3]))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write behind each row's end and return all keys and values up to now, as views of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length, start = key_states.shape[-2], self.extent.longest
        end = start + length
        self.reserve(end)
        if self.extent.level:
            self.keys[:, :, start:end] = key_states
            self.values[:, :, start:end] = value_states
        else:
            rows, columns = self.extent.columns(length, key_states.device)
            self.keys[rows, :, columns] = key_states.transpose(1, 2)
            self.values[rows, :, columns] = value_states.transpose(1, 2)
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reserve(self, end: int) -> None:
        """Have room for ``end`` places; the buffers move if they grow."""
        if end > self.keys.shape[-2]:
            self._grow(_blocks(end, len(self.keys), self.keys.device))

    def take(self, pieces: Sequence[tuple[InPlaceLayer, int, int]]) -> None:
        """Become rows made of ``pieces``: (layer, its row, how many of its places)."""
        filled = [layer for layer, _, length in pieces if length]
        if not filled:
            self.is_initialized = False
            self.keys = self.values = torch.empty(0)
            return
        capacity = _blocks(max(length for *_, length in pieces) + 1, len(pieces), filled[0].keys.device)
        made = [
            _gathered([(getattr(layer, name), *at) for layer, *at in pieces], getattr(filled[0], name), capacity)
            for name in ("keys", "values")
        ]
        self.keys, self.values = made
        self.is_initialized = True

    def _grow(self, capacity: int) -> None:
        held = self.extent.longest
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = _buffer(old, len(old), capacity)
            new[:, :, :held] = old[:, :, :held]
            setattr(self, name, new)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (keys seen by a query of this length, offset of the first key)."""
        return self.extent.longest + query_length, 0

    def get_seq_length(self) -> int:
        """Return the tokens held in the longest row."""
        return self.extent.longest

    def get_max_length(self) -> int:
        """Return -1: the layer grows until memory ends; the engine guards the context limit."""
        return -1


def _blocks(length: int, rows: int, device: torch.device) -> int:
    """Return the capacity of ``rows`` for ``length`` places, in whole blocks."""
    block = KV_BLOCK_RECORDED if rows == 1 and device.type == "cuda" else KV_BLOCK
    return -(-length // block) * block


def _buffer(like: Tensor, rows: int, capacity: int) -> Tensor:
    """Return a buffer [rows, kv heads, capacity, head size].

    Of several rows the shorter ones are read beyond their end, with weight zero, which must not meet a NaN.
    """
    shape = (rows, like.shape[1], capacity, like.shape[3])
    return like.new_empty(shape) if rows == 1 else like.new_zeros(shape)


def _gathered(pieces: Sequence[tuple[Tensor, int, int]], like: Tensor, capacity: int) -> Tensor:
    made = _buffer(like, len(pieces), capacity)
    for place, (source, row, length) in enumerate(pieces):
        if length:
            made[place, :, :length] = source[row, :, :length]
    return made


@dataclass(frozen=True, slots=True)
class Piece:
    """The first ``length`` places of one row."""

    cache: RowCache
    row: int
    length: int


class RowCache:
    """The cache of sequences computed together, and what stands at each of their positions."""

    def __init__(self, layers: int, rows: int = 1) -> None:
        self._layers = layers
        self._rows = rows
        self.reset()

    def reset(self) -> None:
        """Forget everything and free the buffers."""
        self.extent = Extent(self._rows)
        self.native = Cache(layers=[InPlaceLayer(self.extent) for _ in range(self._layers)])
        self._held: list[list[Hashable]] = [[] for _ in range(self._rows)]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._held)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions of each row that are computed and kept."""
        return tuple(self.extent.lengths)

    @property
    def starts(self) -> tuple[int, ...]:
        """:attr:`lengths` where they differ, otherwise nothing: what a span is told."""
        return () if self.extent.level else self.lengths

    def common(self, marks: Sequence[Hashable]) -> Piece:
        """Return the longest prefix of ``marks`` that some row holds.

        The last position of ``marks`` is never taken from the cache: its logits are wanted.
        """
        prefixes = [_common(held, marks[:-1]) for held in self._held]
        row = max(range(len(prefixes)), key=prefixes.__getitem__)
        return Piece(self, row, prefixes[row])

    def take(self, pieces: Sequence[Piece]) -> None:
        """Become the rows that ``pieces`` say, of this cache and of others, which stay as they are.

        Nothing is copied where this cache has one row and keeps its beginning.
        """
        held = [piece.cache._held[piece.row][: piece.length] for piece in pieces]
        if not (len(self) == len(pieces) == 1 and pieces[0].cache is self):
            for place, layer in enumerate(self.native.layers):
                layer.take([(piece.cache.native.layers[place], piece.row, piece.length) for piece in pieces])
        self._held = held
        self.extent.lengths = [len(marks) for marks in held]

    def adopt(self, other: RowCache) -> None:
        """Take the rows of ``other`` over as they are; it is not to be used any more."""
        self.extent, self.native, self._held = other.extent, other.native, other._held

    def note(self, marks: Sequence[Sequence[Hashable]]) -> None:
        """Record what the positions computed just now hold, row by row: the pass is done."""
        for held, new in zip(self._held, marks, strict=True):
            held += new
        self.extent.lengths = [len(held) for held in self._held]

    def bytes(self) -> int:
        """Return the memory of the buffers."""
        return sum(
            buffer.numel() * buffer.element_size()
            for layer in self.native.layers
            for buffer in (layer.keys, layer.values)
            if isinstance(buffer, torch.Tensor)
        )


def _common(held: Sequence[Hashable], marks: Sequence[Hashable]) -> int:
    for place, (have, want) in enumerate(zip(held, marks, strict=False)):
        if have != want:
            return place
    return min(len(held), len(marks))


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
