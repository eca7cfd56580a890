"""4-bit weights as bfloat16, for products with so many rows that widening once is cheaper than packed products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmchat.families.fused.machine import compiled
from vlmchat.families.fused.packed import widened_block
from vlmchat.families.fused.table import BLOCK

_SCRATCH_BYTES = 16 * 1024**2
"""Of what is widened at once: new memory for each matrix cost as much as the product itself."""


class Widener:
    """Widens parts of packed weights into one piece of memory."""

    def __init__(self) -> None:
        self._scratch = torch.empty(0, dtype=torch.bfloat16)

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
        # By one thread: torch's own are still looking for work behind the last product, and two more beside them made
        # product and widening take 25 ms instead of 15 (896 by 9,728 weights, 256 rows, two cores).
        widen_all(
            packed.data_ptr(), scales_and_zeros.data_ptr(), scales_and_zeros.stride(0) // 2, inputs,
            self._scratch.data_ptr(), outputs,
        )  # fmt: skip
        return self._scratch[: outputs * inputs].view(inputs, outputs)


@compiled
def widen_all(packed: Any, scales: Any, stride: Any, width: Any, into: Any, span: Any) -> None:
    """Widen all blocks; int64, as :class:`~vlmchat.families.fused.packed.Wide` takes them."""
    for first in range(0, span, BLOCK):
        widened_block((packed + first // 2 * width, scales + 4 * first, stride, width, into + 2 * first, span))
