"""What this machine has to hold a model: GPUs, main memory, disk. Asked without torch.

NVIDIA's own tool is asked for GPUs; on a Mac with Apple's processor GPU and CPU share the main
memory. A container's memory limit counts as the end of memory.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vlmchat.paths import existing

Kind: TypeAlias = Literal["cpu", "cuda", "mps"]
_DRIVER = "nvidia-smi"
_PATIENCE_S = 5.0
"""A driver that hangs must not hang a command."""
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of this machine."""

    number: int
    """As in ``--device cuda:N``."""
    name: str
    free: int
    """Bytes, now."""
    total: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What is here now, in bytes."""

    memory_free: int
    """What programs can have without pushing others out, files that only stand in the cache included."""
    memory_total: int
    disk_free: int
    """Where checkpoints are downloaded to."""
    gpus: tuple[Gpu, ...] = ()
    unified: bool = False
    """GPU and CPU share the main memory (Apple)."""
    bfloat16: bool = False
    """Whether the CPU computes in bfloat16; else checkpoints take twice their size on it."""


def look(downloads: Path) -> Machine:
    """Look at this machine now.

    Args:
        downloads: where checkpoints go; need not exist yet.
    """
    free, total = memory()
    return Machine(
        memory_free=free,
        memory_total=total,
        disk_free=shutil.disk_usage(existing(downloads)).free,
        gpus=_gpus(),
        unified=sys.platform == "darwin" and os.uname().machine == "arm64",
        bfloat16=_computes_bfloat16(),
    )


def ask_driver(fields: str, patience_s: float = _PATIENCE_S) -> list[str]:
    """Return one line per GPU from NVIDIA's own tool; a missing or broken one is no GPU, never an error.

    Args:
        fields: names of ``nvidia-smi --help-query-gpu``, with commas between.
        patience_s: how long to wait for an answer.
    """
    if shutil.which(_DRIVER) is None:
        return []
    import subprocess  # late: most machines have no driver to ask, and lists pay for what is imported

    command = (_DRIVER, f"--query-gpu={fields}", "--format=csv,noheader")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=patience_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def _gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA would show this process, in its order."""
    cards: dict[str, tuple[str, int, int]] = {}
    for line in ask_driver("index,name,memory.free,memory.total"):
        try:
            index, name, *sizes = (cell.strip() for cell in line.split(","))
            free, total = (int(size.split()[0]) * _MIB for size in sizes)
        except (ValueError, IndexError):
            continue  # a card the driver can name but not measure cannot be planned with
        cards[index] = (name, free, total)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = list(cards) if visible is None else [number.strip() for number in visible.split(",")]
    return tuple(Gpu(at, *cards[index]) for at, index in enumerate(chosen) if index in cards)


def memory() -> tuple[int, int]:
    """Return free and total bytes of main memory, a container's limit counted as its end."""
    free, total = _whole_memory()
    limit = _container_room()
    return min([free, *limit[:1]]), min([total, *limit[1:]])


def _whole_memory() -> tuple[int, int]:
    """Return free and total bytes of main memory."""
    try:
        lines = (line.split() for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        kilobytes = {name.rstrip(":"): int(count) for name, count, *_ in lines}
        return kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024
    except (OSError, ValueError, KeyError):
        # Late: it takes 15 CPU-milliseconds, and says on Linux what the kernel's own table says.
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total


def _container_room() -> list[int]:
    """Return free and total bytes of this process's control group (version 2); empty without a limit."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    return [max(limit - used + int(cached.get("inactive_file", 0)), 0), limit]


def _computes_bfloat16() -> bool:
    """Say what ``engine.device.choose_dtype`` finds: asked of torch where it is up, else of the processor's flags."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "ops"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return {"avx512bw", "avx512vl", "avx512dq"} <= set(flags)
