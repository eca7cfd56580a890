"""``--keep`` from outside: the second command loads nothing, says the same, and nothing holds its streams."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import call, process
from vlmchat.engine.keeping import socket_path
from vlmchat.engine.remote import running
from vlmchat.settings import load_settings

EXAMPLE = str(Path(__file__).parents[2] / "screenshots" / "example.png")
ASK = ("ask", "-i", EXAMPLE, "What is in this picture?", "--json")


@pytest.fixture(autouse=True)
def none_left_behind() -> Iterator[None]:
    """End the engine of the test, if there is one."""
    yield
    if (found := running(leave=True)) is not None:
        wait_for_end(found.pid)


def wait_for_end(pid: int) -> None:
    """Wait until ``pid`` is gone; somebody else's child cannot be waited for."""
    for _ in range(600):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the engine did not leave")


def test_the_second_ask_loads_nothing_and_says_the_same() -> None:
    cold = process(None, *ASK, "--cold", "--keep", "5m").json
    assert running() is None
    first = process(None, *ASK, "--keep", "5m").json
    found = running()
    assert found is not None
    second = process(None, *ASK, "--keep", "5m").json
    piped = process(None, "pipe", "--prompt", "What is in this picture?", "--keep", "5m", stdin=EXAMPLE.encode()).json
    assert cold["timing"]["load_s"] > 0 < first["timing"]["load_s"]
    assert second["timing"]["load_s"] == piped["timing"]["load_s"] == 0
    assert cold["token_ids"] == first["token_ids"] == second["token_ids"] == piped["token_ids"]
    assert cold["text"] == second["text"]
    doctor = call("doctor", "--json").json["kept_engine"]
    assert (doctor["process"], doctor["used_by"], doctor["end_it_with"]) == (found.pid, 0, "vlmchat stop")
    os.kill(found.pid, signal.SIGKILL)
    wait_for_end(found.pid)
    assert socket_path().exists()
    assert process(None, *ASK, "--keep", "5m").json["timing"]["load_s"] > 0
    again = running()
    assert again is not None
    assert call("stop").code == 0
    wait_for_end(again.pid)
    assert not socket_path().exists()


def test_stop_where_there_is_none() -> None:
    assert (call("stop").code, call("stop").err) == (0, "")
    assert call("doctor", "--json").json["kept_engine"]["process"] is None


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("90s", 90), ("1h", 3600), ("7", 7), ("0", 0)])
def test_times(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"keep": text}).keep_s == seconds
    monkeypatch.setenv("VLMCHAT_KEEP", text)
    assert load_settings().keep_s == seconds
    assert load_settings({"cold": True}).keep_s == 0


@pytest.mark.parametrize("text", ["soon", "-1", "5 min", "1.5h"])
def test_a_time_that_is_none(text: str) -> None:
    result = call("ask", "--keep", text, "Hi")
    assert result.code == 2
    assert result.err.startswith("--keep must be a time such as 5m, 90s or 1h, or 0, not")
