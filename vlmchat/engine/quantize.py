"""Quantization on the fly: the language model's linear layers in 8 or 4 bits, made while the weights arrive.

Only the decoder layers are quantized. The vision tower, the projector, the embeddings and the
output head keep their dtype: 4-bit InternViT-6B answers nonsense (facts/internvl2 §8). Each weight
is quantized as it is read, so the full-precision model never stands in memory.

On a CPU torch's own weight-only kernels compute from the packed weights: 8 bits per output channel,
symmetric; 4 bits in groups of 32 input features with scale and zero. On a GPU bitsandbytes does:
LLM.int8 (arXiv:2208.07339) and NF4 (arXiv:2305.14314).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vlmchat.engine.grain import INT4_GROUP, INT4_OUTPUTS
from vlmchat.errors import UsageError
from vlmchat.families.family import Network
from vlmchat.families.packed.base import replace_linears
from vlmchat.options import Quantization


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


class Int8Linear(QuantizedLinear):
    """Weights int8 [out, in], one scale per output feature."""

    weight: Tensor
    scales: Tensor

    def take(self, weight: Tensor) -> None:
        """Round each output feature's weights to 255 levels around zero."""
        scales = weight.float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.register_buffer("weight", (weight.float() / scales[:, None]).round().to(torch.int8))
        self.register_buffer("scales", scales.to(weight.dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply [.., in] from the packed weights."""
        flat = inputs.reshape(-1, self.in_features)
        outputs: Tensor = torch._weight_int8pack_mm(flat, self.weight, self.scales)
        outputs = outputs.view(*inputs.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias


class Int4Linear(QuantizedLinear):
    """Weights in groups of ``INT4_GROUP`` input features, 16 levels between their least and greatest."""

    packed: Tensor
    scales_and_zeros: Tensor

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
        outputs: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            flat, self.packed, INT4_GROUP, self.scales_and_zeros
        )
        outputs = outputs.view(*inputs.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias


class BitsAndBytesLinear(QuantizedLinear):
    """A bitsandbytes layer, for GPUs."""

    def __init__(self, like: nn.Linear, bits: int) -> None:
        super().__init__(like)
        self._bits = bits
        self.layer: nn.Module | None = None

    def take(self, weight: Tensor) -> None:
        """Quantize on the device ``weight`` is on."""
        import bitsandbytes as bnb  # late: it initialises CUDA, which only this path needs

        shape = (self.in_features, self.out_features)
        layer: nn.Module
        if self._bits == 8:
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


def _fits(layer: nn.Linear, device: torch.device) -> bool:
    """Say whether the CPU kernels take a layer of this shape; every layer of the catalog's models does."""
    return device.type == "cuda" or (layer.in_features % INT4_GROUP == 0 and layer.out_features % INT4_OUTPUTS == 0)
