"""Products of weights and inputs in LLVM's language, where a plain loop would not be compiled well enough.

Nothing here needs one processor: LLVM turns vectors of 16 numbers into what the machine has. Two instructions are
asked for by name where they are there (``DOTS``): products and rounding of bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vlmchat.families.fused import table as t
from vlmchat.families.fused.machine import FEATURES, spelled

LANES = 16
"""Numbers in a vector."""
GROUP = 32
"""Input features that share a scale (``engine/grain.py`` has the same number for those who must not import this)."""
WIDTH = 2 * LANES
"""Of rows that are multiplied together, a multiple of it."""
FEW, MANY, OUTPUTS = 4, 8, 2
"""Rows, and outputs, that are multiplied together: 8 or 16 sums in registers."""
DOTS = "+avx512bf16" in FEATURES.split(",")
"""This processor multiplies bfloat16 itself."""
HEADS = 4
"""Query heads that take values together."""
TOGETHER = 4
"""Vectors of one row that are multiplied in turns."""
_INTEGERS, _FLOATS = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.FloatType(), LANES)
_SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
_KEPT = ("float32", "bfloat16")
"""What keys and values are kept in."""
_AHEAD = 8
"""Rows of weights between what is read and what is asked for."""


class _Code:
    """Writes instructions on vectors."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def _variables(self, number: int) -> list[Any]:
        """Return so many vectors that change; LLVM keeps them in registers."""
        return [cgutils.alloca_once(self._builder, _FLOATS) for _ in range(number)]

    def _number(self, value: int) -> Any:
        return ir.IntType(64)(value)

    def _times(self, count: Any, size: int) -> Any:
        return self._builder.mul(count, self._number(size))

    def _read(self, base: Any, offset: Any, kind: Any) -> Any:
        return self._builder.load(self._pointer(base, offset, kind), align=1)

    def _write(self, base: Any, offset: Any, value: Any) -> None:
        self._builder.store(value, self._pointer(base, offset, value.type), align=2)

    def _pointer(self, base: Any, offset: Any, kind: Any) -> Any:
        return self._builder.inttoptr(self._builder.add(base, offset), kind.as_pointer())

    def _plus(self, factor: Any, other: Any, addend: Any) -> Any:
        """Return factor * other + addend, one instruction where there is one."""
        freedom = ("contract",)
        return self._builder.fadd(self._builder.fmul(factor, other, flags=freedom), addend, flags=freedom)

    def _spread(self, value: Any) -> Any:
        """Return a vector of 16 times ``value``."""
        undefined = ir.VectorType(value.type, LANES)(ir.Undefined)
        one = self._builder.insert_element(undefined, value, ir.IntType(32)(0))
        return self._builder.shuffle_vector(one, undefined, _INTEGERS(None))

    def _widened(self, base: Any, place: Any, kind: str) -> Any:
        """Read 16 numbers from the one at ``place`` on as float32."""
        builder, offset = self._builder, self._times(place, _SIZES[kind])
        if kind == "float32":
            return self._read(base, offset, _FLOATS)
        if kind == "bfloat16":
            words = builder.zext(self._read(base, offset, ir.VectorType(ir.IntType(16), LANES)), _INTEGERS)
            return builder.bitcast(builder.shl(words, _INTEGERS([16] * LANES)), _FLOATS)
        levels = self._read(base, offset, ir.VectorType(ir.IntType(8), LANES))
        return builder.sitofp(builder.sext(levels, _INTEGERS), _FLOATS)

    def _widened_one(self, base: Any, place: Any, kind: str) -> Any:
        """Read the number at ``place`` as float32."""
        builder, offset = self._builder, self._times(place, _SIZES[kind])
        if kind == "float32":
            return self._read(base, offset, ir.FloatType())
        number = ir.IntType(32)
        if kind == "bfloat16":
            word = builder.zext(self._read(base, offset, ir.IntType(16)), number)
            return builder.bitcast(builder.shl(word, number(16)), ir.FloatType())
        return builder.sitofp(self._read(base, offset, ir.IntType(8)), ir.FloatType())

    def _ask_for(self, address: Any) -> None:
        """Have a line of memory brought into the second cache; in the first it would push inputs out."""
        pointer, number = self._builder.inttoptr(address, ir.IntType(8).as_pointer()), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = cgutils.get_or_insert_function(self._builder.module, kind, "llvm.prefetch.p0")
        self._builder.call(function, [pointer, number(0), number(2), number(1)])

    def _call(self, name: str, kind: Any, *arguments: Any) -> Any:
        """Call an instruction by its name."""
        signature = ir.FunctionType(kind, [argument.type for argument in arguments])
        return self._builder.call(cgutils.get_or_insert_function(self._builder.module, signature, name), arguments)

    def _rounded(self, low: Any, high: Any) -> Any:
        """Return two vectors rounded to bfloat16, to even, as 32 words."""
        words = ir.VectorType(ir.IntType(16), 2 * LANES)
        if DOTS:
            return self._call("llvm.x86.avx512bf16.cvtne2ps2bf16.512", words, high, low)
        builder, halves = self._builder, []
        for vector in (low, high):
            bits = builder.bitcast(vector, _INTEGERS)
            odd = builder.and_(builder.lshr(bits, _INTEGERS([16] * LANES)), _INTEGERS([1] * LANES))
            moved = builder.add(builder.add(bits, _INTEGERS([0x7FFF] * LANES)), odd)
            halves.append(
                builder.trunc(builder.lshr(moved, _INTEGERS([16] * LANES)), ir.VectorType(ir.IntType(16), LANES))
            )
        return builder.shuffle_vector(*halves, ir.VectorType(ir.IntType(32), 2 * LANES)(list(range(2 * LANES))))

    def _sums(self, vectors: list[Any]) -> Any:
        """Return a vector of the sums of 16 vectors: neighbours are added, two vectors at a time."""
        choice = [_INTEGERS(list(range(first, 2 * LANES, 2))) for first in (0, 1)]
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            halves = [[self._builder.shuffle_vector(*pair, lanes) for lanes in choice] for pair in pairs]
            vectors = [self._builder.fadd(even, odd) for even, odd in halves]
        return vectors[0]

    def _sum(self, vector: Any) -> Any:
        """Return the sum of the lanes, by halves."""
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            chosen, undefined = ir.VectorType(ir.IntType(32), lanes), vector.type(ir.Undefined)
            halves = [chosen(list(range(first, first + lanes))) for first in (0, lanes)]
            low, high = (self._builder.shuffle_vector(vector, undefined, half) for half in halves)
            vector = self._builder.fadd(low, high)
        return self._builder.extract_element(vector, ir.IntType(32)(0))


class _Dots(_Code):
    """Products of weights and inputs, added up in vectors of 16 float32.

    Inputs in float32 meet weights 16 at a time. In bfloat16 they meet 32: a processor with such an instruction
    multiplies these as they lie and adds neighbours, for others both become float32 in two halves. int8 is exact in
    bfloat16.
    """

    def __init__(self, kinds: tuple[str, str], builder: Any) -> None:
        """Set up for weights and inputs of these kinds."""
        super().__init__(builder)
        self._kinds = kinds
        self.columns = 2 * LANES if kinds[1] == "bfloat16" else LANES
        """Weights that are multiplied at once."""

    def _stretches(self, size: Any, most: int = 2) -> Iterator[tuple[Any, int]]:
        """Write loops over the vectors in ``size`` numbers; yield where a turn begins and how many it takes."""
        done = self._number(0)
        for vectors in (most, 1):
            turns = self._builder.udiv(self._builder.sub(size, done), self._number(vectors * self.columns))
            with cgutils.for_range(self._builder, turns) as turn:
                yield self._builder.add(done, self._times(turn.index, vectors * self.columns)), vectors
            done = self._builder.add(done, self._times(turns, vectors * self.columns))

    def _operands(self, side: int, base: Any, place: Any) -> Any:
        """Return what :meth:`_added` takes: of weights (``side`` 0) or inputs (1), from the one at ``place`` on."""
        kind = self._kinds[side]
        if self.columns == LANES:
            return [self._widened(base, place, kind)]
        if kind == "bfloat16":
            return self._ready(self._read(base, self._times(place, 2), _INTEGERS))
        if not DOTS:
            return self._halves_of_bytes(base, place)
        low, high = (self._widened(base, self._builder.add(place, self._number(at)), kind) for at in (0, LANES))
        return self._builder.bitcast(self._rounded(low, high), _INTEGERS)

    def _added(self, weights: Any, inputs: Any, addend: Any) -> Any:
        """Return ``addend`` and their products."""
        if isinstance(weights, list):
            for weight, value in zip(weights, inputs, strict=True):
                addend = self._plus(weight, value, addend)
            return addend
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, addend, weights, inputs)

    def _ready(self, words: Any) -> Any:
        """Make 32 bfloat16 what :meth:`_added` takes: if not as they are, the even and the odd ones as float32."""
        if DOTS:
            return words
        even = self._builder.shl(words, _INTEGERS([16] * LANES))
        odd = self._builder.and_(words, _INTEGERS([0xFFFF0000] * LANES))
        return [self._builder.bitcast(half, _FLOATS) for half in (even, odd)]

    def _halves_of_bytes(self, base: Any, place: Any) -> list[Any]:
        """Return the even and the odd ones of 32 int8 as float32."""
        builder = self._builder
        pairs = builder.sext(self._read(base, place, ir.VectorType(ir.IntType(16), LANES)), _INTEGERS)
        even = builder.ashr(builder.shl(pairs, _INTEGERS([24] * LANES)), _INTEGERS([24] * LANES))
        odd = builder.ashr(pairs, _INTEGERS([8] * LANES))
        return [builder.sitofp(half, _FLOATS) for half in (even, odd)]


class _Row(_Dots):
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
        builder, sums = self._builder, self._variables(TOGETHER)
        for variable in sums:
            builder.store(_FLOATS(None), variable)
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


class _Rows(_Dots):
    """Multiplies ``OUTPUTS`` rows of weights with some rows of inputs: a weight is made ready once for all rows.

    Arguments, int64: addresses of the weights and of the inputs, how many in a row, a multiple of ``WIDTH``, address
    of the outputs (float32), from one row of outputs to the next.
    """

    def __init__(self, kinds: tuple[str, str], rows: int, builder: Any, weights: Any, inputs: Any, *sizes: Any) -> None:
        super().__init__(kinds, builder)
        self._rows, self._weights, self._inputs = range(rows), weights, inputs
        self._width, self._into, self._span = sizes

    def write(self) -> None:
        builder = self._builder
        sums = [self._variables(len(self._rows)) for _ in range(OUTPUTS)]
        for variable in (variable for row in sums for variable in row):
            builder.store(_FLOATS(None), variable)
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(self.columns))) as columns:
            at = self._times(columns.index, self.columns)
            values = [self._operands(1, self._inputs, self._place(row, at)) for row in self._rows]
            for output in range(OUTPUTS):
                weights = self._operands(0, self._weights, self._place(output, at))
                # Later weights are asked for: two rows in turns are no pattern a processor foresees (8 rows of 896 in
                # bfloat16: 6 and 14 G/s, into the first cache 9).
                later = self._times(self._place(output + _AHEAD, at), _SIZES[self._kinds[0]])
                self._ask_for(builder.add(self._weights, later))
                for variable, value in zip(sums[output], values, strict=True):
                    builder.store(self._added(weights, value, builder.load(variable)), variable)
        for row in self._rows:
            for output in range(OUTPUTS):
                offset = builder.add(self._times(self._span, 4 * row), self._number(4 * output))
                self._write(self._into, offset, self._sum(builder.load(sums[output][row])))

    def _place(self, row: int, at: Any) -> Any:
        return self._builder.add(self._times(self._width, row), at)


class _Scores(_Code):
    """Scores 16 keys: the products of each with a query.

    Arguments, int64: addresses of the keys and of the query (float32), their size, a multiple of ``LANES``, address
    of the scores.
    """

    def __init__(self, kind: str, builder: Any, keys: Any, query: Any, size: Any, into: Any) -> None:
        super().__init__(builder)
        self._kind, self._keys, self._query, self._size, self._into = kind, keys, query, size, into

    def write(self) -> None:
        builder, sums = self._builder, self._variables(LANES)
        for variable in sums:
            builder.store(_FLOATS(None), variable)
        with cgutils.for_range(builder, builder.udiv(self._size, self._number(LANES))) as columns:
            at = self._times(columns.index, LANES)
            query = self._widened(self._query, at, "float32")
            for key, variable in enumerate(sums):
                numbers = self._widened(self._keys, builder.add(self._times(self._size, key), at), self._kind)
                builder.store(self._plus(numbers, query, builder.load(variable)), variable)
        self._write(self._into, self._number(0), self._sums([builder.load(variable) for variable in sums]))


class _WordScores(_Dots):
    """Scores 16 keys in bfloat16, one behind the other as they lie in memory.

    Arguments, int64: addresses of the keys and of the query (bfloat16), their size, a multiple of ``WIDTH``, address
    of the scores (float32).
    """

    def __init__(self, _: None, builder: Any, keys: Any, query: Any, size: Any, into: Any) -> None:
        super().__init__(("bfloat16", "bfloat16"), builder)
        self._keys, self._query, self._size, self._into = keys, query, size, into

    def write(self) -> None:
        builder, sums = self._builder, self._variables(LANES)
        for variable in sums:
            builder.store(_FLOATS(None), variable)
        for first, vectors in self._stretches(self._size):
            places = [builder.add(first, self._number(at * self.columns)) for at in range(vectors)]
            queries = [self._operands(1, self._query, place) for place in places]
            for key, variable in enumerate(sums):
                for place, query in zip(places, queries, strict=True):
                    numbers = self._operands(0, self._keys, builder.add(self._times(self._size, key), place))
                    builder.store(self._added(numbers, query, builder.load(variable)), variable)
        self._write(self._into, self._number(0), self._sums([builder.load(variable) for variable in sums]))


class _WordValues(_Dots):
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
        for first, vectors in self._stretches(self._size):
            columns = [self._builder.add(first, self._number(at * self.columns)) for at in range(vectors)]
            self._add(columns)

    def _add(self, columns: list[Any]) -> None:
        """Add the values of ``WIDTH`` columns from each of ``columns`` on."""
        builder, one = self._builder, self._number(1)
        sums = [[self._variables(2) for _ in columns] for _ in range(HEADS)]
        for variable in (variable for head in sums for pair in head for variable in pair):
            builder.store(_FLOATS(None), variable)
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
            halves.append(self._builder.bitcast(mixed, _INTEGERS))
        return halves

    def _put(self, head: int, column: Any, halves: list[Any]) -> None:
        """Add sums in the order of :meth:`_mixed` to a head's columns."""
        builder = self._builder
        for part in (0, 1):
            order = [8 * part + at + half + four for four in (0, 4) for half in (0, LANES) for at in range(4)]
            ordered = builder.shuffle_vector(*halves, _INTEGERS(order))
            offset = self._times(builder.add(self._times(self._span, head), column), 4)
            offset = builder.add(offset, self._number(4 * LANES * part))
            self._write(self._into, offset, builder.fadd(self._read(self._into, offset, _FLOATS), ordered))


class _Values(_Code):
    """Adds 16 columns of values by their weights to the sums of ``HEADS`` heads, in registers for all places.

    Arguments, int64: addresses of the values' first column and of the weights (float32), places, the values' size,
    from one head's weights to the next, address of the sums' first column, from one head's sums to the next.
    """

    def __init__(self, kind: str, builder: Any, values: Any, weights: Any, places: Any, *sizes: Any) -> None:
        super().__init__(builder)
        self._kind, self._values, self._weights, self._places = kind, values, weights, places
        self._size, self._apart, self._into, self._span = sizes

    def write(self) -> None:
        builder, sums = self._builder, self._variables(HEADS)
        for head, variable in enumerate(sums):
            builder.store(self._read(self._into, self._times(self._span, 4 * head), _FLOATS), variable)
        with cgutils.for_range(builder, self._places) as places:
            values = self._widened(self._values, builder.mul(places.index, self._size), self._kind)
            for head, variable in enumerate(sums):
                offset = self._times(builder.add(self._times(self._apart, head), places.index), 4)
                weight = self._spread(self._read(self._weights, offset, ir.FloatType()))
                builder.store(self._plus(weight, values, builder.load(variable)), variable)
        for head, variable in enumerate(sums):
            self._write(self._into, self._times(self._span, 4 * head), builder.load(variable))


class _Packed(_Dots):
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
            wide = builder.zext(self._read(self._packed, offset, ir.VectorType(ir.IntType(8), LANES)), _INTEGERS)
            halves.append((builder.and_(wide, _INTEGERS([15] * LANES)), builder.lshr(wide, _INTEGERS([4] * LANES))))
        return [builder.sitofp(halves[place % 2][place // 2], _FLOATS) for place in range(4)]

    def _scale_and_zero(self, group: Any, place: int) -> tuple[Any, Any]:
        """Return those of 16 outputs."""
        builder = self._builder
        first = self._times(builder.mul(group, self._stride), 4)
        both = self._read(self._scales, builder.add(first, self._number(4 * LANES * place)), _INTEGERS)
        scale = builder.bitcast(builder.shl(both, _INTEGERS([16] * LANES)), _FLOATS)
        return scale, builder.bitcast(builder.and_(both, _INTEGERS([0xFFFF0000] * LANES)), _FLOATS)


class _Block(_Packed):
    """Multiplies a block of 4-bit weights.

    Arguments, int64: addresses of the packed weights and of the scales (bfloat16), output features of the matrix,
    address of the inputs (float32), how many in a row, address of the outputs, from one row of outputs to the next.
    """

    def __init__(self, rows: int, builder: Any, packed: Any, scales: Any, stride: Any, *sizes: Any) -> None:
        super().__init__(builder, packed, scales, stride)
        self._rows = range(rows)
        self._inputs, self._width, self._outputs, self._span = sizes

    def write(self) -> None:
        builder = self._builder
        sums = [self._variables(4) for _ in self._rows]
        wholes = self._variables(len(self._rows))
        for row in self._rows:
            for place in range(4):
                self._write(self._outputs, self._output(row, place), _FLOATS(None))
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(GROUP))) as groups:
            for variable in (*wholes, *(variable for row in sums for variable in row)):
                builder.store(_FLOATS(None), variable)
            first = self._times(groups.index, GROUP)
            with cgutils.for_range(builder, self._number(GROUP)) as inputs:
                self._add_input(builder.add(first, inputs.index), sums, wholes)
            for place in range(4):
                self._add_group(groups.index, place, [row[place] for row in sums], wholes)

    def _output(self, row: int, place: int) -> Any:
        """Return the offset of 16 outputs of a row."""
        return self._builder.add(self._times(self._span, 4 * row), self._number(4 * LANES * place))

    def _add_input(self, at: Any, sums: Any, wholes: Any) -> None:
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
            centred = self._plus(whole, _FLOATS([-8.0] * LANES), builder.load(sums[row]))
            total = self._plus(scale, centred, self._read(self._outputs, offset, _FLOATS))
            self._write(self._outputs, offset, self._plus(zero, whole, total))


class _WordBlock(_Packed):
    """Multiplies a block of 4-bit weights with inputs in bfloat16, two input features at a time.

    A level l becomes 16 + l in bfloat16 by its bits alone: the exponent of 16 with l in the upper half of the fraction.

    Arguments: as of :class:`_Block`, inputs in bfloat16.
    """

    def __init__(self, rows: int, builder: Any, packed: Any, scales: Any, stride: Any, *sizes: Any) -> None:
        super().__init__(builder, packed, scales, stride)
        self._rows = range(rows)
        self._inputs, self._width, self._outputs, self._span = sizes

    def write(self) -> None:
        builder = self._builder
        sums = [self._variables(4) for _ in self._rows]
        wholes = self._variables(len(self._rows))
        for row in self._rows:
            for place in range(4):
                self._write(self._outputs, self._output(row, place), _FLOATS(None))
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(GROUP))) as groups:
            for variable in (*wholes, *(variable for row in sums for variable in row)):
                builder.store(_FLOATS(None), variable)
            first = self._times(groups.index, GROUP // 2)
            with cgutils.for_range(builder, self._number(GROUP // 2)) as pairs:
                self._add_pair(builder.add(first, pairs.index), sums, wholes)
            for place in range(4):
                self._add_group(groups.index, place, [row[place] for row in sums], wholes)

    def _output(self, row: int, place: int) -> Any:
        """Return the offset of 16 outputs of a row."""
        return self._builder.add(self._times(self._span, 4 * row), self._number(4 * LANES * place))

    def _add_pair(self, at: Any, sums: Any, wholes: Any) -> None:
        """Add what two input features give to every row's sums."""
        builder, levels = self._builder, [self._ready(words) for words in self._pairs(at)]
        ones = self._ready(_INTEGERS([0x3F803F80] * LANES))
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
        bits, sixteen = _INTEGERS([0x00780078] * LANES), _INTEGERS([0x41804180] * LANES)
        mixed = []
        for half in (0, LANES):
            # A byte of either feature in both bytes of its word; what is too much is cut off.
            order = [place for lane in range(half, half + LANES) for place in (lane, lane, 32 + lane, 32 + lane)]
            shuffled = builder.shuffle_vector(both, both.type(ir.Undefined), ir.VectorType(ir.IntType(32), 64)(order))
            mixed.append(builder.bitcast(shuffled, _INTEGERS))
        moved = [builder.shl(words, _INTEGERS([3] * LANES)) for words in mixed]
        moved += [builder.lshr(words, _INTEGERS([1] * LANES)) for words in mixed]
        return [builder.or_(builder.and_(words, bits), sixteen) for words in moved]

    def _add_group(self, group: Any, place: int, sums: Any, wholes: Any) -> None:
        """Add a group's sums of 16 outputs to the totals."""
        builder, (scale, zero) = self._builder, self._scale_and_zero(group, place)
        for row in self._rows:
            whole, offset = builder.load(wholes[row]), self._output(row, place)
            centred = self._plus(whole, _FLOATS([-24.0] * LANES), builder.load(sums[row]))
            total = self._plus(scale, centred, self._read(self._outputs, offset, _FLOATS))
            self._write(self._outputs, offset, self._plus(zero, whole, total))


class _Wide(_Packed):
    """Widens a block of 4-bit weights to bfloat16.

    Arguments, int64: addresses of the packed weights and of the scales (bfloat16), output features of the matrix,
    input features, address of the first widened weight [inputs, outputs], output features of what is widened.
    """

    def __init__(self, _: None, builder: Any, packed: Any, scales: Any, stride: Any, *sizes: Any) -> None:
        super().__init__(builder, packed, scales, stride)
        self._width, self._into, self._span = sizes

    def write(self) -> None:
        builder = self._builder
        with cgutils.for_range(builder, builder.udiv(self._width, self._number(GROUP))) as groups:
            factors = [self._scale_and_zero(groups.index, place) for place in range(4)]
            first = self._times(groups.index, GROUP)
            with cgutils.for_range(builder, self._number(GROUP)) as inputs:
                at = builder.add(first, inputs.index)
                wide = []
                for level, (scale, zero) in zip(self._levels(at), factors, strict=True):
                    centred = builder.fadd(level, _FLOATS([-8.0] * LANES))
                    wide.append(self._plus(centred, scale, zero))
                first_of_row = self._times(builder.mul(at, self._span), 2)
                for half in (0, 2):
                    offset = builder.add(first_of_row, self._number(2 * LANES * half))
                    self._write(self._into, offset, self._rounded(*wide[half : half + 2]))


def _written(code: Any, about: Any, count: int) -> Any:
    """Return a function for compiled code that takes a tuple of ``count`` int64 and does what ``code`` writes."""

    @spelled
    def function(_: Any, arguments: Any) -> Any:
        def body(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            code(about, builder, *cgutils.unpack_tuple(builder, values[0], count)).write()
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, count)), body

    return function


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


times_one = _written_by_form(_Row)
"""See :class:`_Row`."""
times_few, times_many = (_written_by_form(_Rows, rows) for rows in (FEW, MANY))
"""See :class:`_Rows`."""
scores_of_floats, scores_of_words = (_written(_Scores, kind, 4) for kind in _KEPT)
"""Keys in float32 and bfloat16; see :class:`_Scores`."""
scores_by_words, values_by_words = _written(_WordScores, None, 4), _written(_WordValues, None, 7)
"""Keys, values, queries and weights in bfloat16; see :class:`_WordScores` and :class:`_WordValues`."""
values_of_floats, values_of_words = (_written(_Values, kind, 7) for kind in _KEPT)
"""Values in float32 and bfloat16; see :class:`_Values`."""
block_with_one, block_with_four = (_written(_Block, rows, 7) for rows in (1, FEW))
"""With one row and with ``FEW``; see :class:`_Block`."""
words_with_one, words_with_four = (_written(_WordBlock, rows, 7) for rows in (1, FEW))
"""See :class:`_WordBlock`."""
widened_block = _written(_Wide, None, 6)
"""See :class:`_Wide`."""
