"""How a step is written down for compiled code: tables of int64, addresses included."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

WEIGHTS, SCALES, BIAS, SECOND_WEIGHTS, SECOND_SCALES, SECOND_BIAS = range(6)
"""Columns of a piece: addresses of its first output feature's weights, scales and bias (0: none), twice in a gate."""
FORM, STRIDE, COUNT, OUTPUT = range(6, 10)
"""How the weights are stored, output features of the whole matrix, of the piece, the address its outputs go to."""
LAYER, KV_HEAD, FIRST_HEAD, HEADS = range(4)
"""Columns of a piece of attention: its layer, its key head, its first query head and how many."""
PIECE_COLUMNS = 10

FLOAT32, INT8, INT4, BFLOAT16, INT8_BY_WORDS, INT4_BY_WORDS = range(6)
"""Forms of weights: from ``BFLOAT16`` on they are multiplied with inputs in bfloat16, those before in float32."""
MOST_ROWS = 128
"""Rows of a step at most. Beside torch's operations 64 sequences are 1.4 times as fast in bfloat16 and 2.2 in 8 and 4
bits, 128 tokens of one 1.3, 1.7 and 1.5 times (``tests/bench/bench_steps.py``, two cores)."""
BITS = (32, 8, 4, 16, 8, 4)
"""Of a weight, by its form."""
BLOCK = 64
"""Output features that stand together in torch's layout of 4-bit weights on AVX-512; others are computed by as many, so
that their weights stay in a core's cache for all rows."""

KIND, FIRST_PIECE, PIECES, SOURCE, WIDTH, NORM, SPAN = range(7)
"""Columns of an operation: what is done, its pieces, the address of its inputs, their number in a row, the norm's
weight or 0, how many outputs a row has."""
OPERATION_COLUMNS = 7

MAP, MAP_AND_ADD, MAP_AND_GATE, NORMALISE, LOOK_UP, TURN, ATTEND = range(7)
"""Kinds: y = W x, y += W x, y = silu(W x) * (U x), a norm alone; from ``LOOK_UP`` on row by row: embeddings are looked
up, keys and queries are turned to their place, attention."""

STEP, FIRST, LAST, LEAVE, ROWS, CAPACITY, TURNED, INSIDE = (8 * line for line in range(8))
"""Places in the control block, a cache line each: the step's number, its operations, whether helpers leave, the rows
of a step, places of the KV buffers, the turned part of a head; from ``INSIDE`` on whether each helper is in compiled
code."""

TICKETS, UNFINISHED, COUNTER_COLUMNS = 0, 8, 16
"""Columns of an operation's counters, a cache line each: pieces to be taken, pieces not done yet."""
SHIFT = 20
"""Bits of a counter below the number of the step that it belongs to."""


class Tables(NamedTuple):
    """All that the threads of a step read and write; numba takes it as it is."""

    control: Any
    """int64, see ``STEP``."""
    operations: Any
    """int64 [operations, OPERATION_COLUMNS]."""
    pieces: Any
    """int64 [pieces, PIECE_COLUMNS]."""
    counters: Any
    """int64 [operations, COUNTER_COLUMNS]."""
    kept: Any
    """int64 [layers, 2]: addresses of the keys and values [rows, kv heads, capacity, head size]."""
    ids: Any
    """int64 [rows]: the new tokens."""
    sequences: Any
    """int64 [rows]: in which row of the cache each new token belongs."""
    places: Any
    """int64 [rows]: where in its sequence each new token stands."""
    fresh: Any
    """float32 [rows, heads + 2 * kv heads, head size]: queries, keys and values of the new tokens."""
    queries: Any
    """float32 [rows, heads, head size], turned."""
    answers: Any
    """float32 [rows, heads, head size]: what attention gives."""
    turning: Any
    """float32 [2, rows, head size]: cosines and sines of the new places, for the turned part of a head."""
    room: Any
    """float32 [threads, ..]: what one thread needs for itself. For attention see ``kernels.py``, otherwise one row of
    ``widest`` states, the inputs of as many rows as there may be, and twice the outputs of ``BLOCK`` features."""
    widest: Any
    """Inputs of the widest layer."""
    epsilon: Any
    """Of the norms."""
    narrow: Any
    """States are rounded to bfloat16, which keys and values are stored in."""


def zeros(*shape: int, dtype: Any = np.int64) -> Any:
    """Return an array whose addresses stay."""
    return np.zeros(shape, dtype)
