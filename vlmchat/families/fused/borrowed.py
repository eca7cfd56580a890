"""torch's own threads for compiled code between two of torch's products.

Behind every parallel operation OpenMP's threads look for more work for a while before they sleep. Two threads of our
own beside them took longer than one (25 ms instead of 15 for widening and product of 896 by 9,728 weights, 256 rows,
two cores); those that are there and awake do it in 13.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch


def together(function: int, plan: int) -> bool:
    """Let each of torch's threads call ``function`` once; returns when all have.

    Args:
        function: address of a C function of one int64 that returns nothing.
        plan: what it is called with.

    Returns:
        False where nothing was done: torch has one thread here, or another OpenMP than GNU's.
    """
    threads, parallel = torch.get_num_threads(), _parallel()
    if threads == 1 or parallel is None:
        return False
    parallel(function, plan, threads, 0)
    return True


@lru_cache(1)
def _parallel() -> Callable[[int, int, int, int], None] | None:
    """Return GOMP_parallel (function, its argument, threads, flags) of the library that torch runs on."""
    for path in sorted(Path(torch.__file__).with_name("lib").glob("libgomp*")):
        try:
            # Only if it is loaded: another copy would have threads of its own.
            parallel = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD).GOMP_parallel
        except (AttributeError, OSError):
            continue
        parallel.argtypes, parallel.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
        called: Callable[[int, int, int, int], None] = parallel
        return called
    return None
