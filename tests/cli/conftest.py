"""What the command line's tests share: a scripted engine behind it, and a folder that passes for a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.hub.test_local import WHOLE, fill
from vlmchat.chat import opening
from vlmchat.cli.checks import machine


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """The engine that commands run in this process will get."""
    engine = ScriptedEngine()
    monkeypatch.setattr(opening, "create_engine", lambda **_: engine)
    return engine


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that looks like a checkpoint, made the default model; a scripted engine never opens it."""
    folder = fill(tmp_path / "model", WHOLE)
    monkeypatch.setenv("VLMCHAT_MODEL", str(folder))
    return str(folder)


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine in which the doctor finds nothing, whatever is wrong with the one that runs the tests."""
    others = ("PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CA_BUNDLE", "CUDA_VISIBLE_DEVICES", "LANG", "NO_COLOR")
    for name in list(os.environ):
        if name.upper().endswith(others) or name == "HF_HUB_OFFLINE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setattr(machine, "LOW_DISK", 10**7)
    monkeypatch.setattr(machine, "_PCI", tmp_path / "pci")
