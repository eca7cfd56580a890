"""bitsandbytes fp4 as Transformers stores it (the CogVLM2 int4 repositories; facts §2, §3).

Blocks of 64 consecutive weights share one float32 scale. A byte holds two weights, the first in
its high half, as numbers of a codebook of 16 values that the checkpoint carries. The scales
themselves are not quantized ("no double quant").
"""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmchat.families.packed.base import PackedLinear
from vlmchat.families.packed.layout import BLOCK, CODES, STATE_BYTES

_VECTOR = 16
"""Floats in an AVX-512 register."""


class Bnb4Linear(PackedLinear):
    """Buffers: weight uint8 [out*in/2, 1], absmax float32 [out*in/64], quant_map float32 [16], quant_state uint8."""

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        count = in_features * out_features
        buffers: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "weight": ((-(-count // 2), 1), torch.uint8),
            "absmax": ((-(-count // BLOCK),), torch.float32),
            "quant_map": ((CODES,), torch.float32),
            "quant_state": ((STATE_BYTES,), torch.uint8),
        }
        super().__init__(in_features, out_features, buffers, bias)
        self.weight: Tensor
        self.absmax: Tensor
        self.quant_map: Tensor
        self.quant_state: Tensor

    @classmethod
    def like(cls, linear: nn.Linear) -> Bnb4Linear:
        """Return an empty packed layer of the shape of ``linear``."""
        return cls(linear.in_features, linear.out_features, linear.bias is not None)

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return codebook value times scale, two values looked up per byte."""
        codes = torch.arange(256, device=self.quant_map.device)
        pairs = self.quant_map.float()[torch.stack([codes >> 4, codes & 15], dim=1)]
        count = self.in_features * self.out_features
        values = functional.embedding(self.weight.flatten().int(), pairs).flatten()[:count]
        if self.in_features % BLOCK:
            values = values * self.absmax.float()[self._blocks()]
        else:
            values.view(-1, BLOCK).mul_(self.absmax.float().unsqueeze(1))
        return values.view(self.out_features, self.in_features).to(dtype)

    def _blocks(self) -> Tensor:
        """Return which scale each weight takes, int64 [out*in], where a row is not made of whole blocks.

        No released checkpoint has such rows, the golden fixture does. Its numbers are those of the
        kernel of bitsandbytes 0.50 for CPUs with AVX-512, which starts anew in each row when the
        row is a multiple of 16 wide, and leaves the remainder of a row uncounted.
        """
        places = torch.arange(self.in_features * self.out_features, device=self.absmax.device)
        if self.in_features % _VECTOR:
            return places // BLOCK
        rows, columns = places // self.in_features, places % self.in_features
        return rows * (self.in_features // BLOCK) + columns // BLOCK

    def flaw(self) -> str:
        """Compare the stored description of the layer with what :meth:`unpack` takes for granted."""
        try:
            state = json.loads(bytes(self.quant_state.tolist()).rstrip(b"\0"))
            found = (state["quant_type"], state["blocksize"], state["shape"])
        except (ValueError, KeyError, TypeError):
            return "its quant_state is no description of a 4-bit layer"
        expected = ("fp4", BLOCK, [self.out_features, self.in_features])
        if found != expected or "nested_absmax" in state or "nested_offset" in state:
            return f"its quant_state says {state}, not type, block size and shape {expected}"
        return ""


def padded_state(stored: Tensor) -> tuple[Tensor, ...]:
    """Bring a ``quant_state`` [bytes] of any length to [:data:`STATE_BYTES`], so that its shape can be audited."""
    return (functional.pad(stored.flatten(), (0, STATE_BYTES - stored.numel())),)
