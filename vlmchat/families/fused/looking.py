"""Scores of keys and sums of values, for attention from one place."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from vlmchat.families.fused.vectors import FLOATS, INTEGERS, LANES, Code, Dots, written

HEADS = 4
"""Query heads that take values together."""
_KEPT = ("float32", "bfloat16")
"""What keys and values are kept in."""


class Scores(Code):
    """Scores 16 keys: the products of each with a query.

    Arguments, int64: addresses of the keys and of the query (float32), their size, a multiple of ``LANES``, address
    of the scores.
    """

    def __init__(self, kind: str, builder: Any, keys: Any, query: Any, size: Any, into: Any) -> None:
        super().__init__(builder)
        self._kind, self._keys, self._query, self._size, self._into = kind, keys, query, size, into

    def write(self) -> None:
        """Write the instructions."""
        builder, sums = self._builder, self._variables(LANES)
        for variable in sums:
            builder.store(FLOATS(None), variable)
        with cgutils.for_range(builder, builder.udiv(self._size, self._number(LANES))) as columns:
            at = self._times(columns.index, LANES)
            query = self._widened(self._query, at, "float32")
            for key, variable in enumerate(sums):
                numbers = self._widened(self._keys, builder.add(self._times(self._size, key), at), self._kind)
                builder.store(self._plus(numbers, query, builder.load(variable)), variable)
        self._write(self._into, self._number(0), self._sums([builder.load(variable) for variable in sums]))


class WordScores(Dots):
    """Scores 16 keys in bfloat16, one behind the other as they lie in memory.

    Arguments, int64: addresses of the keys and of the query (bfloat16), their size, a multiple of ``WIDTH``, address
    of the scores (float32).
    """

    def __init__(self, _: None, builder: Any, keys: Any, query: Any, size: Any, into: Any) -> None:
        super().__init__(("bfloat16", "bfloat16"), builder)
        self._keys, self._query, self._size, self._into = keys, query, size, into

    def write(self) -> None:
        """Write the instructions."""
        builder, sums = self._builder, self._variables(LANES)
        for variable in sums:
            builder.store(FLOATS(None), variable)
        for first, vectors in self._stretches(self._size):
            places = [builder.add(first, self._number(at * self.columns)) for at in range(vectors)]
            queries = [self._operands(1, self._query, place) for place in places]
            for key, variable in enumerate(sums):
                for place, query in zip(places, queries, strict=True):
                    numbers = self._operands(0, self._keys, builder.add(self._times(self._size, key), place))
                    builder.store(self._added(numbers, query, builder.load(variable)), variable)
        self._write(self._into, self._number(0), self._sums([builder.load(variable) for variable in sums]))


class Values(Code):
    """Adds 16 columns of values by their weights to the sums of ``HEADS`` heads, in registers for all places.

    Arguments, int64: addresses of the values' first column and of the weights (float32), places, the values' size,
    from one head's weights to the next, address of the sums' first column, from one head's sums to the next.
    """

    def __init__(self, kind: str, builder: Any, values: Any, weights: Any, places: Any, *sizes: Any) -> None:
        super().__init__(builder)
        self._kind, self._values, self._weights, self._places = kind, values, weights, places
        self._size, self._apart, self._into, self._span = sizes

    def write(self) -> None:
        """Write the instructions."""
        builder, sums = self._builder, self._variables(HEADS)
        for head, variable in enumerate(sums):
            builder.store(self._read(self._into, self._times(self._span, 4 * head), FLOATS), variable)
        with cgutils.for_range(builder, self._places) as places:
            values = self._widened(self._values, builder.mul(places.index, self._size), self._kind)
            for head, variable in enumerate(sums):
                offset = self._times(builder.add(self._times(self._apart, head), places.index), 4)
                weight = self._spread(self._read(self._weights, offset, ir.FloatType()))
                builder.store(self._plus(weight, values, builder.load(variable)), variable)
        for head, variable in enumerate(sums):
            self._write(self._into, self._times(self._span, 4 * head), builder.load(variable))


class WordValues(Dots):
    """Adds values in bfloat16 by their weights to the sums of ``HEADS`` heads, two places at a time.

    Arguments, int64: addresses of the values and of the weights (bfloat16, a zero behind the last of an odd number),
    places, the values' size, a multiple of ``WIDTH``, from one head's weights to the next, address of the sums
    (float32), from one head's sums to the next.
    """

    def __init__(self, _: None, builder: Any, values: Any, weights: Any, places: Any, *sizes: Any) -> None:
        super().__init__(("bfloat16", "bfloat16"), builder)
        self._values, self._weights, self._places = values, weights, places
        self._size, self._apart, self._into, self._span = sizes

    def write(self) -> None:
        """Write the instructions."""
        for first, vectors in self._stretches(self._size):
            columns = [self._builder.add(first, self._number(at * self.columns)) for at in range(vectors)]
            self._add(columns)

    def _add(self, columns: list[Any]) -> None:
        """Add the values of ``WIDTH`` columns from each of ``columns`` on."""
        builder, one = self._builder, self._number(1)
        sums = [[self._variables(2) for _ in columns] for _ in range(HEADS)]
        for variable in (variable for head in sums for pair in head for variable in pair):
            builder.store(FLOATS(None), variable)
        with cgutils.for_range(builder, builder.udiv(builder.add(self._places, one), self._number(2))) as pairs:
            place = self._times(pairs.index, 2)
            # Behind the last of an odd number stands memory that may hold anything: it is taken twice.
            behind = builder.add(place, one)
            behind = builder.select(builder.icmp_unsigned("<", behind, self._places), behind, place)
            rows = [builder.mul(which, self._size) for which in (place, behind)]
            mixed = [self._mixed(*(builder.add(row, column) for row in rows)) for column in columns]
            for head, mine in enumerate(sums):
                offset = self._times(builder.add(self._times(self._apart, head), place), 2)
                weight = self._spread(self._read(self._weights, offset, ir.IntType(32)))
                for variables, halves in zip(mine, mixed, strict=True):
                    for variable, half in zip(variables, halves, strict=True):
                        builder.store(self._added(half, weight, builder.load(variable)), variable)
        for head, mine in enumerate(sums):
            for column, variables in zip(columns, mine, strict=True):
                self._put(head, column, [builder.load(variable) for variable in variables])

    def _mixed(self, first: Any, second: Any) -> list[Any]:
        """Return 32 columns of two places side by side: of each 8 columns the first 4, and the others.

        This order costs one instruction a half.
        """
        words = ir.VectorType(ir.IntType(16), 2 * LANES)
        both = [self._read(self._values, self._times(at, 2), words) for at in (first, second)]
        halves = []
        for half in (0, 4):
            columns = [lane + half + at for lane in range(0, 2 * LANES, 8) for at in range(4)]
            order = [place for column in columns for place in (column, 2 * LANES + column)]
            mixed = self._builder.shuffle_vector(*both, ir.VectorType(ir.IntType(32), 2 * LANES)(order))
            halves.append(self._builder.bitcast(mixed, INTEGERS))
        return halves

    def _put(self, head: int, column: Any, halves: list[Any]) -> None:
        """Add sums in the order of :meth:`_mixed` to a head's columns."""
        builder = self._builder
        for part in (0, 1):
            order = [8 * part + at + half + four for four in (0, 4) for half in (0, LANES) for at in range(4)]
            ordered = builder.shuffle_vector(*halves, INTEGERS(order))
            offset = self._times(builder.add(self._times(self._span, head), column), 4)
            offset = builder.add(offset, self._number(4 * LANES * part))
            self._write(self._into, offset, builder.fadd(self._read(self._into, offset, FLOATS), ordered))


scores_of_floats, scores_of_words = (written(Scores, kind, 4) for kind in _KEPT)
"""Keys in float32 and bfloat16; see :class:`Scores`."""
scores_by_words, values_by_words = written(WordScores, None, 4), written(WordValues, None, 7)
"""Keys, values, queries and weights in bfloat16; see :class:`WordScores` and :class:`WordValues`."""
values_of_floats, values_of_words = (written(Values, kind, 7) for kind in _KEPT)
"""Values in float32 and bfloat16; see :class:`Values`."""
