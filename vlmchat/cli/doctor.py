"""``vlmchat doctor``: what this machine has, where each setting came from, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

import click

import vlmchat
from vlmchat.catalog.index import catalog
from vlmchat.chat.shelf import EMBEDDED, offers
from vlmchat.cli.checks import existing, problems_of
from vlmchat.cli.options import declare, examples, read_settings, take
from vlmchat.cli.output import Talk, size_text, write_line
from vlmchat.engine.feature_files import held_bytes
from vlmchat.engine.machine import ask_driver
from vlmchat.errors import ExitCode, VlmchatError
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.paths import places
from vlmchat.settings import KEYS, Settings, unknown_variables
from vlmchat.store.health import check

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "pillow", "textual")
_GPU_PATIENCE_S = 5.0
"""A driver that hangs must not hang the doctor."""


@click.command(epilog=examples("vlmchat doctor", "vlmchat doctor --config other.toml"))
@declare()
@click.pass_obj
def command(talk: Talk, /, **values: object) -> ExitCode:
    """Say what this machine has, where each setting came from, and what is wrong."""
    take(talk, values)
    problems: list[str] = []
    outcome = ExitCode.OK
    settings: Settings | None = None
    try:
        settings = read_settings(talk)
    except VlmchatError as problem:
        problems.append(f"{problem.message} {problem.hint}")
        outcome = problem.exit_code
    _section("versions", _versions())
    gpus = ask_driver("name,memory.total,driver_version", _GPU_PATIENCE_S)
    _section("machine", _machine(gpus))
    _section("places", _places())
    if settings is not None:
        _section("settings", _settings(settings))
    _section("chats", _chats(problems))
    problems += [
        f"{name} is set but means nothing; settings are VLMCHAT_MODEL and so on." for name in unknown_variables()
    ]
    problems += catalog().problems
    problems += problems_of(settings or Settings(), gpus)
    problems += [offer.how for offer in offers() if offer.spec.name == EMBEDDED and offer.how]
    _section("problems", (("", problem) for problem in problems or ["none found"]))
    return outcome


def _section(title: str, facts: Iterator[tuple[str, str]]) -> None:
    write_line(title)
    for label, text in facts:
        write_line(f"  {label:<20}{text}".rstrip() if label else f"  {text}")


def _versions() -> Iterator[tuple[str, str]]:
    yield "vlmchat", vlmchat.__version__
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    yield "sqlite", sqlite3.sqlite_version
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _machine(gpus: Sequence[str]) -> Iterator[tuple[str, str]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", str(cores)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield "memory", size_text(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for gpu in gpus or ["none that nvidia-smi knows"]:
        yield "gpu", gpu
    here = existing(places().data)
    yield "free disk", f"{size_text(shutil.disk_usage(here).free)} at {here}"


def _places() -> Iterator[tuple[str, str]]:
    here = places()
    yield "config", str(here.settings)
    yield "chats", str(here.chats)
    yield "pictures", str(here.blobs)
    yield "cache", str(here.cache)
    yield "picture features", f"{here.features} ({size_text(held_bytes(here.features))})"
    yield "state", str(here.state)
    yield "hugging face", str(huggingface_cache())
    yield "modelscope", str(modelscope_cache())


def _settings(settings: Settings) -> Iterator[tuple[str, str]]:
    for key in KEYS:
        value = settings.value(key.name)
        yield key.name, f"{'-' if value is None else value}  ({settings.source(key.name)})"


def _chats(problems: list[str]) -> Iterator[tuple[str, str]]:
    here = places()
    health = check(here.chats, here.blobs)
    problems += health.problems
    yield "saved", f"{health.chats} chats, {health.turns} turns, {size_text(health.bytes)}"
