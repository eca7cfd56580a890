"""Every test runs in a home of its own, with the network shut and no setting of the developer's."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fakes import ScriptedEngine

_WITH_CLOCKS = ("tests/hub/", "tests/tui/test_tmux.py", "tests/cli/test_keep.py", "tests/cli/test_resume.py")
"""Real servers, processes, kills, terminals and time-outs: on a machine that others use, one of a thousand may come
too late. These are run once more before a failure counts; what is wrong fails again."""
OF_OTHERS = ("VLMCHAT_", "HF_", "HUGGINGFACE_", "MODELSCOPE_")
"""Beginnings of variables that a developer may have set, and no test may see."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of :data:`_WITH_CLOCKS`."""
    for item in items:
        if item.nodeid.startswith(_WITH_CLOCKS):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move every folder of vlmchat and of the hubs under ``tmp_path`` and forget the developer's environment."""
    for name in list(os.environ):
        if name.startswith(OF_OTHERS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VLMCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine, so that a test that tries one fails by name."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise PermissionError(f"a test tried to reach {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder ``VLMCHAT_HOME`` names."""
    return tmp_path / "home"


@pytest.fixture
def engine(tmp_path: Path) -> ScriptedEngine:
    """A scripted engine with its model loaded."""
    from vlmchat.options import LoadOptions

    scripted = ScriptedEngine()
    for _ in scripted.load(tmp_path, LoadOptions()):
        pass
    return scripted


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    """A small PNG on disk."""
    path = tmp_path / "red square.png"
    path.write_bytes(png())
    return path


def png(colour: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    """Return a PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()
