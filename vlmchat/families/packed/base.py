"""What all packed linear layers share: buffers as stored, one way to unpack, one way to compute.

Plain torch on every device, no compiled kernel of our own; fp4 has bitsandbytes' kernels on a GPU
(``bnb4.py``). On a GPU the layer stays packed and is unpacked for each call; on a CPU the engine unpacks it once after
loading, layer by layer, because unpacking costs about sixty times the product itself there
(0.8 to 1.0 s against 0.015 s for one 2048 x 11008 layer on one core, the project's Ovis2 facts §11).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PackedLinear(nn.Module, ABC):
    """A linear layer [.., in_features] -> [.., out_features] over packed weights.

    Subclasses name their buffers as the checkpoint does and say how they unpack.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        buffers: Mapping[str, tuple[Sequence[int], torch.dtype]],
        bias: bool,
    ) -> None:
        """Register empty buffers (name -> shape, dtype) on the meta device."""
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        for name, (shape, dtype) in buffers.items():
            self.register_buffer(name, torch.empty(*shape, dtype=dtype, device="meta"))
        empty = torch.empty(out_features, device="meta") if bias else None
        self.bias: nn.Parameter | None = None if empty is None else nn.Parameter(empty, requires_grad=False)

    @abstractmethod
    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return the weight [out_features, in_features], computed in float32 and rounded once to ``dtype``."""

    def flaw(self) -> str:
        """Say what is wrong with what was loaded, beyond shapes; empty when nothing is."""
        return ""

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply with the weight unpacked for this call."""
        return functional.linear(inputs, self.unpack(inputs.dtype), self.bias)

    def unpacked(self, dtype: torch.dtype) -> nn.Linear:
        """Return an ordinary linear layer with the same weight, rounded to ``dtype``."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.unpack(dtype), requires_grad=False)
        linear.register_parameter("bias", self.bias)
        return linear


def unpack_fields(packed: Tensor, bits: int, dim: int) -> Tensor:
    """Spread int32 words into their unsigned fields, lowest bits first, along ``dim`` of a matrix.

    Args:
        packed: int32 [rows, columns].
        bits: width of a field, 4 or 8.
        dim: 0 when the fields of a word are consecutive rows, 1 when they are consecutive columns.

    Returns:
        uint8, ``32 / bits`` times as long in ``dim``.
    """
    shifts = torch.arange(0, 32, bits, device=packed.device, dtype=torch.int32)
    fields: Tensor = (packed.unsqueeze(dim + 1) >> shifts.view(-1, *[1] * (1 - dim))) & (2**bits - 1)
    return fields.to(torch.uint8).flatten(dim, dim + 1)


def replace_linears(module: nn.Module, names: Sequence[str], make: Callable[[nn.Linear], nn.Module]) -> None:
    """Put ``make(linear)`` in the place of each linear layer of ``module`` named in ``names``."""
    for name in names:
        owner, _, leaf = name.rpartition(".")
        parent = module.get_submodule(owner)
        setattr(parent, leaf, make(getattr(parent, leaf)))
