"""AWQ as lmdeploy wrote it for InternVL2 (w4a16, group 128, version "gemm"; facts §8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlmchat.families.packed.base import PackedLinear, unpack_fields

_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Nibble that holds output column 0, 1, 2, … of a word (nibble n holds column [0,2,4,6,1,3,5,7][n])."""
_BITS = 4
_PER_WORD = 32 // _BITS


class AwqLinear(PackedLinear):
    """Buffers: qweight int32 [in, out/8], qzeros int32 [in/group, out/8], scales float16 [in/group, out]."""

    def __init__(self, in_features: int, out_features: int, bias: bool, group: int) -> None:
        groups = in_features // group
        buffers: dict[str, tuple[tuple[int, int], torch.dtype]] = {
            "qweight": ((in_features, out_features // _PER_WORD), torch.int32),
            "qzeros": ((groups, out_features // _PER_WORD), torch.int32),
            "scales": ((groups, out_features), torch.float16),
        }
        super().__init__(in_features, out_features, buffers, bias)
        self.group = group
        self.qweight: Tensor
        self.qzeros: Tensor
        self.scales: Tensor

    @classmethod
    def like(cls, linear: nn.Linear, group: int) -> AwqLinear:
        """Return an empty packed layer of the shape of ``linear``."""
        return cls(linear.in_features, linear.out_features, linear.bias is not None, group)

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return (quantized - zero) * scale; AWQ stores zeros as they are."""
        values = self._columns(self.qweight).to(torch.float32)
        zeros = self._columns(self.qzeros).to(torch.float32)
        scales = self.scales.to(torch.float32)
        grouped = values.view(len(scales), self.group, self.out_features)
        weight = (grouped - zeros.unsqueeze(1)) * scales.unsqueeze(1)
        return weight.view(self.in_features, self.out_features).T.contiguous().to(dtype)

    def _columns(self, packed: Tensor) -> Tensor:
        fields = unpack_fields(packed, _BITS, dim=1).view(len(packed), -1, _PER_WORD)
        return fields[:, :, list(_ORDER)].flatten(1)
