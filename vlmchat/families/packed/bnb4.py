"""bitsandbytes fp4 as Transformers stores it (the CogVLM2 int4 repositories; facts §2, §3).

Blocks of 64 consecutive weights share one float32 scale. A byte holds two weights, the first in
its high half, as numbers of a codebook of 16 values that the checkpoint carries. The scales
themselves are not quantized ("no double quant").
"""

from __future__ import annotations

import json
import logging
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmchat.families.packed.base import PackedLinear
from vlmchat.families.packed.layout import BLOCK, CODES, STATE_BYTES

_log = logging.getLogger(__name__)
_WITH_KERNELS = ("cuda",)
"""Devices on which layers stay packed and bitsandbytes has kernels. Unpacking by torch's operations moves some 20 bytes
of memory for each weight and token, half a byte is what the weights take."""
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
        self._usual: bool | None = None

    @classmethod
    def like(cls, linear: nn.Linear) -> Bnb4Linear:
        """Return an empty packed layer of the shape of ``linear``."""
        return cls(linear.in_features, linear.out_features, linear.bias is not None)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply by the quantizer's own kernels on a GPU where they are right, otherwise with the weight unpacked."""
        kind = self.weight.device.type
        if kind in _WITH_KERNELS and self.in_features % BLOCK == 0 and kernels_are_right(kind) and self._is_usual():
            return self.multiplied(inputs)
        return super().forward(inputs)

    def multiplied(self, inputs: Tensor) -> Tensor:
        """Multiply by bitsandbytes' kernels: the packed weights are read, for many rows widened once."""
        import bitsandbytes as bnb  # late: it looks for CUDA, which only this path needs

        state = bnb.functional.QuantState(
            absmax=self.absmax.float(),
            shape=torch.Size((self.out_features, self.in_features)),
            code=self.quant_map.float(),
            blocksize=BLOCK,
            quant_type="fp4",
            dtype=inputs.dtype,
        )
        outputs: Tensor = bnb.matmul_4bit(inputs.contiguous(), self.weight.t(), quant_state=state, bias=self.bias)
        return outputs

    def _is_usual(self) -> bool:
        """Say whether the codebook is the one built into the kernels; looked at once, for which a GPU has to wait."""
        if self._usual is None:
            self._usual = torch.equal(self.quant_map.float().cpu(), usual_codes())
        return self._usual

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


@lru_cache
def usual_codes() -> Tensor:
    """Return the 16 values of fp4, float32 on the CPU, as bitsandbytes has them."""
    from bitsandbytes.functional import get_4bit_type

    codes: Tensor = get_4bit_type("fp4", device="cpu")
    return codes


@lru_cache
def kernels_are_right(kind: str) -> bool:
    """Say whether bitsandbytes multiplies on devices of this ``kind`` as :meth:`Bnb4Linear.unpack` reads; tried once.

    One row and some are different kernels. There was no GPU to try it on when this was written, so a program finds
    out for itself: a missing library, a refusal or other numbers all mean no, and layers are unpacked as before.
    """
    inputs, outputs, rows = 4 * BLOCK, 2 * BLOCK, 5
    device, made = torch.device(kind), torch.Generator().manual_seed(0)
    layer = Bnb4Linear(inputs, outputs, bias=False)
    try:
        layer.weight = torch.randint(256, (inputs * outputs // 2, 1), dtype=torch.uint8, generator=made).to(device)
        layer.absmax = (torch.rand(inputs * outputs // BLOCK, generator=made) + 0.5).to(device)
        layer.quant_map = usual_codes().to(device)
        states = torch.randn(rows, inputs, generator=made).to(device, torch.bfloat16)
        expected = states.float() @ layer.unpack(torch.bfloat16).float().T
        found = torch.cat([layer.multiplied(states[:1]), layer.multiplied(states[1:])]).float()
        # Sums are rounded to 8 bits of mantissa at the end.
        return bool(((found - expected).abs() <= 2**-7 * expected.abs() + 1e-2 * expected.std()).all())
    except (ImportError, OSError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as problem:
        _log.info("bitsandbytes does not multiply fp4 on %s: %s", kind, problem)
        return False


def padded_state(stored: Tensor) -> tuple[Tensor, ...]:
    """Bring a ``quant_state`` [bytes] of any length to [:data:`STATE_BYTES`], so that its shape can be audited."""
    return (functional.pad(stored.flatten(), (0, STATE_BYTES - stored.numel())),)
