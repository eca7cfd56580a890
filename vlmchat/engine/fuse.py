"""Decode steps in compiled code where the model and the machine allow it (:mod:`vlmchat.families.fused`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from importlib.util import find_spec

import torch

from vlmchat.engine.device import SMALL_MODEL
from vlmchat.engine.events import Loading
from vlmchat.engine.loader import Model
from vlmchat.engine.quantize import HEAD, Int4Linear
from vlmchat.families.fused.stored import stored
from vlmchat.families.lean import LeanDecoder
from vlmchat.families.native import NativeNetwork, TiedHead
from vlmchat.paths import environment_of_a_child

_COMPILE = "from vlmchat.families.fused.team import compile_now; raise SystemExit(not compile_now())"
_LOOK_S = 0.1
"""Seconds between two looks whether the user has had enough."""


def compiled(model: Model, stopped: Callable[[], bool] = lambda: False) -> Generator[Loading, None, bool]:
    """Have the code for ``model``'s steps compiled, which takes seconds once on a machine; say whether it is there."""
    if not fusible(model) or find_spec("numba") is None:
        return False
    yield Loading("compiling")
    try:
        # Late: numba takes half a second, and small models are better off without.
        from vlmchat.families.fused.team import compile_now, on_disk
    except (ImportError, RuntimeError):
        # A numba that does not go with this numpy, a system without its waiting calls, no folder to keep code in.
        return False
    if not on_disk():
        _compile_beside(stopped)
    return not stopped() and compile_now()


def _compile_beside(stopped: Callable[[], bool]) -> None:
    """Compile in a process of its own, which a stop can end; what it leaves on disk is loaded here.

    Where no such process can be made, compiling happens here, to its end.
    """
    try:
        # -P: whatever lies in the working folder is no library.
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMPILE], env=environment_of_a_child(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return
    try:
        while not stopped():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
                return
    finally:
        process.kill()
        process.wait()


def fuse(model: Model, threads: int) -> None:
    """Let ``threads`` threads compute ``model``'s decode steps from now on; its layers must stay as they are."""
    lean = _lean(model)
    if lean is not None:
        from vlmchat.families.fused.step import FusedStep
        from vlmchat.families.fused.widen import Widener

        # Whatever it does not know after all, torch's operations do.
        with suppress(LookupError):
            lean.fused = FusedStep(lean.text, _head(model), model.dtype, threads)
        widener = Widener()
        for layer in model.network.blocks().modules():
            if isinstance(layer, Int4Linear):
                layer.widener = widener


def fusible(model: Model) -> bool:
    """Say whether compiled code knows every layer of ``model``, and the model is worth it.

    A model of which one core's cache holds a good part answers before numba is imported.
    """
    lean = _lean(model)
    served = model.device.type == "cpu" and model.dtype in (torch.float32, torch.bfloat16)
    if lean is None or not served or model.about.weight_bytes < SMALL_MODEL:
        return False
    linears = [layer for layer in model.network.blocks().modules() if hasattr(layer, "in_features")]
    return lean.gates_with_silu() and all(stored(layer) is not None for layer in (*linears, _head(model)))


def _lean(model: Model) -> LeanDecoder | None:
    network = model.network
    lean = network.lean if isinstance(network, NativeNetwork) else None
    return lean if lean is not None and lean.serves() else None


def _head(model: Model) -> torch.nn.Module | None:
    head = model.network.module._modules.get(HEAD)
    return head.as_linear() if isinstance(head, TiedHead) else head
