"""Linear layers of a CPU, their weights laid out once as oneDNN's kernels read them.

From plain rows oneDNN reads a matrix in bfloat16 at half the memory's rate when one token is computed: 6.5 G
weights/s against 10 to 13 from its own blocked layout (two AVX-512 cores, the matrices of InternVL2-1B; 256 tokens
at once take the same time either way). So the decoder and its head are laid out anew after loading. It costs reading
and writing them once; the file's pages are given back layer by layer, so that nothing is held twice.

What is laid out is the process's own memory, where a mapped file is only lent: it is done where a quarter of the free
memory stays free (``ROOM``), otherwise the weights stay mapped and decode at the slower rate. Not for float32, where
nothing was gained, nor for what is quantized, packed, or tied to the embedding, whose rows are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from vlmchat.engine.device import memory_guard
from vlmchat.engine.events import Loading
from vlmchat.engine.loader import Model
from vlmchat.engine.machine import memory
from vlmchat.engine.shards import release_pages

ROOM = 0.75
"""The share of the free memory that weights laid out may take; the rest is for the KV cache and other programs."""


class BlockedLinear(nn.Module):
    """A linear layer [.., in_features] -> [.., out_features] over a weight in oneDNN's own layout."""

    def __init__(self, linear: nn.Linear) -> None:
        """Lay the weight of ``linear`` out; the caller drops the original."""
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        # No parameter: an opaque tensor has no storage that others could count or move.
        self.blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply any number of rows."""
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.blocked, self.bias, "none", [], "")
        return outputs


def lay_out(model: Model, stopped: Callable[[], bool] = lambda: False) -> Iterator[Loading]:
    """Put :class:`BlockedLinear` in the place of the decoder's linear layers and the head; yields progress.

    Stops between two layers, which leaves a model that computes the same. Does nothing where memory is short.

    Raises:
        OutOfMemory: there is no room for the largest of them a second time.
    """
    found = list(_layers(model))
    total = sum(_bytes(layer) for *_, layer in found)
    if total > ROOM * memory()[0]:
        return
    done = 0
    for owner, name, layer in found:
        if stopped():
            return
        with memory_guard("laying the weights out"):
            setattr(owner, name, BlockedLinear(layer))
        release_pages(layer.weight)
        done += _bytes(layer)
        yield Loading("arranging", done, total)


def _layers(model: Model) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Yield (owner, name, layer) of all that is worth it on this device."""
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or not available():
        return
    head = model.network.module._modules.get("lm_head")
    for owner in (*model.network.blocks().modules(), model.network.module):
        for name, layer in list(owner._modules.items()):
            if type(layer) is nn.Linear and (owner is not model.network.module or layer is head):
                yield owner, name, layer


def available() -> bool:
    """Say whether this torch has oneDNN's kernels for bfloat16 and the operations that lay weights out."""
    operations = torch.ops.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operations, name) for name in names) and bool(operations._is_mkldnn_bf16_supported())


def _bytes(layer: nn.Linear) -> int:
    return layer.weight.numel() * layer.weight.element_size()
