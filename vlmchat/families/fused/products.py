"""Products of rows of weights with rows of inputs; 4-bit weights have a file of their own (``packed.py``)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vlmchat.families.fused import table as t
from vlmchat.families.fused.machine import spelled
from vlmchat.families.fused.vectors import FLOATS, SIZES, Dots

FEW, MANY, OUTPUTS = 4, 8, 2
"""Rows, and outputs, that are multiplied together: 8 or 16 sums in registers."""
TOGETHER = 4
"""Vectors of one row that are multiplied in turns."""
_AHEAD = 8
"""Rows of weights between what is read and what is asked for."""


class Row(Dots):
    """Multiplies a row of weights with one row of inputs.

    In ``TOGETHER`` sums, since each waits for its last addition: a plain loop of numba's reads int8 at 18 to 26 G
    weights a second where this one reads 25 to 40 (two AVX-512 cores). Weights in one row are a pattern that
    processors foresee; asking for later ones gained nothing.

    Arguments, int64: addresses of the weights and of the inputs, how many, address of the output (float32), and one
    that is not used.
    """

    def __init__(self, kinds: tuple[str, str], builder: Any, weights: Any, inputs: Any, *sizes: Any) -> None:
        super().__init__(kinds, builder)
        self._weights, self._inputs = weights, inputs
        self._width, self._into, _ = sizes

    def write(self) -> None:
        """Write the instructions."""
        builder, sums = self._builder, self._variables(TOGETHER)
        for variable in sums:
            builder.store(FLOATS(None), variable)
        for first, vectors in self._stretches(self._width, TOGETHER):
            for part, variable in enumerate(sums[:vectors]):
                at = builder.add(first, self._number(part * self.columns))
                sides = self._operands(0, self._weights, at), self._operands(1, self._inputs, at)
                builder.store(self._added(*sides, builder.load(variable)), variable)
        parts = [builder.load(variable) for variable in sums]
        while len(parts) > 1:
            parts = [builder.fadd(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        total = cgutils.alloca_once_value(builder, self._sum(parts[0]))
        left = builder.urem(self._width, self._number(self.columns))
        with cgutils.for_range(builder, left) as rest:
            at, bases = builder.add(builder.sub(self._width, left), rest.index), (self._weights, self._inputs)
            one, other = (self._widened_one(base, at, kind) for base, kind in zip(bases, self._kinds, strict=True))
            builder.store(self._plus(one, other, builder.load(total)), total)
        self._write(self._into, self._number(0), builder.load(total))


class Rows(Dots):
    """Multiplies ``OUTPUTS`` rows of weights with some rows of inputs: a weight is made ready once for all rows.

    Arguments, int64: addresses of the weights and of the inputs, how many in a row, a multiple of ``WIDTH``, address
    of the outputs (float32), from one row of outputs to the next.
    """

    def __init__(self, kinds: tuple[str, str], rows: int, builder: Any, weights: Any, inputs: Any, *sizes: Any) -> None:
        super().__init__(kinds, builder)
        self._rows, self._weights, self._inputs = range(rows), weights, inputs
        self._width, self._into, self._span = sizes

    def write(self) -> None:
        """Write the instructions."""
        builder = self._builder
        sums = [self._variables(len(self._rows)) for _ in range(OUTPUTS)]
        for variable in (variable for row in sums for variable in row):
            builder.store(FLOATS(None), variable)
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(self.columns))) as columns:
            at = self._times(columns.index, self.columns)
            values = [self._operands(1, self._inputs, self._place(row, at)) for row in self._rows]
            for output in range(OUTPUTS):
                weights = self._operands(0, self._weights, self._place(output, at))
                # Later weights are asked for: two rows in turns are no pattern a processor foresees (8 rows of 896 in
                # bfloat16: 6 and 14 G/s, into the first cache 9).
                later = self._times(self._place(output + _AHEAD, at), SIZES[self._kinds[0]])
                self._ask_for(builder.add(self._weights, later))
                for variable, value in zip(sums[output], values, strict=True):
                    builder.store(self._added(weights, value, builder.load(variable)), variable)
        for row in self._rows:
            for output in range(OUTPUTS):
                offset = builder.add(self._times(self._span, 4 * row), self._number(4 * output))
                self._write(self._into, offset, self._sum(builder.load(sums[output][row])))

    def _place(self, row: int, at: Any) -> Any:
        return self._builder.add(self._times(self._width, row), at)


_KINDS = {
    t.FLOAT32: ("float32", "float32"),
    t.INT8: ("int8", "float32"),
    t.BFLOAT16: ("bfloat16", "bfloat16"),
    t.INT8_BY_WORDS: ("int8", "bfloat16"),
}
"""Of weights and inputs, by the form of the weights."""


def _written_by_form(code: Any, *about: Any) -> Any:
    """Return a function for compiled code that takes a form and a tuple of five int64."""

    @spelled
    def function(_: Any, form: Any, arguments: Any) -> Any:
        def body(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            for number, kinds in _KINDS.items():
                with builder.if_then(builder.icmp_signed("==", values[0], ir.IntType(64)(number))):
                    code(kinds, *about, builder, *cgutils.unpack_tuple(builder, values[1], 5)).write()
            return context.get_dummy_value()

        return types.void(types.int64, types.UniTuple(types.int64, 5)), body

    return function


times_one = _written_by_form(Row)
"""See :class:`Row`."""
times_few, times_many = (_written_by_form(Rows, rows) for rows in (FEW, MANY))
"""See :class:`Rows`."""
