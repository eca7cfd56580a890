"""The arithmetic of a decode step, compiled by numba: products, norms, rotation, attention.

Rounding is that of torch's modules in the model's dtype: states are float32 in memory, ``narrow`` ones with the values
of bfloat16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import overload

from vlmchat.families.fused import table as t
from vlmchat.families.fused.looking import (
    HEADS,
    scores_by_words,
    scores_of_floats,
    scores_of_words,
    values_by_words,
    values_of_floats,
    values_of_words,
)
from vlmchat.families.fused.machine import compiled, floats_at, words_at
from vlmchat.families.fused.packed import block_with_four, block_with_one, words_with_four, words_with_one
from vlmchat.families.fused.products import FEW, MANY, OUTPUTS, times_few, times_many, times_one
from vlmchat.families.fused.vectors import DOTS, LANES, WIDTH

PLACES = 256
"""Keys that are scored at once, so that scores and values stay in the first cache."""
_LEAST = np.float32(-1e30)
"""Below every score; infinity is no number to the compiler here."""
ONE = np.float32(1)
_SERIES = tuple(np.float32(1 / divisor) for divisor in (720, 120, 24, 6, 2))
"""Of the exponential."""


def _by_kind(words: Any, others: Any) -> Any:
    """Return a function for compiled code: ``words`` where the first argument is bfloat16 in words, else ``others``."""

    def chosen(first: Any, *_: Any) -> Any:
        kind = getattr(first, "dtype", first)
        return words if isinstance(kind, types.Integer) and kind.bitwidth == 16 else others

    def function(*_: Any) -> Any:
        raise TypeError("only in compiled code")

    overload(function, strict=False)(chosen)
    return function


widened = _by_kind(
    lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32), lambda value: np.float32(value)
)
"""A stored weight, key or value as float32: a word is the upper half of its bits."""
scores_of = _by_kind(
    lambda keys, query, scores: scores_of_words((keys.ctypes.data, query.ctypes.data, len(query), scores.ctypes.data)),
    lambda keys, query, scores: scores_of_floats((keys.ctypes.data, query.ctypes.data, len(query), scores.ctypes.data)),
)
"""Score ``LANES`` keys."""
values_of = _by_kind(
    lambda values, at, weights, sums: values_of_words(_addresses(values, at, weights, sums, 2)),
    lambda values, at, weights, sums: values_of_floats(_addresses(values, at, weights, sums, 4)),
)
"""Add ``LANES`` columns of values from ``at`` on, by the weights of ``HEADS`` heads."""


@compiled
def _addresses(values: Any, at: Any, weights: Any, sums: Any, size: Any) -> Any:
    """Return what :class:`~vlmchat.families.fused.looking.Values` takes."""
    return (
        values.ctypes.data + size * at, weights.ctypes.data, len(values), values.shape[1], weights.shape[1],
        sums.ctypes.data + 4 * at, sums.shape[1],
    )  # fmt: skip


@compiled
def bits(value: Any) -> Any:
    """Return float32 ``value`` rounded to bfloat16, to even, as the upper half of its bits."""
    word = np.float32(value).view(np.uint32)
    return np.uint32(word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@compiled
def rounded(value: Any, narrow: Any) -> Any:
    """Round to bfloat16 if the model computes in it."""
    return np.uint32(bits(value) << np.uint32(16)).view(np.float32) if narrow else np.float32(value)


@compiled
def exponential(value: Any) -> Any:
    """Return e**value to 4e-6, within 87 of zero: a polynomial, which a loop computes many at a time."""
    power = min(max(np.float32(value), np.float32(-87)), np.float32(87)) * np.float32(1.44269504)
    whole = np.floor(power + np.float32(0.5))
    rest = (power - whole) * np.float32(0.69314718)
    series = _SERIES[0] * rest + _SERIES[1]
    series = series * rest + _SERIES[2]
    series = series * rest + _SERIES[3]
    series = series * rest + _SERIES[4]
    series = (series * rest + ONE) * rest + ONE
    return series * np.uint32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def by_words(form: Any) -> Any:
    """Say whether weights in this form are multiplied with inputs in bfloat16."""
    return form >= t.BFLOAT16


@compiled
def rows_computed(rows: Any) -> Any:
    """Return how many rows of inputs and outputs there must be room for: what is computed together is filled up."""
    return 1 if rows == 1 else rows + -rows % FEW


@compiled
def times(form: Any, weights: Any, inputs: Any, width: Any, rows: Any, outputs: Any) -> None:
    """Multiply weights [outputs, inputs] with ``rows`` inputs; both are addresses.

    ``outputs`` are [rows_computed(rows), outputs], contiguous.
    """
    count, into = outputs.shape[1], outputs.ctypes.data
    row_bytes, input_bytes = width * t.BITS[form] // 8, width * (2 if by_words(form) else 4)
    pairs = 0 if rows == 1 or width % WIDTH else count - count % OUTPUTS
    row = 0
    while row < rows and pairs:
        source, target = inputs + row * input_bytes, into + 4 * row * count
        for output in range(0, pairs, OUTPUTS):
            places = (weights + output * row_bytes, source, width, target + 4 * output, count)
            if rows - row > FEW:
                times_many(form, places)
            else:
                times_few(form, places)
        row += MANY if rows - row > FEW else FEW
    for output in range(pairs, count):
        for row in range(rows):
            target = into + 4 * (row * count + output)
            times_one(form, (weights + output * row_bytes, inputs + row * input_bytes, width, target, 0))


@compiled
def times_packed(
    form: Any, weights: Any, scales: Any, stride: Any, inputs: Any, width: Any, rows: Any, outputs: Any
) -> None:
    """Multiply a block of 4-bit weights; see :func:`times`."""
    span, row = outputs.shape[1], 0
    while row < rows:
        source = inputs + row * width * (2 if by_words(form) else 4)
        places = (weights, scales, stride, source, width, outputs[row:].ctypes.data, span)
        if form == t.INT4 and rows == 1:
            block_with_one(places)
        elif form == t.INT4:
            block_with_four(places)
        elif rows == 1:
            words_with_one(places)
        else:
            words_with_four(places)
        row += FEW


@compiled
def finished(form: Any, scales: Any, bias: Any, outputs: Any, narrow: Any) -> None:
    """Scale, round and shift sums [rows, outputs] as the module in torch does: quantized ones round before the bias."""
    rows, count = outputs.shape
    factors, shifts = carray(floats_at(scales), count), carray(floats_at(bias), count)
    for row in range(rows):
        for at in range(count):
            value = outputs[row, at]
            if form == t.INT8 or form == t.INT8_BY_WORDS:
                value *= factors[at]
            if form != t.FLOAT32 and form != t.BFLOAT16:
                value = rounded(value, narrow)
            if bias:
                value += shifts[at]
            outputs[row, at] = rounded(value, narrow)


@compiled
def mapped(piece: Any, places: Any, block: Any, inputs: Any, width: Any, rows: Any, outputs: Any, narrow: Any) -> None:
    """Give outputs of a linear layer from the one at ``block`` of ``piece`` on; see :func:`times`.

    ``places`` are the addresses of the piece's weights, scales and bias.
    """
    form, scales, bias = piece[t.FORM], places[1], places[2]
    weights = places[0] + block * (width * t.BITS[form] // 8)
    if scales:
        scales += 4 * block
    if bias:
        bias += 4 * block
    if form == t.INT4 or form == t.INT4_BY_WORDS:
        times_packed(form, weights, scales, piece[t.STRIDE], inputs, width, rows, outputs)
    else:
        times(form, weights, inputs, width, rows, outputs)
    finished(form, scales, bias, outputs[:rows], narrow)


@compiled
def widen(stored: Any, states: Any) -> None:
    """Write what is stored in float32 or bfloat16 as states."""
    for at in range(len(states)):
        states[at] = widened(stored[at])


@compiled
def packed(states: Any, words: Any) -> None:
    """Write ``states`` that are bfloat16 in value as words."""
    for at in range(len(words)):
        words[at] = np.uint16(np.float32(states[at]).view(np.uint32) >> np.uint32(16))


@compiled
def normalised(inputs: Any, weight: Any, epsilon: Any, outputs: Any, narrow: Any) -> None:
    """Normalise by the root of the mean square."""
    total = np.float32(0)
    for at in range(len(inputs)):
        total += inputs[at] * inputs[at]
    factor = np.float32(1) / np.sqrt(total / np.float32(len(inputs)) + epsilon)
    for at in range(len(inputs)):
        outputs[at] = rounded(rounded(inputs[at] * factor, narrow) * weight[at], narrow)


@compiled
def turn(states: Any, cos: Any, sin: Any, outputs: Any, narrow: Any) -> None:
    """Turn one head's states to their place; a head may be turned in its first part only."""
    width, half = len(cos), len(cos) // 2
    for at in range(width):
        other = -states[at + half] if at < half else states[at - half]
        product = rounded(states[at] * cos[at], narrow)
        outputs[at] = rounded(product + rounded(other * sin[at], narrow), narrow)
    for at in range(width, len(states)):
        outputs[at] = states[at]


@compiled
def scored(keys: Any, query: Any, words: Any, scores: Any) -> Any:
    """Score ``keys`` [places, head size]; return the greatest score.

    ``words`` are the query in bfloat16, or empty where keys are not multiplied in it.
    """
    places, size = keys.shape
    together = 0 if size % LANES else places - places % LANES
    for place in range(0, together, LANES):
        if len(words):
            at = keys.ctypes.data + 2 * place * size
            scores_by_words((at, words.ctypes.data, size, scores[place:].ctypes.data))
        else:
            scores_of(keys[place:], query, scores[place:])
    for place in range(together, places):
        total = np.float32(0)
        for at in range(size):
            total += widened(keys[place, at]) * query[at]
        scores[place] = total
    greatest = _LEAST
    for place in range(places):
        greatest = max(greatest, scores[place])
    return greatest


@compiled
def weighed(scores: Any, scale: Any, greatest: Any) -> Any:
    """Turn scores into weights; return their sum."""
    total, shift = np.float32(0), greatest * scale
    for place in range(len(scores)):
        scores[place] = exponential(scores[place] * scale - shift)
        total += scores[place]
    return total


@compiled
def gathered(values: Any, weights: Any, sums: Any) -> None:
    """Add ``values`` [places, head size] by ``weights`` [heads, places] to ``sums``; heads are a multiple of HEADS."""
    heads, (places, size) = len(weights), values.shape
    together = size - size % LANES
    for head in range(0, heads, HEADS):
        for at in range(0, together, LANES):
            values_of(values, at, weights[head:], sums[head:])
    for head in range(heads):
        for place in range(places):
            for at in range(together, size):
                sums[head, at] += weights[head, place] * widened(values[place, at])


@compiled
def begun(queries: Any, words: Any, scores: Any, weights: Any, sums: Any) -> None:
    """Set attention up: sums of nothing, queries in bfloat16, no weight for heads that fill a group up."""
    heads, size = queries.shape
    for head in range(len(sums)):
        for at in range(size + 1):
            sums[head, at] = 0
        sums[head, size + 1] = _LEAST
    for head in range(heads, len(sums)):
        for place in range(PLACES):
            scores[head, place], weights[head, place] = 0, 0
    for head in range(heads):
        packed(queries[head], words[head])


@compiled
def looked_at(keys: Any, query: Any, words: Any, scale: Any, scores: Any, weights: Any, sums: Any) -> None:
    """Turn a head's scores of a block of ``keys`` into weights, and fade its sums for the new greatest score."""
    count, size = keys.shape
    known, mine = sums[size + 1], scores[:count]
    greatest = max(known, scored(keys, query, words, mine))
    faded = exponential((known - greatest) * scale)
    for at in range(size + 1):
        sums[at] *= faded
    sums[size] += weighed(mine, scale, greatest)
    sums[size + 1] = greatest
    if len(words):
        for place in range(count):
            weights[place] = np.uint16(bits(mine[place]))
        if count % 2:
            weights[count] = 0


@compiled
def attended(keys: Any, values: Any, queries: Any, room: Any, scale: Any, outputs: Any, narrow: Any) -> None:
    """Attend from the last place to ``keys`` and ``values`` [places, head size], block by block.

    ``queries`` [heads, head size] are turned and share the keys; ``room`` is that of :func:`room_for_attention`.
    Outputs are [heads, head size]. Where the processor multiplies bfloat16, weights are rounded to it, as by torch's
    attention on CPUs; their sum is not.
    """
    heads, size = queries.shape
    padded, by_words = heads + -heads % HEADS, DOTS and narrow and size % WIDTH == 0
    ends = padded * (size + 2), padded * (size + 2 + PLACES)
    sums = room[: ends[0]].reshape((padded, size + 2))
    scores = room[ends[0] : ends[1]].reshape((padded, PLACES))
    weights = carray(words_at(room[ends[1] :].ctypes.data), (padded, PLACES))
    words = carray(words_at(room[ends[1] + padded * PLACES // 2 :].ctypes.data), (heads, size if by_words else 0))
    begun(queries, words, scores, weights, sums)
    for first in range(0, len(keys), PLACES):
        behind = min(first + PLACES, len(keys))
        for head in range(heads):
            mine = scores[head], weights[head], sums[head]
            looked_at(keys[first:behind], queries[head], words[head], scale, mine[0], mine[1], mine[2])
        if by_words:
            for head in range(0, padded, HEADS):
                places = (values[first:].ctypes.data, weights[head:].ctypes.data, behind - first, size, PLACES)
                values_by_words((*places, sums[head:].ctypes.data, size + 2))
        else:
            gathered(values[first:behind], scores, sums)
    for head in range(heads):
        for at in range(size):
            outputs[head, at] = rounded(sums[head, at] / sums[head, size], narrow)


def room_for_attention(heads: int, size: int) -> int:
    """Return the float32 that :func:`attended` needs.

    For each head: sums, their weight, the greatest score, scores and weights of ``PLACES`` keys, the query in words.
    """
    return (heads + -heads % HEADS) * (size + 2 + PLACES + PLACES // 2 + size)
