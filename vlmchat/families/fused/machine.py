"""What numba lacks: memory by address, counters that threads share, a way to wait. Small pieces in LLVM's language."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from llvmlite import binding, ir
from numba import __version__ as numba_version
from numba import cfunc, njit, types
from numba.core import config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from vlmchat.paths import places

Function = TypeVar("Function", bound=Callable[..., Any])
_FREEDOMS = {"reassoc", "contract", "arcp", "nsz"}
"""Of the compiler with floats: order of sums, fused products, reciprocals, the sign of zero. Not infinities and NaN."""
_COMPILED = ("kernels", "looking", "machine", "packed", "products", "sharing", "table", "vectors", "widen")


def _code_folder() -> Path:
    """Return where compiled code is kept: apart for these files, this processor and who compiles."""
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in _COMPILED]
    about = sys.version, numba_version, FEATURES, config.CPU_NAME or binding.get_host_cpu_name()
    version = hashlib.sha256(b"".join([*sources, repr(about).encode()])).hexdigest()[:16]
    return places().cache / "compiled" / version


FEATURES = config.CPU_FEATURES or get_host_cpu_features()
"""What the processor can, in LLVM's words."""
CODE = _code_folder()
"""With the other things that can be made again."""
config.CACHE_DIR = str(CODE)


def compiled(function: Function) -> Function:
    """Compile ``function`` when it is called first; the code is kept on disk for this processor.

    It runs without Python's lock. Sums may be added up in any order, as in every fast matrix product.
    """
    made: Function = njit(nogil=True, fastmath=_FREEDOMS, cache=True, error_model="numpy")(function)
    return made


def compiled_for_c(function: Callable[..., None]) -> Any:
    """Compile ``function`` of an int64 now, for callers that know its address (``.address``); kept like the others."""
    return cfunc(types.void(types.int64), cache=True, error_model="numpy")(function)


def written_in(function: Function) -> Function:
    """Compile ``function`` where it is called.

    What is compiled by itself is optimised once more with each of its callers: all of it 23 CPU-seconds instead of 12.
    """
    made: Function = njit(inline="always", error_model="numpy")(function)
    return made


def spelled(function: Callable[..., Any]) -> Any:
    """Make a function for compiled code of one that returns a signature and what writes the instructions."""
    return intrinsic(function)


def _pointer_to(kind: Any) -> Any:
    @spelled
    def pointer(_: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), code

    return pointer


integers_at = _pointer_to(types.int64)
"""int64 at an address."""
floats_at = _pointer_to(types.float32)
"""float32 at an address."""
words_at = _pointer_to(types.uint16)
"""bfloat16 at an address, as the words they are stored in."""
bytes_at = _pointer_to(types.int8)
"""int8 at an address."""


def _know_how_to_wait() -> None:
    """Make the system's calls known to compiled code.

    Raises:
        ImportError: it has none of these names (Windows).
    """
    try:
        library = ctypes.CDLL(None)
        calls = {"vlmchat_offer": library.sched_yield, "vlmchat_nap": library.usleep}
    except (AttributeError, OSError, TypeError) as problem:
        raise ImportError("This system has no sched_yield and usleep.") from problem
    for name, call in calls.items():
        binding.add_symbol(name, ctypes.cast(call, ctypes.c_void_p).value)


_know_how_to_wait()
offer = types.ExternalFunction("vlmchat_offer", types.int32())
"""Let another thread have the core."""
nap = types.ExternalFunction("vlmchat_nap", types.int32(types.int32))
"""Sleep some microseconds."""


def _counter(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@spelled
def take(_: Any, address: Any, expected: Any) -> Any:
    """Take one from the int64 at ``address`` if it is ``expected``; say whether it was."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter, now = _counter(builder, arguments[0]), arguments[1]
        swapped = builder.cmpxchg(counter, now, builder.sub(now, now.type(1)), "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(swapped, 1), context.get_value_type(types.boolean))

    return types.boolean(types.int64, types.int64), code


@spelled
def add(_: Any, address: Any, step: Any) -> Any:
    """Add ``step`` to the int64 at ``address``; return what it was."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _counter(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@spelled
def seen(_: Any, address: Any) -> Any:
    """Return the int64 at ``address`` as other threads left it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_counter(builder, arguments[0]), "seq_cst", 8)

    return types.int64(types.int64), code


@spelled
def put(_: Any, address: Any, value: Any) -> Any:
    """Store ``value`` at ``address`` for other threads; all that was written before is seen before it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _counter(builder, arguments[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code
