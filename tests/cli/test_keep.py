"""``--keep`` from outside: the second command loads nothing, says the same, and nothing holds its streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.harness import call, command, process, started
from tests.fakes import ScriptedEngine
from tests.reference_cases import QWEN2
from vlmchat.chat import capacity
from vlmchat.engine import machine
from vlmchat.engine.keeping import socket_path
from vlmchat.engine.remote import running
from vlmchat.settings import load_settings
from vlmchat.store.chats import ChatStore

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


LONG = ("ask", "Hi", "--keep", "5m", "--raw", "--schema", json.dumps(
    {"type": "array", "items": {"type": "boolean"}, "minItems": 5000, "maxItems": 5000}
))  # fmt: skip
"""An answer that the context ends only after some 900 tokens: of its own the embedded model says a few words."""


@contextmanager
def in_mid_answer() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the long answer, and yield its client and its engine; the engine is frozen behind the first words."""
    with started(None, *LONG, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        assert client.stdout.read(3), "an answer"
        found = running()
        assert found is not None
        os.kill(found.pid, signal.SIGSTOP)
        try:
            yield client, found.pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGCONT)


def last_answer() -> tuple[str, str]:
    """Return status and text of the answer kept last."""
    store = ChatStore()
    latest = store.latest()
    assert latest is not None
    turn = store.chat(latest.id).branch()[-1]
    return turn.status, turn.message.text


def wait_until_idle() -> None:
    """Wait until no client is counted and none is being answered."""
    deadline = time.monotonic() + 60
    while (found := running()) is None or found.clients:
        assert time.monotonic() < deadline, found


def test_ends_in_mid_answer_over_a_kept_engine() -> None:
    # Ctrl-C: what came is on stdout and among the chats, and the engine is there for the next one.
    with in_mid_answer() as (client, engine):
        client.send_signal(signal.SIGINT)
        os.kill(engine, signal.SIGCONT)
        out, err = client.communicate(timeout=60)
    assert (client.returncode, err) == (130, b"")
    status, text = last_answer()
    assert status == "interrupted"
    assert text.startswith("[") and not text.rstrip().endswith("]")
    assert text.rstrip().endswith(out.decode().rstrip()), "the first three letters were read before"
    wait_until_idle()

    # Nobody reads stdout any more: quiet.
    with in_mid_answer() as (client, engine):
        assert client.stdout is not None and client.stderr is not None
        client.stdout.close()
        os.kill(engine, signal.SIGCONT)
        assert (client.wait(60), client.stderr.read()) == (141, b"")
    wait_until_idle()

    # The client is killed: its answer ends, and the next one has the engine for itself.
    with in_mid_answer() as (client, engine):
        client.kill()
        client.wait()
        os.kill(engine, signal.SIGCONT)
        wait_until_idle()
    answer = process(None, *ASK, "--keep", "5m").json
    assert answer["timing"]["load_s"] == 0
    found = running()
    assert found is not None and found.pid == engine, "it was one and the same"

    # The engine is killed: one sentence, and what came is kept.
    with in_mid_answer() as (client, engine):
        os.kill(engine, signal.SIGKILL)
        out, err = client.communicate(timeout=60)
    assert client.returncode == 1
    assert err.decode().splitlines() == [
        "The kept engine has ended.",
        "hint: Ask again; --cold does without it.",
    ]
    status, text = last_answer()
    assert status == "failed"
    assert text.startswith("[")
    wait_for_end(engine)


def test_two_that_begin_at_once_start_one_engine_which_gives_its_memory_to_a_cold_load(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [subprocess.Popen(command(None, *ASK, "--keep", "5m"), stdout=subprocess.PIPE) for _ in range(2)]
    answers = [json.loads(client.communicate(timeout=120)[0]) for client in both]
    assert [client.returncode for client in both] == [0, 0]
    assert answers[0]["token_ids"] == answers[1]["token_ids"]
    assert sorted(answer["timing"]["load_s"] > 0 for answer in answers) == [False, True], "one of them waited"
    idle = running()
    assert idle is not None and idle.loaded is not None

    # A machine that has nothing left while that engine is there.
    other = str(QWEN2 / "checkpoint")
    here = machine.look(Path.cwd())
    monkeypatch.setattr(capacity, "look", lambda _: replace(here, memory_free=0 if running() else 10**10))
    answered = call("ask", "-m", other, "--device", "cpu", "Hi")
    assert (answered.code, answered.out) == (0, "A red circle.\n")
    assert answered.err == f"The kept engine is ended: {other} needs its memory.\n"
    wait_for_end(idle.pid)


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
