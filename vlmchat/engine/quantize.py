"""Quantization on the fly: the language model's linear layers in 8 or 4 bits, made while the weights arrive.

Only the decoder layers are quantized, and on a CPU the output head, to 8 bits in either setting: it is
read for every token and a quarter of all weights at 0.5 billion parameters. The vision tower, the projector
and the embeddings keep their dtype: 4-bit InternViT-6B answers nonsense (facts/internvl2 §8). Each weight
is quantized as it is read, so the full-precision model never stands in memory.

On a CPU torch's own weight-only kernels compute from the packed weights: 8 bits per output channel,
symmetric; 4 bits in groups of 32 input features with scale and zero. They are made for few rows; from
``INT8_ROWS`` and ``INT4_ROWS`` on the weights are widened for one product in the dtype of the inputs. On a
GPU bitsandbytes does: LLM.int8 (arXiv:2208.07339) and NF4 (arXiv:2305.14314).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmchat.engine.grain import INT4_GROUP, INT4_OUTPUTS
from vlmchat.errors import UsageError
from vlmchat.families.family import Network
from vlmchat.families.fused.stored import Stored
from vlmchat.families.fused.table import BLOCK, INT4, INT8
from vlmchat.families.packed.base import PackedLinear, replace_linears
from vlmchat.options import Quantization

if TYPE_CHECKING:
    from vlmchat.families.fused.widen import Widener

HEAD = "lm_head"
"""Where every family has its output head."""
INT8_ROWS = 16
"""Rows from which widening wins: 2.2 ms either way at 16 rows of 896 by 9,728 weights, 31.7 against 12.9 at
256 (two AVX-512 cores)."""
INT4_ROWS = 128
"""As ``INT8_ROWS``: widening takes 4 ms of these weights. 14 against 19 ms at 64 rows, 27 against 17 at 256."""
_ROWS_AT_ONCE = 8192
"""Output features that are quantized to 8 bits at once."""


def joined_bias(layers: Sequence[Any]) -> nn.Parameter | None:
    """Return the biases of linear ``layers`` side by side; all have one or none has."""
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    return nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None


class QuantizedLinear(nn.Module, ABC):
    """A linear layer that quantizes its weight when it is handed over."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.in_features = like.in_features
        self.out_features = like.out_features
        self.bias: nn.Parameter | None = like.bias

    @abstractmethod
    def take(self, weight: Tensor) -> None:
        """Quantize ``weight`` [out_features, in_features], already on its device and in its dtype."""

    def _finished(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Give ``outputs`` [rows, out] the leading shape of ``inputs``, and the bias."""
        outputs = outputs.view(*inputs.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias

    @classmethod
    def _around(cls, layers: Sequence[Self]) -> Self:
        """Return an empty layer with the biases of ``layers`` side by side; all have one or none has."""
        made = cls(nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), False, "meta"))
        made.bias = joined_bias(layers)
        return made


class Int8Linear(QuantizedLinear):
    """Weights int8 [out, in], one scale per output feature."""

    weight: Tensor
    scales: Tensor

    def take(self, weight: Tensor) -> None:
        """Round each output feature's weights to 255 levels around zero."""
        rounded = torch.empty_like(weight, dtype=torch.int8)
        scales = weight.new_empty(len(weight))
        # A part of a vocabulary's rows at a time: an output head in float32 would be the peak of the load.
        for start in range(0, len(weight), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            part = weight[rows].to(torch.float32, copy=True)
            exact = torch.linalg.vector_norm(part, torch.inf, dim=1).clamp_(min=torch.finfo(torch.float32).tiny) / 127
            rounded[rows] = part.div_(exact[:, None]).round_()
            scales[rows] = exact
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply [.., in] from the packed weights."""
        flat = inputs.reshape(-1, self.in_features)
        outputs: Tensor
        if len(flat) < INT8_ROWS:
            outputs = torch._weight_int8pack_mm(flat, self.weight, self.scales)
        else:
            outputs = functional.linear(flat, self.weight.to(flat.dtype)) * self.scales
        return self._finished(outputs, inputs)

    def stored(self) -> Stored:
        """Return the weights as compiled code reads them."""
        return Stored(INT8, self.weight, self.out_features, self.scales, self.bias)

    @classmethod
    def joined(cls, layers: Sequence[Self]) -> Self | None:
        """Return one layer that gives the outputs of all ``layers`` side by side."""
        made = cls._around(layers)
        for name in ("weight", "scales"):
            made.register_buffer(name, torch.cat([getattr(layer, name) for layer in layers]))
        return made


class Int4Linear(QuantizedLinear):
    """Weights in groups of ``INT4_GROUP`` input features, 16 levels between their least and greatest."""

    packed: Tensor
    scales_and_zeros: Tensor
    widener: Widener | None = None
    """Widens in compiled code where it is set: 12 ms instead of 45 with the product, which is 11 (896 by 9,728, 256
    rows, two cores)."""

    def take(self, weight: Tensor) -> None:
        """Pack into the layout of torch's CPU kernel: value = (level - 8) * scale + zero."""
        groups = weight.float().view(self.out_features, -1, INT4_GROUP)
        low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
        scales = ((high - low) / 15).clamp(min=torch.finfo(torch.float32).tiny)
        levels = ((groups - low) / scales).round().to(torch.int32).view(self.out_features, -1)
        zeros = low + 8 * scales
        self.register_buffer("packed", torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 1))
        both = torch.cat([scales, zeros], dim=-1).transpose(0, 1).contiguous()
        self.register_buffer("scales_and_zeros", both.to(weight.dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply [.., in] from the packed weights."""
        flat = inputs.reshape(-1, self.in_features)
        outputs: Tensor
        if len(flat) < INT4_ROWS or not self._widens():
            outputs = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.packed, INT4_GROUP, self.scales_and_zeros)
        elif self.widener is not None and flat.dtype == torch.bfloat16:
            outputs = self._by_parts(flat, self.widener)
        else:
            outputs = flat @ self.widened()
        return self._finished(outputs, inputs)

    def _by_parts(self, flat: Tensor, widener: Widener) -> Tensor:
        outputs = flat.new_empty(len(flat), self.out_features)
        count = widener.outputs(self.in_features, self.out_features)
        for first in range(0, self.out_features, count):
            part = slice(first, first + count)
            torch.mm(flat, widener(self.packed[part], self.scales_and_zeros[:, part]), out=outputs[:, part])
        return outputs

    def widened(self) -> Tensor:
        """Return the weights [in, out] in the dtype of their scales."""
        scales, zeros = (part.unsqueeze(1) for part in self.scales_and_zeros.unbind(dim=-1))
        levels = int4_levels(self.packed, scales.dtype).view(-1, INT4_GROUP, self.out_features)
        return torch.addcmul(zeros, levels, scales).view(self.in_features, self.out_features)

    def stored(self) -> Stored | None:
        """Return the weights as compiled code reads them, which knows one layout and scales in bfloat16."""
        known = self._widens() and self.scales_and_zeros.dtype == torch.bfloat16
        return Stored(INT4, self.packed, self.out_features, self.scales_and_zeros, self.bias) if known else None

    def _widens(self) -> bool:
        return self.out_features % BLOCK == 0 and int4_layout_is_known()

    @classmethod
    def joined(cls, layers: Sequence[Self]) -> Self | None:
        """Return one layer that gives the outputs of all ``layers`` side by side; None where blocks would be cut."""
        if any(layer.out_features % BLOCK for layer in layers):
            return None
        made = cls._around(layers)
        made.register_buffer("packed", torch.cat([layer.packed for layer in layers]))
        made.register_buffer("scales_and_zeros", torch.cat([layer.scales_and_zeros for layer in layers], dim=1))
        return made


def int4_levels(packed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return levels -8 to 7 [in, out] of what ``_convert_weight_to_int4pack_for_cpu`` has packed on AVX-512.

    For each block of 64 output features and each input feature it has 32 bytes: the low halves are the first 32
    outputs, the high halves the others.
    """
    inputs = 2 * packed.shape[1]
    # Eight bytes at a time: the inner loops are short, and a byte at a time they take twice as long.
    words = packed.view(-1, inputs, BLOCK // 2).view(torch.int64).transpose(0, 1)
    halves = words.new_empty((*words.shape[:2], 2, words.shape[2]))
    torch.bitwise_and(words, _LOW_HALVES, out=halves[:, :, 0])
    torch.bitwise_and(words >> 4, _LOW_HALVES, out=halves[:, :, 1])
    return halves.view(torch.int8).view(inputs, -1).sub_(8).to(dtype)


_LOW_HALVES = 0x0F0F0F0F0F0F0F0F


@lru_cache(1)
def int4_layout_is_known() -> bool:
    """Say whether :func:`int4_levels` reads this torch's layout on this processor; no promise stands behind it."""
    levels = (torch.arange(2 * BLOCK * INT4_GROUP, dtype=torch.int32) * 7 % 16).view(-1, INT4_GROUP)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 1)
    return torch.equal(int4_levels(packed, torch.int8), (levels - 8).T.to(torch.int8))


class BitsAndBytesLinear(QuantizedLinear):
    """A bitsandbytes layer, for GPUs."""

    def __init__(self, like: nn.Linear, bits: int) -> None:
        super().__init__(like)
        self.bits = bits
        self.layer: nn.Module | None = None

    def take(self, weight: Tensor) -> None:
        """Quantize on the device ``weight`` is on."""
        import bitsandbytes as bnb  # late: it initialises CUDA, which only this path needs

        shape = (self.in_features, self.out_features)
        layer: nn.Module
        if self.bits == 8:
            layer = bnb.nn.Linear8bitLt(*shape, bias=False, has_fp16_weights=False, device="meta")
            layer.weight = bnb.nn.Int8Params(
                weight.to("cpu", torch.float16), requires_grad=False, has_fp16_weights=False
            )
        else:
            layer = bnb.nn.Linear4bit(*shape, bias=False, compute_dtype=weight.dtype, quant_type="nf4", device="meta")
            layer.weight = bnb.nn.Params4bit(weight.to("cpu"), requires_grad=False, quant_type="nf4")
        self.layer = layer.to(weight.device)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply [.., in] from the packed weights."""
        if self.layer is None:
            raise RuntimeError("the weight was never handed over")
        outputs: Tensor = self.layer(inputs)
        return outputs if self.bias is None else outputs + self.bias


def prepare(network: Network, quantization: Quantization, device: torch.device) -> None:
    """Put empty quantized layers in the place of the decoder's linear layers.

    A checkpoint that is quantized already has no ordinary linear layers there and stays as it is.

    Raises:
        UsageError: this device has no quantized kernels.
    """
    if quantization == "none":
        return
    if device.type not in ("cpu", "cuda"):
        raise UsageError(
            f"--quantization {quantization} needs a CPU or an NVIDIA GPU, not {device.type}.",
            "Use --quantization none, or --device cpu.",
        )
    blocks = network.blocks()
    names = [name for name, layer in blocks.named_modules() if isinstance(layer, nn.Linear) and _fits(layer, device)]
    bits = 8 if quantization == "8-bit" else 4

    def make(linear: nn.Linear) -> nn.Module:
        if device.type == "cuda":
            return BitsAndBytesLinear(linear, bits)
        return Int8Linear(linear) if bits == 8 else Int4Linear(linear)

    replace_linears(blocks, names, make)
    head = network.module._modules.get(HEAD)
    packed = any(isinstance(layer, PackedLinear) for layer in blocks.modules())
    if device.type == "cpu" and not packed and isinstance(head, nn.Linear) and _fits(head, device, outputs=1):
        replace_linears(network.module, [HEAD], Int8Linear)


def _fits(layer: nn.Linear, device: torch.device, outputs: int = INT4_OUTPUTS) -> bool:
    """Say whether the CPU kernels take a layer of this shape; every layer of the catalog's models does."""
    return device.type == "cuda" or (layer.in_features % INT4_GROUP == 0 and layer.out_features % outputs == 0)
