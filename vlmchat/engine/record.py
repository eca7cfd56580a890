"""Decode steps as CUDA graphs where the model allows it (:mod:`vlmchat.families.recorded`)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from vlmchat.engine.loader import Model
from vlmchat.engine.quantize import HEAD, BitsAndBytesLinear
from vlmchat.families.native import NativeNetwork
from vlmchat.families.recorded import RecordedStep


def record(model: Model) -> None:
    """Let ``model``'s decode steps be recorded from now on, if they can be; its layers must stay as they are."""
    network = model.network
    if recordable(model) and isinstance(network, NativeNetwork) and network.lean is not None:
        head = network.module.get_submodule(HEAD)
        network.lean.recorded = RecordedStep(network.lean, head, model.dtype, model.device)


def recordable(model: Model) -> bool:
    """Say whether a step of ``model`` is the same kernels for every token, on one CUDA device.

    LLM.int8 looks for outliers in every input and does other things where it finds some; packed checkpoints index by
    lists of Python's, and their time goes into unpacking.
    """
    network = model.network
    lean = network.lean if isinstance(network, NativeNetwork) else None
    if model.device.type != "cuda" or lean is None or not lean.serves():
        return False
    return all(map(_steady, _linears(network.blocks())))


def _linears(blocks: nn.ModuleList) -> Iterator[nn.Module]:
    """Yield the linear layers of ``blocks``, those of bitsandbytes as what they are wrapped in."""
    wrapped = {id(layer.layer) for layer in blocks.modules() if isinstance(layer, BitsAndBytesLinear)}
    yield from (layer for layer in blocks.modules() if hasattr(layer, "in_features") and id(layer) not in wrapped)


def _steady(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or (isinstance(layer, BitsAndBytesLinear) and layer.bits == 4)
