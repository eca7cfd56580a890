"""What the command line's tests share: a scripted engine behind it, and a folder that passes for a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.hub.test_local import WHOLE, fill
from vlmchat.chat import opening


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
