"""The kept engine and its client: all events over the socket, turns, stops, and servers that are gone or strange."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import png
from tests.engine.asking import asked, ends
from tests.fakes import ScriptedEngine
from vlmchat.conversation import Message, Picture, Text, Video, user
from vlmchat.engine import wire
from vlmchat.engine.api import Request
from vlmchat.engine.events import Delta, Encoding, Failed, Finished, Loading, Prefill, Timing, Usage
from vlmchat.engine.keeping import socket_path
from vlmchat.engine.remote import KeptEngine, running
from vlmchat.engine.server import Server
from vlmchat.errors import EngineLost, InputError, OutOfMemory
from vlmchat.options import LoadOptions, Sampling

PICTURE = Picture("0" * 64, "a\udce9.png", "image/png", 8, 6, data=png())
FINISHED = Finished("stop", "é", (1, 2), Usage(5, 3, 2), Timing(0, 0.25, 0.5, 1, 2, 3.5), (0.5, 1.0))
PARTS = (PICTURE, Text("x"), Video("1", "v", (PICTURE,), Path("/v")))
MESSAGES = (
    Loading("weights", 1, 2, 3, 4),
    Encoding(1, 2, 3, 4),
    Prefill(1, 2, 3),
    Delta("half \ud800 and 猫", (7,)),
    FINISHED,
    wire.Row(3, Failed(OutOfMemory("No room.", "Use less."))),
    wire.Generate(Request((Message("user", PARTS),), Sampling())),
)  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_goes_over_the_socket_comes_out_equal(message: object) -> None:
    ours, theirs = socket.socketpair()
    here, there = wire.Line(ours), wire.Line(theirs)
    here.send(7, message)
    number, found = there.receive()
    assert number == 7
    if isinstance(message, wire.Row):
        assert isinstance(found, wire.Row)
        problem = found.event.problem
        assert (type(problem), problem.message, problem.hint) == (OutOfMemory, "No room.", "Use less.")
    else:
        assert found == message
    if isinstance(found, wire.Generate):
        assert found.request.messages[0].pictures[0].data == png()
    here.close()
    with pytest.raises(EOFError):
        there.receive()


@pytest.mark.parametrize("words", [b'[1,{"is":"Popen"}]', b'[1,{"is":"Delta"}]', b"{}", b"x", b'[1,{"is":"error"}]'])
def test_what_nobody_sends_is_refused(words: bytes) -> None:
    with pytest.raises(ValueError):
        wire.unpack(words, b"")


@contextmanager
def served(engine: ScriptedEngine, uid: int | None = None, mark: str | None = None) -> Iterator[threading.Thread]:
    """Serve ``engine`` on a thread; on leaving, nobody uses it any more."""
    path = socket_path()
    path.parent.mkdir(mode=0o700, parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    server = Server(listener, path, engine, mark, uid)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield thread
    server.leave()
    thread.join(30)
    assert not thread.is_alive()


class Here:
    """Makes the engine in this process, and remembers why that was needed."""

    def __init__(self, keep_s: float = 60.0) -> None:
        self.engine = ScriptedEngine(answers=[["here"]])
        self.notices: list[str] = []
        self.client = KeptEngine(keep_s, 0, lambda: self.engine, self.notices.append)

    def load(self, folder: Path, options: LoadOptions | None = None) -> list[str]:
        return [event.stage for event in self.client.load(folder, options or LoadOptions())]


def question(text: str = "Hi", tokens: int = 1000) -> Request:
    return Request((user(text, PICTURE),), Sampling(max_new_tokens=tokens))


def test_a_second_client_finds_the_model_loaded(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with served(engine):
        first, second = Here(), Here()
        assert first.load(tmp_path)[-2:] == ["weights", "ready"]
        assert first.client.loaded == engine.loaded
        assert first.client.measure(question()) == engine.measure(question())
        assert first.client.view(question(), draw=True)[0].images[0].size == (8, 6)
        assert second.client.holds(tmp_path, LoadOptions())
        assert second.load(tmp_path) == ["ready"]
        events = list(second.client.generate(question()))
        assert [type(event) for event in events] == [Encoding, Prefill, Delta, Delta, Delta, Finished]
        assert engine.requests[0].messages[0].pictures[0].data == png()
        first.client.close()
        second.client.close()
        assert first.notices == second.notices == []
        assert len(engine.loads) == 1


def test_a_batch_is_read_as_it_is_needed_and_its_own_error_comes_back(tmp_path: Path) -> None:
    def lines() -> Iterator[Request]:
        yield from asked("a", "b", "c")
        raise InputError("no more")

    with served(ScriptedEngine(answers=[["x"], OutOfMemory("too large"), ["z"]])):
        here = Here()
        here.load(tmp_path)
        assert len(ends(list(here.client.generate_many(asked("a"), 2)))) == 1
        found = []
        with pytest.raises(InputError, match="no more"):
            for row in here.client.generate_many(lines(), 2):
                found.append(row)
        assert {number for number, _ in found} == {0, 1, 2}
        here.client.close()


def test_a_stop_is_seen_and_a_client_that_vanishes_ends_its_answer(tmp_path: Path) -> None:
    engine = ScriptedEngine(answers=[["word "] * 100_000], delay=0.001)
    with served(engine):
        here = Here()
        here.load(tmp_path)
        cancel = threading.Event()
        for event in here.client.generate(question(tokens=100_000), cancel):
            if isinstance(event, Delta):
                cancel.set()
        assert isinstance(event, Finished)
        assert event.reason == "interrupted"
        events = here.client.generate(question(tokens=100_000))
        assert any(isinstance(event, Delta) for event in events)
        here.client.close()  # its turn is free at once, or the next one would wait for all the words
        other = Here()
        assert other.load(tmp_path)[-1] == "ready"
        other.client.close()


def test_another_model_is_not_taken_from_under_a_client(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with served(engine):
        first, second = Here(), Here()
        first.load(tmp_path)
        second.load(tmp_path, LoadOptions(dtype="float32"))
        assert "Another program uses the kept engine" in second.notices[0]
        assert [event.text for event in second.client.generate(question()) if isinstance(event, Delta)] == ["here"]
        first.client.close()
        second.client.close()


def test_a_lone_client_swaps_the_model(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with served(engine):
        here = Here()
        here.load(tmp_path)
        assert here.load(tmp_path, LoadOptions(dtype="float32"))[-1] == "ready"
        (tmp_path / "weights").write_bytes(b"trained on")
        here.load(tmp_path, LoadOptions(dtype="float32"))
        assert len(engine.loads) == 3
        here.client.close()


def test_it_leaves_by_itself_when_its_time_is_over(tmp_path: Path) -> None:
    with served(ScriptedEngine()) as thread:
        here = Here(keep_s=0.01)
        here.load(tmp_path)
        assert running() is not None
        here.client.close()
        thread.join(30)
        assert not thread.is_alive()
        assert not socket_path().exists()
        assert running() is None


def test_other_users_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with served(ScriptedEngine(), uid=os.geteuid() + 1):
        here = Here()
        assert here.load(tmp_path)[-1] == "ready"
        assert here.notices == ["This engine is another user's. The model is loaded in this process."]
        here.client.close()


def refuse_to_start(*arguments: object) -> None:
    raise OSError("not in this test")


def test_a_server_of_another_version_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmchat.engine.keeping._start", refuse_to_start)
    with served(ScriptedEngine(), mark="of yesterday") as thread:
        here = Here()
        here.load(tmp_path)
        thread.join(30)
        assert not thread.is_alive()
        assert here.notices[0].endswith("The model is loaded in this process.")
        here.client.close()


@pytest.mark.parametrize("said", [False, True])
def test_a_server_that_is_lost(said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first word another engine answers; after it the answer ends with one sentence."""
    monkeypatch.setattr("vlmchat.engine.keeping._start", refuse_to_start)
    engine = ScriptedEngine(answers=[["word "] * 100_000], delay=0.001)
    with served(engine):
        here = Here()
        here.load(tmp_path)
        socket_path().unlink()
        link = here.client._link
        assert link is not None
        if not said:
            link.line.close()
            answer = list(here.client.generate(question()))
            assert [event.text for event in answer if isinstance(event, Delta)] == ["here"]
        else:
            with pytest.raises(EngineLost, match="has ended"):
                for event in here.client.generate(question(tokens=100_000)):
                    if isinstance(event, Delta):
                        link.line.close()
        here.client.close()


def test_the_folder_is_private_and_a_stale_socket_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmchat.engine import keeping

    path = socket_path()
    path.parent.mkdir(mode=0o755, parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    seen: list[Sequence[str]] = []

    class Process:
        def __init__(self, command: Sequence[str], **options: object) -> None:
            seen.append(command)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr("vlmchat.engine.keeping.subprocess.Popen", Process)
    with pytest.raises(keeping.CannotKeep, match="may say why"):
        keeping.connect_or_start()
    assert len(seen) == 1
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_system_without_unix_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    here = Here()
    assert here.load(tmp_path)[-1] == "ready"
    assert here.notices[0].startswith("This system has no Unix sockets")


def test_a_long_home_still_has_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLMCHAT_HOME", str(tmp_path / ("long" * 40)))
    assert len(os.fsencode(socket_path())) < 100
