"""Decode steps as CUDA graphs where the model allows it (:mod:`vlmchat.families.recorded`)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from vlmchat.engine.loader import Model
from vlmchat.engine.quantize import BitsAndBytesLinear
from vlmchat.families.packed.bnb4 import Bnb4Linear
from vlmchat.families.recorded import RecordedStep


def record(model: Model) -> None:
    """Let ``model``'s decode steps be recorded from now on, if they can be; its layers must stay as they are."""
    if model.device.type != "cuda" or not all(map(_steady, _linears(model.network.blocks()))):
        return
    decoder = model.network.steady(model.dtype, model.device)
    model.network.recorded = None if decoder is None else RecordedStep(decoder, model.device)


def _linears(blocks: nn.ModuleList) -> Iterator[nn.Module]:
    """Yield the linear layers of ``blocks``, those of bitsandbytes as what they are wrapped in."""
    wrapped = {id(layer.layer) for layer in blocks.modules() if isinstance(layer, BitsAndBytesLinear)}
    yield from (layer for layer in blocks.modules() if hasattr(layer, "in_features") and id(layer) not in wrapped)


def _steady(layer: nn.Module) -> bool:
    """Say whether a layer does the same for every token.

    LLM.int8 looks for outliers in every input and does other things where it finds some; AWQ's and GPTQ's layers index
    by lists of Python's, and their time goes into unpacking.
    """
    if isinstance(layer, BitsAndBytesLinear):
        return layer.bits == 4
    return type(layer) in (nn.Linear, Bnb4Linear)
