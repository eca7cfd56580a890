"""The commonest faults of a machine, each found in a moment and told in a sentence with its fix.

Nothing here loads a model or reaches the network.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from vlmchat.chat import opening
from vlmchat.chat.prompts import kept_names, kept_prompt
from vlmchat.cli.output import size_text
from vlmchat.errors import VlmchatError
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.paths import places
from vlmchat.settings import Settings

LOW_DISK = 2 * 10**9
"""Bytes of free disk below which hardly any model can be fetched: InternVL2-1B takes 1.9 GB."""


def problems_of(settings: Settings, gpus: Sequence[str]) -> Iterator[str]:
    """Yield one sentence, or two, for each fault.

    Args:
        settings: those in force.
        gpus: what the driver's own tool names.
    """
    for check in _CHECKS:
        yield from check(settings)
    yield from _torch_build(gpus)


def _disk(settings: Settings) -> Iterator[str]:
    del settings
    seen: set[int] = set()
    for folder in (huggingface_cache(), modelscope_cache(), places().data):
        here = existing(folder)
        free, device = shutil.disk_usage(here).free, here.stat().st_dev
        if free < LOW_DISK and device not in seen:
            seen.add(device)
            yield f"Only {size_text(free)} are free at {here}. Free some space, or move HF_HOME or VLMCHAT_HOME."


def _folders(settings: Settings) -> Iterator[str]:
    del settings
    here = places()
    for folder in dict.fromkeys((here.config, here.data, here.cache, here.state)):
        found = existing(folder)
        if not found.is_dir():
            yield f"{found} is a file where a folder should be. Move it away, or set VLMCHAT_HOME."
        elif not os.access(found, os.W_OK | os.X_OK):
            yield f"{found} cannot be written. Change its permissions, or set VLMCHAT_HOME to another folder."


def _privacy(settings: Settings) -> Iterator[str]:
    del settings
    for path in (places().chats, places().data):
        if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
            yield f"Others may read {path}. Close it with: chmod go-rwx {path}"


def _packages(settings: Settings) -> Iterator[str]:
    """Compare what is installed with what this version asks for."""
    del settings
    # Late: only the doctor needs it.
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("vlmchat") or ()]
    except PackageNotFoundError:
        yield "vlmchat runs from a folder that was never installed. Install it with: pip install -e FOLDER"
        return
    for need in wanted:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            yield f"{need.name} is not installed. Get it with: pip install '{need.name}{need.specifier}'"
            continue
        if not need.specifier.contains(found, prereleases=True):
            yield f"{need.name} {found} does not fit: pip install '{need.name}{need.specifier}'"


def _terminal(settings: Settings) -> Iterator[str]:
    del settings
    if sys.stdout is None or not sys.stdout.isatty():
        return
    if os.environ.get("TERM", "dumb") == "dumb":
        yield "The terminal says it can draw nothing (TERM is dumb or not set). Set TERM, for example xterm-256color."
    elif "NO_COLOR" in os.environ:
        yield "NO_COLOR is set, so the app has no colours. Unset it to see them."


def _locale(settings: Settings) -> Iterator[str]:
    del settings
    named = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    if named and "utf" not in named.lower():
        yield f"The locale {named} is not UTF-8, so Chinese may show as ?. Set LANG to one that ends in .UTF-8."


def _model(settings: Settings) -> Iterator[str]:
    try:
        opening.find(settings.model, settings.hub)
    except VlmchatError as problem:
        yield f"The default model: {problem.message} {problem.hint}"


def _prompts(settings: Settings) -> Iterator[str]:
    del settings
    for name in kept_names():
        try:
            kept_prompt(name)
        except VlmchatError as problem:
            yield f"{problem.message} {problem.hint}"


def _offline(settings: Settings) -> Iterator[str]:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"} and not settings.offline:
        yield "HF_HUB_OFFLINE is set, so nothing comes from Hugging Face. Unset it, or use --hub modelscope."


def _torch_build(gpus: Sequence[str]) -> Iterator[str]:
    try:
        found = version("torch")
    except PackageNotFoundError:
        return
    if gpus and found.endswith("+cpu"):
        yield f"There is a GPU, but torch {found} computes on the CPU only. Install torch's CUDA build."


def existing(path: Path) -> Path:
    """Return ``path``, or the nearest thing above it that is there."""
    while not path.exists():
        path = path.parent
    return path


_CHECKS: tuple[Callable[[Settings], Iterator[str]], ...] = (
    _disk, _folders, _privacy, _packages, _terminal, _locale, _model, _prompts, _offline,
)  # fmt: skip
