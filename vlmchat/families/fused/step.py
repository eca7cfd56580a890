"""A decoder's modules -> the tables of a step, and the step itself.

Why: torch computes one token's linear layers at 6 to 13 G weights a second on two AVX-512 cores whose memory gives 18
(bfloat16) or 37 (8 bits), and some 20 calls a layer each take Python's lock and hand work to threads and back. Here a
token is one call without the lock. InternVL2-1B's geometry decodes at 1.1 to 1.4 times llama.cpp's rate, by torch at
0.54 (bfloat16), 0.64 (8 bits) and 0.63 (4) of it (``tests/bench/bench_llama.py``); 16 tokens behind 2,000 others are
there 2.7, 3.8 and 2.3 times as soon (``tests/bench/bench_steps.py``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from vlmchat.families.fused import table as t
from vlmchat.families.fused.kernels import room_for_attention
from vlmchat.families.fused.machine import FEATURES
from vlmchat.families.fused.stored import FORMS, Stored, all_stored
from vlmchat.families.fused.table import MOST_ROWS, Tables, zeros
from vlmchat.families.fused.team import Team
from vlmchat.families.rotary import RotaryTables

_LEAST, _GREATEST = 32 * 1024, 1024 * 1024
"""Bytes of weights in a piece, about. Threads that read long stretches read faster (896 x 151,655 weights in bfloat16:
10.3 ms in pieces of 64 kB, 6.4 like this, two threads), short ones at the end let them end together."""
_LINE = 16
"""Outputs in a line of the cache, which two threads would take from each other."""
_LOOK_UP = 0
"""The first operation."""
SERVED = 16 if "+amx-bf16" in FEATURES.split(",") else MOST_ROWS
"""Rows that are computed here. A processor that multiplies matrices itself (AMX) gives torch's products of many rows
several times the rate; from where on they win there was not measured, so little is taken from them."""
Pieces: TypeAlias = list[tuple[int, ...]]


class FusedStep:
    """Runs new tokens through a decoder, one of each of some sequences or some of one, and states through its head.

    To the linear layers both are rows; what differs is which keys and values a row writes and sees.
    """

    def __init__(self, text: Any, head: Any, dtype: torch.dtype, threads: int) -> None:
        """Write the tables for the modules as they are; their weights must stay where they are from now on.

        Args:
            text: a decoder of a kind that :class:`~vlmchat.families.lean.LeanDecoder` knows, on the CPU.
            head: its output head.
            dtype: of states, keys and values: float32 or bfloat16.
            threads: how many take part.

        Raises:
            LookupError: a layer is of a kind that is not served.
        """
        self._dtype, self._turns = dtype, RotaryTables(text.rotary_emb, dtype)
        plan = Plan(text, all_stored([head])[0], dtype, threads)
        self.tables = plan.tables()
        self._plan = plan
        self._team = Team(self.tables, threads)
        self._hidden, self._normed, self._logits = map(torch.from_numpy, (plan.hidden, plan.normed, plan.logits))
        shape = 1, text.config.num_key_value_heads, 0, text.layers[0].self_attn.head_dim
        self._nothing = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
        """Keys and values of a sequence that has none yet."""
        self._kept: Callable[[], Tensor | None] = lambda: None
        """The last layer's keys, whose address is in the tables; they may go when the cache is emptied."""
        self.steps = self.spans = 0
        """Calls of either kind; tests look whether there were any."""

    @staticmethod
    def serves(rows: int) -> bool:
        """Say whether so many tokens are computed here."""
        return rows <= SERVED

    def next_logits(self, ids: Sequence[int], positions: Sequence[int], cache: Cache) -> Tensor:
        """Run one token of each sequence behind ``cache``, every row of which gets a place more.

        Args:
            ids: of the tokens, at most ``SERVED``.
            positions: their rotary positions.
            cache: not empty.

        Returns:
            float32 logits [rows, vocab], which stay until the next call.
        """
        rows, places = len(ids), cache.layers[0].extent.lengths
        self.tables.ids[:rows] = ids
        self._run(positions, range(rows), places, cache, _LOOK_UP, self._plan.head + 1)
        self.steps += 1
        return self._logits[:rows]

    def hidden_states(self, embeddings: Tensor, positions: Sequence[int], cache: Cache) -> Tensor:
        """Run the next tokens of the only sequence in ``cache``; return what the last norm makes of them.

        Args:
            embeddings: [1, length, hidden], at most ``SERVED`` places.
            positions: their rotary positions.
            cache: may be empty.

        Returns:
            [1, length, hidden] in the step's dtype.
        """
        length, first = embeddings.shape[1], cache.get_seq_length()
        self._hidden[:length].copy_(embeddings[0])
        self._run(positions, [0] * length, range(first, first + length), cache, _LOOK_UP + 1, self._plan.head)
        self.spans += 1
        return self._normed[None, :length].to(self._dtype, copy=True)

    def _run(
        self,
        positions: Sequence[int],
        sequences: Sequence[int],
        places: Sequence[int],
        cache: Cache,
        first: int,
        last: int,
    ) -> None:
        """Do operations ``first`` to ``last`` for a row at each of ``places`` of ``sequences``."""
        rows, tables = len(positions), self.tables
        self._look_at(cache, max(places) + 1)
        tables.sequences[:rows], tables.places[:rows] = sequences, places
        waves = self._turns.of(positions)
        width = tables.control[t.TURNED] = waves.shape[-1]
        tables.turning[:, :rows, :width] = waves.numpy()
        tables.control[t.ROWS] = rows
        self._team.run(first, last)

    def _look_at(self, cache: Cache, places: int) -> None:
        """Note where the buffers of ``cache`` are, with room for ``places``: they move together."""
        last: Any = cache.layers[-1]
        known = self._kept()
        if known is not None and known is last.keys and places <= known.shape[2]:
            return
        for at, layer in enumerate(cache.layers):
            if not layer.is_initialized:
                layer.lazy_initialization(*self._nothing)
            layer.reserve(places)
            self.tables.kept[at] = layer.keys.data_ptr(), layer.values.data_ptr()
        self._kept = weakref.ref(last.keys)
        self.tables.control[t.CAPACITY] = last.keys.shape[2]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [rows, vocab] of ``hidden`` [rows, hidden], rounded to the dtype as the head does."""
        rows = self.tables.control[t.ROWS] = len(hidden)
        self._normed[:rows].copy_(hidden)
        self._team.run(self._plan.head, self._plan.head + 1)
        return self._logits[:rows].clone()


class Plan:
    """The operations of a step, their pieces, and the memory between them."""

    def __init__(self, text: Any, head: Stored, dtype: torch.dtype, threads: int) -> None:
        """Write them down for the layers of ``text``, and ``head``, cut for so many ``threads``."""
        config, attention = text.config, text.layers[0].self_attn
        self._narrow, self._threads = dtype == torch.bfloat16, threads
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._size: int = attention.head_dim
        self._epsilon = text.norm.variance_epsilon
        self._held: list[Any] = []
        """Everything whose address stands in a table."""
        self._operations: list[tuple[int, ...]] = []
        self._pieces: list[tuple[int, ...]] = []
        self._widest = config.hidden_size
        self.hidden, self.normed = (self._floats(MOST_ROWS, config.hidden_size) for _ in range(2))
        self.logits = self._floats(MOST_ROWS, head.outputs)
        self._fresh = self._floats(MOST_ROWS, self._heads + 2 * self._kv_heads, self._size)
        self._queries, self._answers = (self._floats(MOST_ROWS, self._heads, self._size) for _ in range(2))
        self._gated = self._floats(MOST_ROWS, config.intermediate_size)
        self._look_up(text.embed_tokens)
        for at, layer in enumerate(text.layers):
            self._attention(at, layer)
            self._mlp(layer)
        last = self._piece({t.OUTPUT: self.normed.ctypes.data})
        self._operation(t.NORMALISE, self.hidden.ctypes.data, config.hidden_size, text.norm, [last], 0)
        self.head = len(self._operations)
        """The operation of the head; those before it are the decoder."""
        self._map(t.MAP, self.normed, None, [head], self.logits)

    def tables(self) -> Tables:
        """Return the tables."""
        group = self._heads // self._kv_heads
        products = self._widest * (1 + MOST_ROWS) + 2 * MOST_ROWS * t.BLOCK
        mine = max(products, room_for_attention(group, self._size))
        layers = sum(operation[t.KIND] == t.ATTEND for operation in self._operations)
        operations, pieces = np.array(self._operations, np.int64), np.array(self._pieces, np.int64)
        return Tables(
            control=zeros(t.INSIDE + 8 * self._threads),
            operations=operations,
            pieces=pieces,
            counters=zeros(len(operations), t.COUNTER_COLUMNS),
            kept=zeros(layers, 2),
            ids=zeros(MOST_ROWS),
            sequences=zeros(MOST_ROWS),
            places=zeros(MOST_ROWS),
            fresh=self._fresh,
            queries=self._queries,
            answers=self._answers,
            turning=self._floats(2, MOST_ROWS, self._size),
            room=zeros(self._threads, mine, dtype=np.float32),
            widest=self._widest,
            epsilon=np.float32(self._epsilon),
            narrow=self._narrow,
        )

    def _look_up(self, embedding: Any) -> None:
        """Write down how a token's embedding is found."""
        if not isinstance(embedding, nn.Embedding) or embedding.weight.dtype not in FORMS:
            raise LookupError("no compiled code for such embeddings")
        form = FORMS[embedding.weight.dtype]
        pieces = [self._piece({t.FORM: form, t.OUTPUT: self.hidden.ctypes.data})]
        self._operation(t.LOOK_UP, self._address(embedding.weight), embedding.embedding_dim, None, pieces, 0)

    def _attention(self, at: int, layer: Any) -> None:
        """Write down one layer's attention."""
        parts = layer.self_attn._modules
        names = ("qkv_proj",) if "qkv_proj" in parts else ("q_proj", "k_proj", "v_proj")
        self._map(t.MAP, self.hidden, layer.input_layernorm, all_stored([parts[name] for name in names]), self._fresh)
        group = self._heads // self._kv_heads
        self._operation(t.TURN, 0, 0, None, self._shared(at, group), 0)
        # The fewest pieces that give every thread one: a key head's keys are read once for each of its pieces.
        share = -(-group // -(-self._threads // self._kv_heads))
        self._operation(t.ATTEND, 0, 0, None, self._shared(at, share), 0)
        self._map(t.MAP_AND_ADD, self._answers, None, all_stored([parts["o_proj"]]), self.hidden)

    def _shared(self, layer: int, most: int) -> Pieces:
        """Return the query heads of each key head of a layer, at most so many in a piece."""
        group = self._heads // self._kv_heads
        return [
            self._piece(
                {t.LAYER: layer, t.KV_HEAD: head, t.FIRST_HEAD: head * group + at, t.HEADS: min(most, group - at)}
            )
            for head in range(self._kv_heads)
            for at in range(0, group, most)
        ]

    def _mlp(self, layer: Any) -> None:
        """Write down one layer's gated MLP."""
        parts, norm = layer.mlp._modules, layer.post_attention_layernorm
        if "gate_up_proj" in parts:
            (both,) = all_stored([parts["gate_up_proj"]])
            gate, up = (_part(both, half * both.outputs // 2, both.outputs // 2) for half in (0, 1))
            stride = both.outputs
        else:
            gate, up = all_stored([parts["gate_proj"], parts["up_proj"]])
            stride = gate.outputs
        self._map(t.MAP_AND_GATE, self.hidden, norm, [gate], self._gated, [up], stride)
        self._map(t.MAP_AND_ADD, self._gated, None, all_stored([parts["down_proj"]]), self.hidden)

    def _floats(self, *shape: int) -> Any:
        made = zeros(*shape, dtype=np.float32)
        self._held.append(made)
        return made

    def _address(self, tensor: Tensor | None, dtype: torch.dtype | None = None) -> int:
        """Return where ``tensor`` lies, or a copy of it in ``dtype``, and keep it there."""
        if tensor is None:
            return 0
        kept = tensor.detach() if dtype is None else tensor.detach().to(dtype)
        self._held.append(kept)
        return kept.data_ptr()

    def _piece(self, columns: dict[int, int]) -> tuple[int, ...]:
        return tuple(columns.get(column, 0) for column in range(t.PIECE_COLUMNS))

    def _operation(self, kind: int, source: int, width: int, norm: Any, pieces: Pieces, span: int) -> None:
        columns = {
            t.KIND: kind,
            t.FIRST_PIECE: len(self._pieces),
            t.PIECES: len(pieces),
            t.SOURCE: source,
            t.WIDTH: width,
            t.NORM: 0 if norm is None else self._address(norm.weight, torch.float32),
            t.SPAN: span,
        }
        self._operations.append(tuple(columns[column] for column in range(t.OPERATION_COLUMNS)))
        self._pieces += pieces
        self._widest = max(self._widest, width)

    def _map(
        self,
        kind: int,
        inputs: Any,
        norm: Any,
        layers: Sequence[Stored],
        outputs: Any,
        seconds: Sequence[Stored] = (),
        stride: int = 0,
    ) -> None:
        """Write down linear layers over the same inputs, their outputs side by side."""
        pieces, address = [], outputs.ctypes.data
        for number, layer in enumerate(layers):
            second = seconds[number] if seconds else None
            pieces += self._cut(layer, second, inputs[0].size, address, stride or layer.outputs)
            address += 4 * layer.outputs
        # Tickets count down, and the largest should be taken first.
        pieces.sort(key=lambda piece: piece[t.COUNT])
        self._operation(kind, inputs.ctypes.data, inputs[0].size, norm, pieces, outputs[0].size)

    def _cut(self, layer: Stored, second: Stored | None, width: int, address: int, stride: int) -> Pieces:
        """Return the pieces of one layer, with its ``second`` beside it in a gate."""
        form = self._form(layer)
        row = width * t.BITS[form] // 8
        grain = t.BLOCK if layer.form == t.INT4 else _LINE
        places = self._places(layer), self._places(second) if second else (0, 0, 0)
        scale = 0 if layer.scales is None else 4
        made = []
        for first, count in _shares(layer.outputs, row, grain, self._threads):
            columns = {t.FORM: form, t.STRIDE: stride, t.COUNT: count}
            columns[t.OUTPUT] = address + 4 * first
            for place, offset in enumerate((row, scale, 4)):
                for base, side in zip((t.WEIGHTS, t.SECOND_WEIGHTS), places, strict=True):
                    if side[place]:
                        columns[base + place] = side[place] + offset * first
            made.append(self._piece(columns))
        return made

    def _form(self, layer: Stored) -> int:
        """Return how the weights are read; states are of the step's dtype.

        Raises:
            LookupError: they are not read beside such states.
        """
        if layer.form == (t.FLOAT32 if self._narrow else t.BFLOAT16):
            raise LookupError("weights and states of different dtypes")
        return (
            {t.INT8: t.INT8_BY_WORDS, t.INT4: t.INT4_BY_WORDS}.get(layer.form, layer.form)
            if self._narrow
            else layer.form
        )

    def _places(self, layer: Stored) -> tuple[int, int, int]:
        """Return the addresses of weights, scales and bias."""
        # Scales of 4 bits stand in pairs of bfloat16, as torch's own kernel reads them.
        scales = self._address(layer.scales, None if layer.form == t.INT4 else torch.float32)
        return self._address(layer.weights), scales, self._address(layer.bias, torch.float32)


def _shares(outputs: int, row: int, grain: int, threads: int) -> Iterator[tuple[int, int]]:
    """Yield the first output and the number of outputs of pieces that become smaller: a thread's share of what is left.

    Args:
        outputs: of all pieces.
        row: bytes of an output's weights.
        grain: pieces hold a multiple of it, the last one excepted.
        threads: how many take pieces.
    """
    first = 0
    while first < outputs:
        wanted = min(max((outputs - first) // threads, _LEAST // row), _GREATEST // row)
        count = min(max(grain, wanted // grain * grain), outputs - first)
        yield first, count
        first += count


def _part(layer: Stored, first: int, outputs: int) -> Stored:
    """Return ``outputs`` output features of ``layer`` from ``first`` on."""
    cut = slice(first, first + outputs)
    scales = layer.scales
    if scales is not None:
        scales = scales[:, cut] if layer.form == t.INT4 else scales[cut]
    bias = None if layer.bias is None else layer.bias[cut]
    return Stored(layer.form, layer.weights[cut], outputs, scales, bias)
