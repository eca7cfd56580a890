"""Faults of the machine: disk, memory, clock, terminal, packages, GPU and driver."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from vlmchat.chat import opening
from vlmchat.chat.capacity import fit_of_folder, machine_now
from vlmchat.cli.checks.problem import Problem, Seen
from vlmchat.cli.output import size_text
from vlmchat.errors import VlmchatError
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.paths import existing, places

LOW_DISK = 2 * 10**9
"""Bytes of free disk below which hardly any model can be fetched: InternVL2-1B takes 1.9 GB."""
_TRIGRAMS = (3, 34, 0)
"""The first SQLite whose full-text search knows trigrams."""
_DAY_S = 86_400
_DRIVERS = {11: 450, 12: 525, 13: 580}
"""CUDA's major version -> the oldest driver that runs all of its minor ones on Linux.

From the table "Minimum Required Driver Version for CUDA Minor Version Compatibility" of the CUDA release notes.
"""
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
"""PCI vendor, and the class that graphics cards and compute cards begin with."""
_CUDA = re.compile(r"^cuda\b[^=]*= *'(\d+)", re.MULTILINE)


def _disk(seen: Seen) -> Iterator[Problem]:
    told: set[int] = set()
    for folder in (huggingface_cache(), modelscope_cache(), places().data):
        here = existing(folder)
        free, device = shutil.disk_usage(here).free, here.stat().st_dev
        if free < LOW_DISK and device not in told:
            told.add(device)
            yield Problem(
                "disk",
                f"Only {size_text(free)} are free at {here}.",
                "Free some space, or move HF_HOME or VLMCHAT_HOME.",
            )


def _memory(seen: Seen) -> Iterator[Problem]:
    try:
        target = opening.find(seen.settings.model, seen.settings.hub)
    except VlmchatError:
        return  # told by the hubs' check of the model
    fit = fit_of_folder(target.folder, machine_now(seen.settings.hub))
    if fit is not None and not fit.fits:
        yield Problem(
            "memory", f"{target.name}, the default model, is too large: it {fit.text}.", "Choose a smaller one."
        )


def _clock(seen: Seen) -> Iterator[Problem]:
    """Compare the clock with the time at which this program was put here."""
    installed, now = Path(__file__).stat().st_mtime, time.time()
    if now < installed - _DAY_S:
        today = time.strftime("%Y-%m-%d", time.gmtime(now))
        yield Problem(
            "clock",
            f"The clock says {today}, which is before vlmchat was installed.",
            "Set it: with a wrong clock every https address is refused.",
        )


def _terminal(seen: Seen) -> Iterator[Problem]:
    if sys.stdout is None or not sys.stdout.isatty():
        return
    if os.environ.get("TERM", "dumb") == "dumb":
        yield Problem(
            "terminal",
            "The terminal says it can draw nothing (TERM is dumb or not set).",
            "Set TERM, for example to xterm-256color.",
        )
    elif "NO_COLOR" in os.environ:
        yield Problem("no-color", "NO_COLOR is set, so the app has no colours.", "Unset it to see them.")


def _locale(seen: Seen) -> Iterator[Problem]:
    named = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    if named and "utf" not in named.lower():
        yield Problem(
            "locale",
            f"The locale {named} is not UTF-8, so Chinese may show as ?.",
            "Set LANG to one that ends in .UTF-8.",
        )


def _executable(seen: Seen) -> Iterator[Problem]:
    """See whether the shell would start another vlmchat than this one."""
    found = shutil.which("vlmchat")
    mine = Path(sys.executable).parent
    if found is not None and (mine / "vlmchat").exists() and Path(found).parent.resolve() != mine.resolve():
        yield Problem(
            "executable",
            f"The shell's vlmchat is {found}, not this one.",
            f"Remove that one, or put {mine} first in PATH.",
        )


def _packages(seen: Seen) -> Iterator[Problem]:
    """Compare what is installed with what this version asks for."""
    # Late: only the doctor needs it.
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("vlmchat") or ()]
    except PackageNotFoundError:
        yield Problem(
            "not-installed",
            "vlmchat runs from a folder that was never installed.",
            "Install it with: pip install -e FOLDER",
        )
        return
    for need in wanted:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        get = f"Get it with: pip install '{need.name}{need.specifier}'"
        try:
            found = version(need.name)
        except PackageNotFoundError:
            yield Problem("package-missing", f"{need.name} is not installed.", get)
            continue
        if not need.specifier.contains(found, prereleases=True):
            yield Problem("package-version", f"{need.name} {found} does not fit this vlmchat.", get)


def _sqlite(seen: Seen) -> Iterator[Problem]:
    if sqlite3.sqlite_version_info < _TRIGRAMS:
        yield Problem(
            "sqlite",
            f"SQLite {sqlite3.sqlite_version} cannot search Chinese, so chats cannot be saved.",
            "Use a Python that was built with SQLite 3.34 or newer.",
        )


def _torch_build(seen: Seen) -> Iterator[Problem]:
    cuda = torch_cuda()
    if seen.gpus and cuda == 0:
        yield Problem(
            "torch-without-cuda",
            f"There is a GPU, but torch {version('torch')} computes on the CPU only.",
            "Install torch's CUDA build.",
        )
    oldest = _DRIVERS.get(cuda or 0)
    for gpu in seen.gpus:
        name, driver = gpu.split(",")[0], gpu.rsplit(",", 1)[-1].strip()
        major = driver.partition(".")[0]
        if oldest is not None and major.isdecimal() and int(major) < oldest:
            yield Problem(
                "driver",
                f"{name} has driver {driver}, too old for this torch, which wants {oldest} or newer (CUDA {cuda}).",
                "Install a newer NVIDIA driver.",
            )
            return


def _hidden_gpus(seen: Seen) -> Iterator[Problem]:
    """A GPU that is built in and cannot be used, or one that was asked for and is not there."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not seen.gpus and _has_nvidia_card():
        yield Problem(
            "no-driver",
            "This machine has an NVIDIA GPU, but its driver does not answer.",
            "Install NVIDIA's driver, and see that nvidia-smi works.",
        )
    elif seen.gpus and shown is not None and not shown.strip(" -1"):
        yield Problem("gpu-hidden", f"CUDA_VISIBLE_DEVICES is {shown!r}, which hides every GPU.", "Unset it.")
    if seen.settings.load.device.startswith("cuda") and not seen.gpus:
        yield Problem(
            "device",
            f"{seen.settings.source('device')} chooses {seen.settings.load.device}, and no NVIDIA GPU answers.",
            "Choose auto or cpu.",
        )
    elif seen.settings.load.device == "mps" and sys.platform != "darwin":
        yield Problem("device", f"{seen.settings.source('device')} chooses mps, which only Macs have.", "Choose auto.")


def torch_cuda() -> int | None:
    """Return the major CUDA version that torch was built for; 0 for none, None where there is no torch.

    Read from its file: importing it takes seconds.
    """
    try:
        file = distribution("torch").locate_file("torch/version.py")
        text = Path(str(file)).read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError):
        return None
    found = _CUDA.search(text)
    return int(found[1]) if found else 0


def _has_nvidia_card() -> bool:
    for device in _PCI.glob("*"):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii") for name in ("vendor", "class"))
        except (OSError, ValueError):
            continue
        if vendor.startswith(_NVIDIA) and kind.startswith(_DISPLAY):
            return True
    return False


CHECKS: tuple[Callable[[Seen], Iterator[Problem]], ...] = (
    _disk, _memory, _clock, _packages, _sqlite, _executable, _terminal, _locale,
)  # fmt: skip
GPU_CHECKS: tuple[Callable[[Seen], Iterator[Problem]], ...] = (_torch_build, _hidden_gpus)
