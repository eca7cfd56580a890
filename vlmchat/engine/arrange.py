"""Linear layers as a device's kernels read them best, arranged once after the load.

Two things are done to the decoder and its head, and only where something is gained:

- Layers over the same inputs become one: queries, keys and values, gate and up. Fewer calls on longer matrices, 6 %
  of a step at 0.5 billion parameters (two AVX-512 cores). Where :class:`~vlmchat.families.lean.LeanDecoder` drives
  the layers; it takes either form. On a CUDA device too, for fewer kernels in a step (reasoned, not measured).
- On a CPU weights in bfloat16 get oneDNN's own layout, where no compiled step reads them (``engine/fuse.py``). From
  plain rows oneDNN reads a matrix at half the memory's rate when one token is computed: 6.5 G weights/s against 10 to
  13 from the blocked layout (same cores, the matrices of InternVL2-1B; 256 tokens at once take as long). A head
  that is the embedding gets a copy of its own: rows are looked up in the mapped file, and all are read from the copy.

It costs reading and writing the weights once; the file's pages are given back layer by layer, so that nothing is held
twice. What is laid out is the process's own memory, where a mapped file is only lent: it is done where a quarter of
the free memory stays free (``ROOM``), otherwise weights stay mapped and decode at the slower rate. Not for float32,
where nothing was gained, nor for packed checkpoints on a GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmchat.engine.device import memory_guard
from vlmchat.engine.events import Loading
from vlmchat.engine.loader import Model
from vlmchat.engine.machine import memory
from vlmchat.engine.quantize import HEAD, Int4Linear, Int8Linear, joined_bias
from vlmchat.engine.shards import release_pages
from vlmchat.families.native import NativeNetwork, TiedHead

ROOM = 0.75
"""The share of the free memory that weights laid out may take; the rest is for the KV cache and other programs."""
_JOINED = (("q_proj", "k_proj", "v_proj"), "qkv_proj"), (("gate_proj", "up_proj"), "gate_up_proj")
"""Names of layers over the same inputs, and of the one they become: Phi-3's names for it."""


class BlockedLinear(nn.Module):
    """Linear layers [.., in_features] -> [.., out_features] side by side, over one weight in oneDNN's own layout."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        """Lay the weights of ``layers`` out; the caller drops the originals."""
        super().__init__()
        self.in_features = layers[0].in_features
        self.out_features = sum(layer.out_features for layer in layers)
        self.bias = joined_bias(layers)
        weights = [layer.weight.detach() for layer in layers]
        # No parameter: an opaque tensor has no storage that others could count or move.
        self.blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight(
            weights[0] if len(weights) == 1 else torch.cat(weights), 1
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply any number of rows."""
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.blocked, self.bias, "none", [], "")
        return outputs


@dataclass(frozen=True, slots=True)
class Place:
    """Layers of one module over the same inputs, to become one layer of it."""

    owner: nn.Module
    names: tuple[str, ...]
    become: str
    layers: tuple[nn.Module, ...]
    looked_up: bool = False
    """The weight is the embedding's too, and stays."""

    @property
    def bytes(self) -> int:
        """Return what the weights take."""
        tensors = (tensor for layer in self.layers for tensor in (*layer.parameters(), *layer.buffers()))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def arrange(self, device: torch.device) -> None:
        """Put the one layer in the place of the others, which are on ``device``."""
        made = _made(self.layers, device)
        if made is None:
            return
        for name in self.names:
            delattr(self.owner, name)
        self.owner.add_module(self.become, made)
        for layer in self.layers:
            if isinstance(layer, nn.Linear) and not self.looked_up:
                release_pages(layer.weight)


def arrange(model: Model, stopped: Callable[[], bool] = lambda: False, fused: bool = False) -> Iterator[Loading]:
    """Arrange the decoder's linear layers and the head of ``model``; yields progress.

    Where steps are ``fused`` bfloat16 stays as it is, mapped: compiled code reads plain rows faster than oneDNN its
    own layout.

    Stops between two layers, which leaves a model that computes the same. Does nothing where memory is short.

    Raises:
        OutOfMemory: there is no room for the largest of them a second time.
    """
    found = deque(_places(model, not fused))
    total = sum(place.bytes for place in found)
    if model.device.type == "cpu" and total > ROOM * memory()[0]:
        return
    done = 0
    # Each is let go of before the next one: a list of them would hold all weights twice.
    while found and not stopped():
        done += found[0].bytes
        with memory_guard("laying the weights out"):
            found.popleft().arrange(model.device)
        if model.device.type == "cuda":
            # What the originals took is too small for the next one, but a part of it would do for a smaller layer and
            # hold the rest for ever.
            torch.cuda.empty_cache()
        yield Loading("arranging", done, total)


def _places(model: Model, lays_out: bool) -> Iterator[Place]:
    """Yield what is worth it."""
    cpu, cuda = (model.device.type == kind for kind in ("cpu", "cuda"))
    if not cpu and not cuda:
        return
    blocked = cpu and lays_out and model.dtype == torch.bfloat16 and available()
    network = model.network
    joins = isinstance(network, NativeNetwork) and network.lean is not None and network.lean.serves()
    # The head first: twice the largest matrix, beside a decoder that no page was read of yet, is no peak.
    head = network.module._modules.get(HEAD)
    if blocked and isinstance(head, TiedHead):
        yield Place(network.module, (HEAD,), HEAD, (head.as_linear(),), looked_up=True)
    elif blocked and type(head) is nn.Linear:
        yield Place(network.module, (HEAD,), HEAD, (head,))
    for owner in network.blocks().modules():
        taken: set[str] = set()
        for names, become in _JOINED if joins else ():
            layers = tuple(layer for name in names if (layer := owner._modules.get(name)) is not None)
            if len(layers) == len(names) and _alike(layers, blocked or cuda):
                taken |= set(names)
                yield Place(owner, names, become, layers)
        for name, layer in owner._modules.items():
            if blocked and type(layer) is nn.Linear and name not in taken:
                yield Place(owner, (name,), name, (layer,))


def _alike(layers: Sequence[nn.Module], plain: bool) -> bool:
    """Say whether ``layers`` can become one: of one kind that can (``plain`` too?), all with a bias or none."""
    kind, bias = type(layers[0]), layers[0].bias is None
    can = kind in (Int8Linear, Int4Linear) or (plain and kind is nn.Linear)
    return can and all(type(layer) is kind and (layer.bias is None) == bias for layer in layers)


def _made(layers: Sequence[nn.Module], device: torch.device) -> nn.Module | None:
    """Return the one layer for ``layers`` on ``device``; None where it cannot be."""
    first = layers[0]
    if isinstance(first, (Int8Linear, Int4Linear)):
        return type(first).joined(layers)  # type: ignore[arg-type]
    plain = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return BlockedLinear(plain) if device.type == "cpu" else joined(plain)


def joined(layers: Sequence[nn.Linear]) -> nn.Linear:
    """Return one linear layer that gives the outputs of all ``layers`` side by side."""
    made = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), False, "meta")
    made.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
    made.register_parameter("bias", joined_bias(layers))
    return made


def available() -> bool:
    """Say whether this torch has oneDNN's kernels for bfloat16 and the operations that lay weights out."""
    operations = torch.ops.mkldnn
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operations, name) for name in names) and bool(operations._is_mkldnn_bf16_supported())
