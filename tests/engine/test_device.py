"""Where and in which dtype a checkpoint runs, and how many threads it gets."""

from __future__ import annotations

import os

import pytest
import torch

from vlmchat.engine import device
from vlmchat.engine.device import SMALL_MODEL, choose_device, choose_dtype, choose_threads, memory_guard
from vlmchat.errors import OutOfMemory, UsageError
from vlmchat.options import LoadOptions

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("stored", "where", "fast", "chosen"),
    [
        (torch.bfloat16, CPU, True, torch.bfloat16),
        (torch.float16, CPU, True, torch.bfloat16),
        (torch.bfloat16, CPU, False, torch.float32),
        (torch.float16, CPU, False, torch.float32),
        (torch.float32, CPU, True, torch.float32),
        (torch.bfloat16, CUDA, False, torch.bfloat16),
        (torch.float16, CUDA, True, torch.float16),
    ],
)
def test_auto_dtype(
    monkeypatch: pytest.MonkeyPatch, stored: torch.dtype, where: torch.device, fast: bool, chosen: torch.dtype
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    assert choose_dtype(LoadOptions(), stored, where) == chosen


def test_a_named_dtype_wins() -> None:
    assert choose_dtype(LoadOptions(dtype="float16"), torch.bfloat16, CPU) == torch.float16


def test_auto_device_is_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="cuda:2"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"


@pytest.mark.parametrize(
    ("size", "cores", "interactive", "threads"),
    [(SMALL_MODEL - 1, 8, False, 1), (SMALL_MODEL, 8, False, 8), (SMALL_MODEL, 8, True, 7), (SMALL_MODEL, 2, True, 2)],
)
def test_threads(monkeypatch: pytest.MonkeyPatch, size: int, cores: int, interactive: bool, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert choose_threads(size, interactive) == threads


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("x"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_every_way_to_run_out_of_memory_is_one_error(problem: BaseException) -> None:
    with pytest.raises(OutOfMemory, match="while thinking"), memory_guard("thinking"):
        raise problem


def test_other_faults_pass_the_memory_guard() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_guard("thinking"):
        raise RuntimeError("shapes do not match")
    device.release_memory()
