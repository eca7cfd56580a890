"""Linear layers as compiled code reads them: where the weights lie and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vlmchat.families.fused import table as t

FORMS = {torch.float32: t.FLOAT32, torch.bfloat16: t.BFLOAT16}
"""Of plain weights."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights of some consecutive output features of a linear layer."""

    form: int
    """``FLOAT32``, ``BFLOAT16``, ``INT8`` or ``INT4``."""
    weights: Tensor
    """[outputs, inputs] in rows; ``INT4``: uint8 in torch's layout for AVX-512 (``packed.py``)."""
    outputs: int
    scales: Tensor | None = None
    """``INT8``: [outputs]. ``INT4``: bfloat16 [groups, outputs, 2]."""
    bias: Tensor | None = None
    """[outputs]."""


@runtime_checkable
class Storing(Protocol):
    """A layer with weights of its own kind that compiled code can read."""

    def stored(self) -> Stored | None:
        """Return where its weights are; None if not in a layout that is known here."""
        ...


def stored(layer: Any) -> Stored | None:
    """Return how ``layer`` stores its weights; None where compiled code cannot read them."""
    if isinstance(layer, Storing):
        return layer.stored()
    if type(layer) is nn.Linear and layer.weight.dtype in FORMS and layer.weight.is_contiguous():
        return Stored(FORMS[layer.weight.dtype], layer.weight.detach(), layer.out_features, None, layer.bias)
    return None


def all_stored(layers: Sequence[Any]) -> list[Stored]:
    """Return :func:`stored` of each of ``layers``.

    Raises:
        LookupError: one cannot be read.
    """
    found = [stored(layer) for layer in layers]
    if any(one is None for one in found):
        raise LookupError("no compiled code for a layer")
    return [one for one in found if one is not None]
