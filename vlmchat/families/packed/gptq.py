"""GPTQ as GPTQModel and AutoGPTQ store it, 4 or 8 bit (the project's Ovis2 facts, §11).

``W[n, k] = scales[g_idx[k], n] * (q[k, n] - zero[g_idx[k], n])``: every input feature names its own
group, so a checkpoint quantized in the order of activations (``desc_act``) needs nothing special.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmchat.families.configs import lookup, require
from vlmchat.families.family import Config
from vlmchat.families.packed.base import PackedLinear, unpack_fields

TENSORS = ("qweight", "qzeros", "scales", "g_idx")
"""What a packed layer has in place of ``weight``."""
_ZERO_OFFSET: Mapping[str, int] = {"gptq": 1, "gptq_v2": 0}
"""By ``checkpoint_format``: what has to be added to a stored zero. The first format keeps zero - 1."""


@dataclass(frozen=True, slots=True)
class GptqFormat:
    """How one checkpoint's layers are packed."""

    bits: int
    group: int | None
    """Input features that share a scale; None when all of a layer do."""
    zero_offset: int


def read_format(quantization: Config) -> GptqFormat:
    """Read ``quantization_config`` of config.json, or quantize_config.json.

    Raises:
        KeyError: the bits are not given.
        CheckpointError: a value without code here: other bits, a packed output head, exceptions by layer.
    """
    require(quantization, "quant_method", "gptq", None)
    require(quantization, "bits", 4, 8)
    require(quantization, "pack_dtype", "int32", None)
    require(quantization, "lm_head", False, None)
    require(quantization, "dynamic", None, {})
    group = quantization.get("group_size", 128)
    offset = lookup(_ZERO_OFFSET, quantization.get("checkpoint_format") or "gptq", "checkpoint_format")
    return GptqFormat(quantization["bits"], None if group == -1 else int(group), offset)


class GptqLinear(PackedLinear):
    """Buffers of a layer with K inputs and N outputs in G groups.

    qweight int32 [K * bits / 32, N], qzeros int32 [G, N * bits / 32], scales float16 [G, N], g_idx int32 [K].
    """

    def __init__(self, in_features: int, out_features: int, bias: bool, packing: GptqFormat) -> None:
        per_word = 32 // packing.bits
        groups = -(-in_features // (packing.group or in_features))
        buffers: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "qweight": ((in_features // per_word, out_features), torch.int32),
            "qzeros": ((groups, out_features // per_word), torch.int32),
            "scales": ((groups, out_features), torch.float16),
            "g_idx": ((in_features,), torch.int32),
        }
        super().__init__(in_features, out_features, buffers, bias)
        self.packing = packing
        self.qweight: Tensor
        self.qzeros: Tensor
        self.scales: Tensor
        self.g_idx: Tensor

    @classmethod
    def like(cls, linear: nn.Linear, packing: GptqFormat) -> GptqLinear:
        """Return an empty packed layer of the shape of ``linear``."""
        return cls(linear.in_features, linear.out_features, linear.bias is not None, packing)

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return (quantized - zero) * scale, each input feature with zero and scale of its group."""
        bits, groups = self.packing.bits, self.g_idx.long()
        zeros = unpack_fields(self.qzeros, bits, dim=1).to(torch.float32) + self.packing.zero_offset
        weight = unpack_fields(self.qweight, bits, dim=0).to(torch.float32)
        weight = weight.sub_(zeros[groups]).mul_(self.scales.to(torch.float32)[groups])
        return weight.to(dtype).T.contiguous()

    def flaw(self) -> str:
        """Refuse a ``g_idx`` that names groups the layer does not have."""
        low, high = int(self.g_idx.min()), int(self.g_idx.max())
        if low < 0 or high >= len(self.scales):
            return f"its g_idx names groups {low} to {high} of {len(self.scales)}"
        return ""
