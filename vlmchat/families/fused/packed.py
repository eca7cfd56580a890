"""4-bit weights in torch's layout for AVX-512: their products, and the same in bfloat16."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from vlmchat.families.fused.products import FEW
from vlmchat.families.fused.vectors import FLOATS, INTEGERS, LANES, Dots, written

GROUP = 32
"""Input features that share a scale (``engine/grain.py`` has the same number for those who must not import this)."""


class Packed(Dots):
    """Reads a block of output features in torch's CPU layout of 4-bit weights.

    See ``engine/quantize.py`` for the layout: for each input feature 32 bytes, whose low halves are the first 32
    outputs; for each group of inputs and each output a scale and a zero: value = (level - 8) * scale + zero.
    """

    def __init__(self, builder: Any, packed: Any, scales: Any, stride: Any) -> None:
        super().__init__(("int4", "bfloat16"), builder)
        self._packed, self._scales, self._stride = packed, scales, stride

    def _levels(self, at: Any) -> list[Any]:
        """Return the levels, 0 to 15, of one input feature: four vectors of float32."""
        builder, halves = self._builder, []
        for half in range(2):
            offset = builder.add(self._times(at, 2 * LANES), self._number(half * LANES))
            wide = builder.zext(self._read(self._packed, offset, ir.VectorType(ir.IntType(8), LANES)), INTEGERS)
            halves.append((builder.and_(wide, INTEGERS([15] * LANES)), builder.lshr(wide, INTEGERS([4] * LANES))))
        return [builder.sitofp(halves[place % 2][place // 2], FLOATS) for place in range(4)]

    def _scale_and_zero(self, group: Any, place: int) -> tuple[Any, Any]:
        """Return those of 16 outputs."""
        builder = self._builder
        first = self._times(builder.mul(group, self._stride), 4)
        both = self._read(self._scales, builder.add(first, self._number(4 * LANES * place)), INTEGERS)
        scale = builder.bitcast(builder.shl(both, INTEGERS([16] * LANES)), FLOATS)
        return scale, builder.bitcast(builder.and_(both, INTEGERS([0xFFFF0000] * LANES)), FLOATS)


class Block(Packed):
    """Multiplies a block of 4-bit weights.

    Arguments, int64: addresses of the packed weights and of the scales (bfloat16), output features of the matrix,
    address of the inputs (float32), how many in a row, address of the outputs, from one row of outputs to the next.
    """

    together = 1
    """Input features that are taken at once."""
    centre = -8.0
    """What makes a group's level the middle one."""

    def __init__(self, rows: int, builder: Any, packed: Any, scales: Any, stride: Any, *sizes: Any) -> None:
        super().__init__(builder, packed, scales, stride)
        self._rows = range(rows)
        self._inputs, self._width, self._outputs, self._span = sizes

    def write(self) -> None:
        """Write the instructions."""
        builder = self._builder
        sums = [self._variables(4) for _ in self._rows]
        wholes = self._variables(len(self._rows))
        for row in self._rows:
            for place in range(4):
                self._write(self._outputs, self._output(row, place), FLOATS(None))
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(GROUP))) as groups:
            for variable in (*wholes, *(variable for row in sums for variable in row)):
                builder.store(FLOATS(None), variable)
            turns = GROUP // self.together
            first = self._times(groups.index, turns)
            with cgutils.for_range(builder, self._number(turns)) as turn:
                self._add(builder.add(first, turn.index), sums, wholes)
            for place in range(4):
                self._add_group(groups.index, place, [row[place] for row in sums], wholes)

    def _output(self, row: int, place: int) -> Any:
        """Return the offset of 16 outputs of a row."""
        return self._builder.add(self._times(self._span, 4 * row), self._number(4 * LANES * place))

    def _add(self, at: Any, sums: Any, wholes: Any) -> None:
        """Add what one input feature gives to every row's sums."""
        builder, levels = self._builder, self._levels(at)
        for row in self._rows:
            offset = builder.add(self._times(self._width, 4 * row), self._times(at, 4))
            value = self._spread(self._read(self._inputs, offset, ir.FloatType()))
            builder.store(builder.fadd(builder.load(wholes[row]), value), wholes[row])
            for variable, level in zip(sums[row], levels, strict=True):
                builder.store(self._plus(level, value, builder.load(variable)), variable)

    def _add_group(self, group: Any, place: int, sums: Any, wholes: Any) -> None:
        """Add a group's sums of 16 outputs to the totals."""
        builder, (scale, zero) = self._builder, self._scale_and_zero(group, place)
        for row in self._rows:
            whole, offset = builder.load(wholes[row]), self._output(row, place)
            centred = self._plus(whole, FLOATS([self.centre] * LANES), builder.load(sums[row]))
            total = self._plus(scale, centred, self._read(self._outputs, offset, FLOATS))
            self._write(self._outputs, offset, self._plus(zero, whole, total))


class WordBlock(Block):
    """Multiplies a block of 4-bit weights with inputs in bfloat16, two input features at a time.

    A level l becomes 16 + l in bfloat16 by its bits alone: the exponent of 16 with l in the upper half of the fraction.

    Arguments: as of :class:`Block`, inputs in bfloat16.
    """

    together = 2
    centre = -24.0

    def _add(self, at: Any, sums: Any, wholes: Any) -> None:
        """Add what two input features give to every row's sums."""
        builder, levels = self._builder, [self._ready(words) for words in self._pairs(at)]
        ones = self._ready(INTEGERS([0x3F803F80] * LANES))
        for row in self._rows:
            offset = builder.add(self._times(self._width, 2 * row), self._times(at, 4))
            values = self._ready(self._spread(self._read(self._inputs, offset, ir.IntType(32))))
            builder.store(self._added(ones, values, builder.load(wholes[row])), wholes[row])
            for variable, level in zip(sums[row], levels, strict=True):
                builder.store(self._added(level, values, builder.load(variable)), variable)

    def _pairs(self, at: Any) -> list[Any]:
        """Return 16 + the levels of two input features side by side: four vectors of 16 outputs."""
        builder = self._builder
        both = self._read(self._packed, self._times(at, 4 * LANES), ir.VectorType(ir.IntType(8), 4 * LANES))
        bits, sixteen = INTEGERS([0x00780078] * LANES), INTEGERS([0x41804180] * LANES)
        mixed = []
        for half in (0, LANES):
            # A byte of either feature in both bytes of its word; what is too much is cut off.
            order = [place for lane in range(half, half + LANES) for place in (lane, lane, 32 + lane, 32 + lane)]
            shuffled = builder.shuffle_vector(both, both.type(ir.Undefined), ir.VectorType(ir.IntType(32), 64)(order))
            mixed.append(builder.bitcast(shuffled, INTEGERS))
        moved = [builder.shl(words, INTEGERS([3] * LANES)) for words in mixed]
        moved += [builder.lshr(words, INTEGERS([1] * LANES)) for words in mixed]
        return [builder.or_(builder.and_(words, bits), sixteen) for words in moved]


class Wide(Packed):
    """Widens a block of 4-bit weights to bfloat16.

    Arguments, int64: addresses of the packed weights and of the scales (bfloat16), output features of the matrix,
    input features, address of the first widened weight [inputs, outputs], output features of what is widened.
    """

    def __init__(self, _: None, builder: Any, packed: Any, scales: Any, stride: Any, *sizes: Any) -> None:
        super().__init__(builder, packed, scales, stride)
        self._width, self._into, self._span = sizes

    def write(self) -> None:
        """Write the instructions."""
        builder = self._builder
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(GROUP))) as groups:
            factors = [self._scale_and_zero(groups.index, place) for place in range(4)]
            first = self._times(groups.index, GROUP)
            with cgutils.for_range(builder, self._number(GROUP)) as inputs:
                at = builder.add(first, inputs.index)
                wide = []
                for level, (scale, zero) in zip(self._levels(at), factors, strict=True):
                    centred = builder.fadd(level, FLOATS([-8.0] * LANES))
                    wide.append(self._plus(centred, scale, zero))
                first_of_row = self._times(builder.mul(at, self._span), 2)
                for half in (0, 2):
                    offset = builder.add(first_of_row, self._number(2 * LANES * half))
                    self._write(self._into, offset, self._rounded(*wide[half : half + 2]))


block_with_one, block_with_four = (written(Block, rows, 7) for rows in (1, FEW))
"""With one row and with ``FEW``; see :class:`Block`."""
words_with_one, words_with_four = (written(WordBlock, rows, 7) for rows in (1, FEW))
"""See :class:`WordBlock`."""
widened_block = written(Wide, None, 6)
"""See :class:`Wide`."""
