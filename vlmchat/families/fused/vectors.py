"""Vectors in LLVM's language, for what a plain loop would not be compiled well enough.

Nothing here needs one processor: LLVM turns vectors of 16 numbers into what the machine has. Two instructions are
asked for by name where they are there (``DOTS``): products and rounding of bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vlmchat.families.fused.machine import FEATURES, spelled

LANES = 16
"""Numbers in a vector."""
WIDTH = 2 * LANES
"""Numbers in bfloat16 that are multiplied at once."""
DOTS = "+avx512bf16" in FEATURES.split(",")
"""This processor multiplies bfloat16 itself."""
INTEGERS, FLOATS = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.FloatType(), LANES)
SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Bytes of a number."""


class Code:
    """Writes instructions on vectors."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def _variables(self, number: int) -> list[Any]:
        """Return so many vectors that change; LLVM keeps them in registers."""
        return [cgutils.alloca_once(self._builder, FLOATS) for _ in range(number)]

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
        return self._builder.shuffle_vector(one, undefined, INTEGERS(None))

    def _widened(self, base: Any, place: Any, kind: str) -> Any:
        """Read 16 numbers from the one at ``place`` on as float32."""
        builder, offset = self._builder, self._times(place, SIZES[kind])
        if kind == "float32":
            return self._read(base, offset, FLOATS)
        if kind == "bfloat16":
            words = builder.zext(self._read(base, offset, ir.VectorType(ir.IntType(16), LANES)), INTEGERS)
            return builder.bitcast(builder.shl(words, INTEGERS([16] * LANES)), FLOATS)
        levels = self._read(base, offset, ir.VectorType(ir.IntType(8), LANES))
        return builder.sitofp(builder.sext(levels, INTEGERS), FLOATS)

    def _widened_one(self, base: Any, place: Any, kind: str) -> Any:
        """Read the number at ``place`` as float32."""
        builder, offset = self._builder, self._times(place, SIZES[kind])
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
            bits = builder.bitcast(vector, INTEGERS)
            odd = builder.and_(builder.lshr(bits, INTEGERS([16] * LANES)), INTEGERS([1] * LANES))
            moved = builder.add(builder.add(bits, INTEGERS([0x7FFF] * LANES)), odd)
            halves.append(
                builder.trunc(builder.lshr(moved, INTEGERS([16] * LANES)), ir.VectorType(ir.IntType(16), LANES))
            )
        return builder.shuffle_vector(*halves, ir.VectorType(ir.IntType(32), 2 * LANES)(list(range(2 * LANES))))

    def _sums(self, vectors: list[Any]) -> Any:
        """Return a vector of the sums of 16 vectors: neighbours are added, two vectors at a time."""
        choice = [INTEGERS(list(range(first, 2 * LANES, 2))) for first in (0, 1)]
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


class Dots(Code):
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
            return self._ready(self._read(base, self._times(place, 2), INTEGERS))
        if not DOTS:
            return self._halves_of_bytes(base, place)
        low, high = (self._widened(base, self._builder.add(place, self._number(at)), kind) for at in (0, LANES))
        return self._builder.bitcast(self._rounded(low, high), INTEGERS)

    def _added(self, weights: Any, inputs: Any, addend: Any) -> Any:
        """Return ``addend`` and their products."""
        if isinstance(weights, list):
            for weight, value in zip(weights, inputs, strict=True):
                addend = self._plus(weight, value, addend)
            return addend
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, addend, weights, inputs)

    def _ready(self, words: Any) -> Any:
        """Make 32 bfloat16 what :meth:`_added` takes: if not as they are, the even and the odd ones as float32."""
        if DOTS:
            return words
        even = self._builder.shl(words, INTEGERS([16] * LANES))
        odd = self._builder.and_(words, INTEGERS([0xFFFF0000] * LANES))
        return [self._builder.bitcast(half, FLOATS) for half in (even, odd)]

    def _halves_of_bytes(self, base: Any, place: Any) -> list[Any]:
        """Return the even and the odd ones of 32 int8 as float32."""
        builder = self._builder
        pairs = builder.sext(self._read(base, place, ir.VectorType(ir.IntType(16), LANES)), INTEGERS)
        even = builder.ashr(builder.shl(pairs, INTEGERS([24] * LANES)), INTEGERS([24] * LANES))
        odd = builder.ashr(pairs, INTEGERS([8] * LANES))
        return [builder.sitofp(half, FLOATS) for half in (even, odd)]


def written(code: Any, about: Any, count: int) -> Any:
    """Return a function for compiled code that takes a tuple of ``count`` int64 and does what ``code`` writes."""

    @spelled
    def function(_: Any, arguments: Any) -> Any:
        def body(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            code(about, builder, *cgutils.unpack_tuple(builder, values[0], count)).write()
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, count)), body

    return function
