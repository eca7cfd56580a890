"""What the doctor finds: each fault provoked, each told with its fix; nothing where all is well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.harness import call
from vlmchat.cli import checks
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore

Patch = pytest.MonkeyPatch


def no_disk(patch: Patch, home: Path) -> None:
    patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))


def file_for_folder(patch: Patch, home: Path) -> None:
    home.write_text("in the way", encoding="utf-8")


def sealed_folder(patch: Patch, home: Path) -> None:
    home.mkdir()
    # A test may run as root, who may write everywhere.
    patch.setattr(os, "access", lambda path, mode: False)


def open_chats(patch: Patch, home: Path) -> None:
    ChatStore().create_chat("demo")
    ChatStore().database.chmod(0o644)


def package(name: str, found: str | None) -> Callable[[Patch, Path], None]:
    def provoke(patch: Patch, home: Path) -> None:
        real = metadata.version

        def version(asked: str) -> str:
            if asked == name and found is None:
                raise metadata.PackageNotFoundError(name)
            return str(found) if asked == name else real(asked)

        patch.setattr(checks, "version", version)

    return provoke


def variable(name: str, value: str) -> Callable[[Patch, Path], None]:
    return lambda patch, home: patch.setenv(name, value)


def broken_prompt(patch: Patch, home: Path) -> None:
    folder = home / "config" / "prompts"
    folder.mkdir(parents=True)
    (folder / "x.toml").write_text("prompt =", encoding="utf-8")


FAULTS: dict[str, tuple[Callable[[Patch, Path], None], str]] = {
    "disk": (no_disk, "Only 1.0 MB are free at"),
    "file": (file_for_folder, "is a file where a folder should be."),
    "sealed": (sealed_folder, "cannot be written. Change its permissions"),
    "privacy": (open_chats, "Close it with: chmod go-rwx"),
    "missing": (package("safetensors", None), "safetensors is not installed. Get it with: pip install 'safetensors"),
    "old": (package("transformers", "4.37.0"), "transformers 4.37.0 does not fit: pip install 'transformers"),
    "locale": (variable("LC_ALL", "C"), "The locale C is not UTF-8"),
    "model": (variable("VLMCHAT_MODEL", "internvl2:9b"), "The default model: There is no model 'internvl2:9b'."),
    "model-away": (
        variable("VLMCHAT_MODEL", "internvl2:1b"),
        "The default model: InternVL2-1B is not on this machine.",
    ),
    "offline": (variable("HF_HUB_OFFLINE", "1"), "HF_HUB_OFFLINE is set"),
    "prompt": (broken_prompt, "x.toml cannot be used"),
}


@pytest.fixture(autouse=True)
def healthy(monkeypatch: Patch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_with_its_fix(fault: str, monkeypatch: Patch, home: Path) -> None:
    provoke, says = FAULTS[fault]
    assert says not in call("doctor").out
    provoke(monkeypatch, home)
    assert says in call("doctor").out.split("problems\n")[1]


def test_a_gpu_that_torch_cannot_use(monkeypatch: Patch) -> None:
    package("torch", "2.9.0+cpu")(monkeypatch, Path())
    assert any("Install torch's CUDA build" in problem for problem in checks.problems_of(Settings(), ["NVIDIA Toy"]))
    assert not any("CUDA" in problem for problem in checks.problems_of(Settings(), []))


@pytest.mark.parametrize(
    ("name", "value", "says"), [("TERM", "dumb", "can draw nothing"), ("NO_COLOR", "1", "NO_COLOR")]
)
def test_a_terminal_without_colours(monkeypatch: Patch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("vlmchat.cli.checks.sys.stdout", SimpleNamespace(isatty=lambda: True))
    assert any(says in problem for problem in checks._terminal(Settings()))
