"""Where and in which dtype a checkpoint runs, how many threads it gets, and what happens when memory ends."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vlmchat.errors import OutOfMemory, UsageError
from vlmchat.options import LoadOptions

SMALL_MODEL = 64 * 1024**2
"""Bytes of weights below which one thread is faster than several: the embedded model (15 MB in
float32) decodes faster on one core, its matrices are too small to share."""


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"--device {name} is no device.", "Use auto, cpu, cuda, cuda:N or mps.")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(name.partition(":")[2] or 0)
    here = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": number < cards}
    if not here[name.partition(":")[0]]:
        raise UsageError(f"This machine has no {name}.", "Use --device auto; `vlmchat doctor` lists the devices.")
    return torch.device(name)


def choose_dtype(options: LoadOptions, stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in.

    ``auto`` keeps the stored dtype where the device computes in it. A CPU has no fast float16, and
    bfloat16 only from AVX-512 on (oneDNN); elsewhere that means float32. The float16 checkpoints of
    the catalog were made from bfloat16 weights, which bfloat16 holds exactly again, at half the size
    of float32; the scales of packed layers stay float16 whatever is chosen here.
    """
    if options.dtype != "auto":
        chosen: torch.dtype = getattr(torch, options.dtype)
        return chosen
    if device.type != "cpu" or stored == torch.float32:
        return stored
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def choose_threads(weight_bytes: int, interactive: bool) -> int:
    """Return how many CPU threads the engine computes with.

    With the app drawing beside it one core is left free where there are enough: torch's threads
    wait for one another after every operation, so one that shares its core slows them all.
    """
    cores = _cores()
    if weight_bytes < SMALL_MODEL:
        return 1
    return cores - 1 if interactive and cores >= 4 else cores


def spare_for_pictures(device: torch.device, weight_bytes: int) -> bool:
    """Say whether the vision tower of the next requests may work while answers are decoded.

    Measured with the embedded model on two cores, 800 drawn pictures through `pipe`, in turn with the same code
    without it: 1.2 and 1.3 times the pictures a second with 8 lines at a time, 1.0 and 1.2 with one.

    A GPU has room for both (reasoned: a decode step at a small batch waits for memory, the tower computes; not
    measured). A CPU has where the model computes with one thread of several cores; where it computes
    with all of them a second pool of threads makes both wait for each other after every operation.
    """
    if device.type == "cpu":
        return choose_threads(weight_bytes, interactive=False) == 1 < _cores()
    return device.type == "cuda"


@contextmanager
def memory_guard(doing: str) -> Iterator[None]:
    """Turn every way in which torch says "out of memory" into :class:`OutOfMemory`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as problem:
        raise _out_of_memory(doing) from problem
    except RuntimeError as problem:
        if "can't allocate memory" not in str(problem) and "not enough memory" not in str(problem):
            raise
        raise _out_of_memory(doing) from problem


def release_memory() -> None:
    """Give freed blocks back to the system and to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _out_of_memory(doing: str) -> OutOfMemory:
    return OutOfMemory(
        f"Memory ran out while {doing}.", "Use a smaller model, --quantization 4-bit, or fewer tiles (--max-tiles)."
    )
