"""What ``vlmchat doctor`` looks at: versions, machine, terminal, places, hubs, settings, chats, and the problems."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from urllib.request import getproxies

import vlmchat
from vlmchat.cli.checks import problems_of
from vlmchat.cli.checks.hubs import TOKENS, token_file
from vlmchat.cli.checks.problem import Problem, Seen
from vlmchat.cli.options import read_settings
from vlmchat.cli.output import Talk, size_text
from vlmchat.engine.feature_files import held_bytes
from vlmchat.engine.machine import ask_driver
from vlmchat.engine.remote import running
from vlmchat.errors import ExitCode, VlmchatError
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.hub.source import HubName, host
from vlmchat.paths import existing, places
from vlmchat.settings import KEYS, Settings
from vlmchat.store.health import check

_PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "bitsandbytes", "accelerate", "pillow", "av",
    "textual", "textual-image", "huggingface_hub", "modelscope-hub",
)  # fmt: skip
_GPU_PATIENCE_S = 5.0
"""A driver that hangs must not hang the doctor."""
_BYTES = "_bytes"
"""How the facts end that people read in units."""


@dataclass
class Examination:
    """All that was found, each section a table of facts."""

    sections: dict[str, Mapping[str, object] | None] = field(default_factory=dict)
    """Without settings that can be read, that section is None."""
    problems: list[Problem] = field(default_factory=list)
    outcome: ExitCode = ExitCode.OK

    def as_object(self) -> dict[str, object]:
        """Return it for ``--json``; sizes are bytes."""
        return {**self.sections, "problems": [asdict(problem) for problem in self.problems]}

    def as_lines(self) -> Iterator[str]:
        """Yield it for people to read."""
        for title, facts in self.sections.items():
            if facts is None:
                continue
            yield title.replace("_", " ")
            for name, value in facts.items():
                yield from _lines(name, value)
        yield "problems"
        for problem in self.problems:
            yield f"  {problem.message} {problem.hint}"
        if not self.problems:
            yield "  none found"


def examine(talk: Talk) -> Examination:
    """Look at this machine; nothing that is wrong with it keeps the rest from being told."""
    found = Examination()
    settings: Settings | None = None
    try:
        settings = read_settings(talk)
    except VlmchatError as problem:
        found.problems.append(Problem.of("settings", problem))
        found.outcome = problem.exit_code
    gpus = ask_driver("name,memory.total,driver_version", _GPU_PATIENCE_S)
    in_force = settings or Settings()
    found.sections["versions"] = dict(_versions())
    found.sections["machine"] = dict(_machine(gpus))
    found.sections["terminal"] = _terminal(in_force)
    found.sections["places"] = _places()
    found.sections["hubs"] = dict(_hubs())
    found.sections["settings"] = None if settings is None else _settings(settings)
    found.sections["kept_engine"] = _kept()
    health = check(places().chats, places().blobs)
    found.sections["chats"] = {"saved": health.chats, "turns": health.turns, "size_bytes": health.bytes}
    found.problems += problems_of(Seen(in_force, gpus, health))
    return found


def _lines(name: str, value: object) -> Iterator[str]:
    """Yield a fact, a list of several as a line each; a setting keeps its name, which is what one types."""
    label = name
    if isinstance(value, Mapping):
        value = f"{_word(value['value'])}  ({value['source']})"
    else:
        label = name.removesuffix(_BYTES).replace("_", " ")
    for one in value if isinstance(value, list) and value else [value]:
        text = size_text(one) if name.endswith(_BYTES) and isinstance(one, int) else _word(one)
        yield f"  {label:<20}{text}".rstrip()


def _word(value: object) -> str:
    return "-" if value is None or value == [] else str(value)


def _versions() -> Iterator[tuple[str, object]]:
    yield "vlmchat", vlmchat.__version__
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield "sqlite", sqlite3.sqlite_version
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, None


def _machine(gpus: Sequence[str]) -> Iterator[tuple[str, object]]:
    yield "cores", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    yield "memory_bytes", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None
    yield "gpus", list(gpus)
    yield "free_disk_bytes", shutil.disk_usage(existing(places().data)).free


def _terminal(settings: Settings) -> dict[str, object]:
    # Late: rich and Textual take 0.2 CPU-seconds, and only the doctor needs both.
    from rich.console import Console

    from vlmchat.tui.graphics import drawing

    shown = sys.stdout is not None and sys.stdout.isatty()
    size = shutil.get_terminal_size()
    return {
        "stdout": "terminal" if shown else "pipe or file",
        "term": os.environ.get("TERM"),
        "program": os.environ.get("TERM_PROGRAM"),
        "colours": Console(force_terminal=True).color_system,
        "columns": size.columns if shown else None,
        "lines": size.lines if shown else None,
        "pictures": drawing(settings.previews),
    }


def _kept() -> dict[str, object]:
    """Return what ``--keep`` has left behind."""
    found = running()
    held = found.loaded if found is not None else None
    return {
        "process": None if found is None else found.pid,
        "model": None if held is None else str(held.folder),
        "weights_bytes": None if held is None else held.weight_bytes,
        "used_by": None if found is None else found.clients,
        "leaves_in_s": None if found is None or found.clients else round(found.left_s),
        "end_it_with": None if found is None else "vlmchat stop",
    }


def _settings(settings: Settings) -> dict[str, object]:
    return {key.name: {"value": settings.value(key.name), "source": settings.source(key.name)} for key in KEYS}


def _places() -> dict[str, object]:
    here = places()
    return {
        "config": str(here.settings),
        "chats": str(here.chats),
        "pictures": str(here.blobs),
        "cache": str(here.cache),
        "features": str(here.features),
        "features_held_bytes": held_bytes(here.features),
        "state": str(here.state),
        "huggingface": str(huggingface_cache()),
        "modelscope": str(modelscope_cache()),
    }


def _hubs() -> Iterator[tuple[str, object]]:
    """Yield which host each hub is asked at, and where its token comes from; never the token."""
    for hub in _NAMES:
        variable = TOKENS[hub]
        source = variable if os.environ.get(variable) else None
        if hub == "huggingface" and source is None and token_file().is_file():
            source = str(token_file())
        yield hub, host(hub)
        yield f"{hub}_token", source
    yield "proxy", sorted(scheme for scheme in getproxies() if scheme in {"http", "https", "all"})


_NAMES: tuple[HubName, ...] = ("huggingface", "modelscope")
