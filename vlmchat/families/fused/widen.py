"""4-bit weights as bfloat16, for products with so many rows that widening once is cheaper than packed products."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vlmchat.families.fused.borrowed import together
from vlmchat.families.fused.machine import add, compiled_for_c, integers_at
from vlmchat.families.fused.packed import widened_block
from vlmchat.families.fused.table import BLOCK, zeros

NEXT, PACKED, SCALES, STRIDE, WIDTH, INTO, SPAN = range(7)
"""Places in a plan: the first output feature that nobody took yet; otherwise as
:class:`~vlmchat.families.fused.packed.Wide` takes them."""
_SCRATCH_BYTES = 16 * 1024**2
"""Of what is widened at once: new memory for each matrix cost as much as the product itself."""


class Widener:
    """Widens parts of packed weights into one piece of memory."""

    def __init__(self) -> None:
        self._scratch = torch.empty(0, dtype=torch.bfloat16)
        self._plan = zeros(SPAN + 1)

    @staticmethod
    def outputs(inputs: int, whole: int) -> int:
        """Return how many of ``whole`` output features of so many inputs are widened at once.

        In even parts: a rest of 384 beside 9,344 made a product take 14.8 ms instead of 11.7.
        """
        parts = -(-2 * inputs * whole // _SCRATCH_BYTES)
        return -(-whole // (parts * BLOCK)) * BLOCK

    def __call__(self, packed: Tensor, scales_and_zeros: Tensor) -> Tensor:
        """Return bfloat16 [inputs, outputs], which stays until the next call.

        Args:
            packed: uint8 [outputs, inputs / 2] in torch's layout for AVX-512, a multiple of ``BLOCK`` outputs.
            scales_and_zeros: bfloat16 [groups, outputs, 2], perhaps a part of a larger matrix.
        """
        outputs, inputs = len(packed), 2 * packed.shape[1]
        if self._scratch.numel() < outputs * inputs:
            self._scratch = torch.empty(outputs * inputs, dtype=torch.bfloat16)
        self._plan[:] = (
            0, packed.data_ptr(), scales_and_zeros.data_ptr(), scales_and_zeros.stride(0) // 2, inputs,
            self._scratch.data_ptr(), outputs,
        )  # fmt: skip
        widen, plan = widening(), self._plan.ctypes.data
        if not together(widen.address, plan):
            widen.ctypes(plan)
        return self._scratch[: outputs * inputs].view(inputs, outputs)


@lru_cache(1)
def widening() -> Any:
    """Return the C function that widens blocks as long as there are some, whoever else does; compiled or from disk."""
    return compiled_for_c(_widen)


def _widen(plan: Any) -> None:
    """Take blocks of the ``plan``, the address of int64: see ``NEXT``."""
    where = integers_at(plan)
    while True:
        first = add(plan, BLOCK)
        if first >= where[SPAN]:
            return
        packed, scales, into = where[PACKED], where[SCALES], where[INTO]
        width, span = where[WIDTH], where[SPAN]
        widened_block((packed + first // 2 * width, scales + 4 * first, where[STRIDE], width, into + 2 * first, span))
