"""One conversation: what is asked, what is kept, and what survives a stop, an error and a crash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import png
from tests.fakes import ScriptedEngine
from vlmchat.chat import record
from vlmchat.chat.session import Session
from vlmchat.conversation import Part, Text, Video
from vlmchat.engine.events import AnswerEvent, Delta, Finished
from vlmchat.errors import ContextOverflow, InputError, OutOfMemory, StoreError, UsageError
from vlmchat.media.image import read_picture
from vlmchat.options import Sampling, VisionOptions
from vlmchat.store import blobs
from vlmchat.store.chats import ChatStore
from vlmchat.store.health import check
from vlmchat.store.model import TurnStatus

HELLO: list[Part] = [Text("What is this?")]


@pytest.fixture
def store() -> ChatStore:
    return ChatStore()


@pytest.fixture
def session(engine: ScriptedEngine, store: ChatStore) -> Session:
    return Session(engine, store, "demo")


def saved(session: Session) -> list[tuple[str, str, TurnStatus]]:
    """Read the branch back from disk: role, text, status."""
    assert session.chat_id is not None
    branch = ChatStore().chat(session.chat_id).branch()
    assert branch == session.turns, "the session and the store agree"
    return [(turn.message.role, turn.message.text, turn.status) for turn in branch]


def asked(engine: ScriptedEngine) -> list[tuple[str, str]]:
    """What the engine was shown last."""
    return [(message.role, message.text) for message in engine.requests[-1].messages]


def test_events_pass_unchanged_and_the_question_is_saved_first(session: Session, engine: ScriptedEngine) -> None:
    events: list[AnswerEvent] = []
    for event in session.ask(HELLO):
        assert saved(session)[0] == ("user", "What is this?", "complete")
        events.append(event)
    assert [event.text for event in events if isinstance(event, Delta)] == ["A ", "red ", "circle."]
    assert isinstance(events[-1], Finished)
    assert saved(session) == [("user", "What is this?", "complete"), ("assistant", "A red circle.", "complete")]
    assert asked(engine) == [("user", "What is this?")]


def test_a_new_chat_has_no_id_and_leaves_nothing_behind(session: Session, home: Path) -> None:
    assert session.chat_id is None
    assert session.turns == ()
    assert not home.exists()


def test_the_title_is_the_first_question(session: Session, store: ChatStore) -> None:
    list(session.ask([Text("  What\nis \x1b[31mthis, " + "really " * 20)]))
    title = store.chats()[0].title
    assert title.startswith("What is [31mthis, really really")
    assert len(title) <= 60
    other = Session(session.engine, store, "demo")
    list(other.ask([read_picture(png(), "red.png"), Text("")]))
    assert store.chats()[0].title == "red.png"


def test_answers_carry_what_made_them(session: Session, engine: ScriptedEngine) -> None:
    session.sampling = Sampling(temperature=0.5, seed=7)
    session.vision = VisionOptions(max_tiles=4)
    session.system = "Be brief."
    list(session.ask(HELLO))
    made_by = session.turns[-1].provenance
    assert made_by is not None
    assert (made_by.model, made_by.revision, made_by.device) == ("demo", "f" * 64, "cpu")
    assert made_by.settings["seed"] == 7
    assert made_by.settings["max_tiles"] == 4
    assert made_by.settings["system"] == "Be brief."
    assert (made_by.prompt_tokens, made_by.completion_tokens, made_by.decode_tokens_per_s) == (5, 3, 25.0)
    request = engine.requests[-1]
    assert (request.sampling, request.vision) == (session.sampling, session.vision)
    assert asked(engine)[0] == ("system", "Be brief.")


def test_pictures_are_kept_and_moving_the_file_changes_nothing(
    session: Session, engine: ScriptedEngine, picture_file: Path
) -> None:
    list(session.ask([read_picture(picture_file), Text("Colour?")]))
    picture_file.unlink()
    list(session.ask([Text("Sure?")]))
    kept = engine.requests[-1].messages[0].pictures[0]
    assert kept.read() == png()
    assert kept.data is None
    assert kept.name == "red square.png"


def test_frames_of_a_video_are_kept_too(session: Session, store: ChatStore) -> None:
    frame = read_picture(png(), "f1.png")
    list(session.ask([Video(frame.digest, "clip", (frame,)), Text("What happens?")]))
    assert [path.name for path in store.pictures.iterdir()] == [frame.digest]


def clip(folder: Path, data: bytes = b"frames") -> Video:
    path = folder / "clip.mp4"
    path.write_bytes(data)
    return Video(hashlib.sha256(data).hexdigest(), path.name, path=path)


def test_a_video_is_kept_and_moving_the_file_changes_nothing(
    session: Session, engine: ScriptedEngine, store: ChatStore, tmp_path: Path
) -> None:
    video = clip(tmp_path)
    assert video.path is not None
    list(session.ask([video, Text("What happens?")]))
    video.path.unlink()
    again = Session(engine, store, "demo", chat_id=session.chat_id)
    list(again.ask([Text("Sure?")]))
    (kept,) = engine.requests[-1].messages[0].media
    assert isinstance(kept, Video)
    assert kept == video
    assert kept.path == store.pictures / video.digest
    assert kept.path.read_bytes() == b"frames"
    assert session.chat_id is not None
    assert check(store.database, store.pictures).problems == ()
    store.erase(session.chat_id)
    assert not kept.path.exists()


@pytest.mark.parametrize("change", ["larger", "other", "gone"])
def test_of_a_video_that_cannot_be_copied_the_path_is_kept(
    change: str, session: Session, store: ChatStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = clip(tmp_path)
    assert video.path is not None
    if change == "larger":
        monkeypatch.setattr(blobs, "MAX_VIDEO", 5)
    elif change == "other":
        video.path.write_bytes(b"others")
    else:
        video.path.unlink()
    list(session.ask([video, Text("What happens?")]))
    (kept,) = session.turns[0].message.media
    assert kept.path == video.path
    assert not (store.pictures / video.digest).exists()


def test_a_chat_goes_on_where_it_ended(session: Session, engine: ScriptedEngine, store: ChatStore) -> None:
    session.system = "Be brief."
    list(session.ask(HELLO))
    assert session.chat_id is not None
    again = Session(engine, store, "demo", chat_id=session.chat_id[:6])
    assert again.turns == session.turns
    assert again.system == "Be brief."
    list(again.ask([Text("And now?")]))
    assert asked(engine)[1:] == [
        ("user", "What is this?"),
        ("assistant", "A red circle."),
        ("user", "And now?"),
    ]
    with pytest.raises(InputError):
        Session(engine, store, "demo", chat_id="nothing")


def test_a_temporary_chat_is_never_written(engine: ScriptedEngine, home: Path) -> None:
    session = Session(engine, None, "demo")
    picture = read_picture(png())
    list(session.ask([picture, Text("Colour?")]))
    list(session.ask([Text("Sure?")]))
    assert session.chat_id is None
    assert len(session.turns) == 4
    assert session.turns[0].message.pictures[0] is picture
    assert not home.exists()


def test_stopping_keeps_what_was_said(engine: ScriptedEngine, session: Session) -> None:
    cancel = threading.Event()
    for event in session.ask(HELLO, cancel):
        if isinstance(event, Delta):
            cancel.set()
    assert saved(session)[-1] == ("assistant", "A", "interrupted")


def test_an_answer_cut_at_its_longest_says_so(session: Session) -> None:
    session.sampling = Sampling(max_new_tokens=2)
    list(session.ask(HELLO))
    assert saved(session)[-1] == ("assistant", "A red", "length")


@pytest.mark.parametrize(("events_taken", "kept"), [(1, ""), (2, "A"), (3, "A red")])
def test_a_consumer_that_leaves_early_keeps_what_it_saw(session: Session, events_taken: int, kept: str) -> None:
    events = session.ask(HELLO)
    for _ in range(events_taken):
        next(events)
    events.close()
    assert saved(session)[-1] == ("assistant", kept, "interrupted")
    made_by = session.turns[-1].provenance
    assert made_by is not None
    assert made_by.completion_tokens == events_taken - 1


class Broken(ScriptedEngine):
    """Raises ``problem`` after one piece."""

    problem: BaseException = KeyboardInterrupt()

    def generate(self, *args: object, **more: object) -> Iterator[AnswerEvent]:
        yield Delta("A ", (1,))
        raise self.problem


@pytest.mark.parametrize(
    ("problem", "status"),
    [(KeyboardInterrupt(), "interrupted"), (OutOfMemory("Full."), "failed"), (RuntimeError("bug"), "failed")],
)
def test_an_error_in_mid_answer_keeps_the_beginning(
    store: ChatStore, problem: BaseException, status: TurnStatus
) -> None:
    engine = Broken()
    engine.problem = problem
    session = Session(engine, store, "demo")
    with pytest.raises(type(problem)):
        list(session.ask(HELLO))
    assert saved(session) == [("user", "What is this?", "complete"), ("assistant", "A", status)]


def test_an_error_without_an_answer_marks_the_question(session: Session, engine: ScriptedEngine) -> None:
    engine.answers = [ContextOverflow("Too long."), ("Now ", "it works.")]
    with pytest.raises(ContextOverflow):
        list(session.ask(HELLO))
    assert saved(session) == [("user", "What is this?", "failed")]
    list(session.regenerate())
    assert saved(session) == [("user", "What is this?", "complete"), ("assistant", "Now it works.", "complete")]


def test_a_failed_question_is_not_shown_to_the_model_again(session: Session, engine: ScriptedEngine) -> None:
    engine.answers = [ContextOverflow("Too long."), ("Fine.",)]
    with pytest.raises(ContextOverflow):
        list(session.ask([Text("far too long")]))
    list(session.ask([Text("short")]))
    assert asked(engine) == [("user", "short")]
    assert [status for _, _, status in saved(session)] == ["failed", "complete", "complete"]


def test_a_question_stopped_before_its_first_word_is_joined_with_the_next(
    session: Session, engine: ScriptedEngine
) -> None:
    picture = read_picture(png())
    events = session.ask([picture, Text("Wait")])
    next(events)
    events.close()
    list(session.ask([Text("What colour?")]))
    assert asked(engine) == [("user", "Wait\nWhat colour?")]
    assert [kept.digest for kept in engine.requests[-1].messages[0].pictures] == [picture.digest]


def test_regenerate_makes_a_branch_beside(session: Session, engine: ScriptedEngine, store: ChatStore) -> None:
    engine.answers = [("One.",), ("Two.",)]
    list(session.ask(HELLO))
    first = session.turns[-1]
    list(session.regenerate())
    assert saved(session)[-1] == ("assistant", "Two.", "complete")
    assert asked(engine) == [("user", "What is this?")]
    assert session.turns[-1].parent == first.parent
    session.select(first.id)
    assert saved(session)[-1] == ("assistant", "One.", "complete")
    assert session.chat_id is not None
    assert len(store.chat(session.chat_id).turns) == 3


def test_resume_grows_the_stopped_answer(session: Session, engine: ScriptedEngine) -> None:
    engine.answers = [("A ", "red"), (" circle", " on white.")]
    events = session.ask(HELLO)
    for _ in range(3):
        next(events)
    events.close()
    turn_id = session.turns[-1].id
    list(session.resume())
    assert asked(engine) == [("user", "What is this?"), ("assistant", "A red")]
    assert saved(session)[-1] == ("assistant", "A red circle on white.", "complete")
    assert session.turns[-1].id == turn_id


def test_resume_that_fails_leaves_the_answer_as_it_was(session: Session, engine: ScriptedEngine) -> None:
    engine.answers = [("A ", "red"), OutOfMemory("Full."), (" circle",)]
    events = session.ask(HELLO)
    for _ in range(3):
        next(events)
    events.close()
    with pytest.raises(OutOfMemory):
        list(session.resume())
    assert saved(session)[-1] == ("assistant", "A red", "interrupted")
    list(session.resume())
    assert saved(session)[-1] == ("assistant", "A red circle", "complete")


def test_resume_of_an_answer_without_a_word_asks_again(session: Session, engine: ScriptedEngine) -> None:
    events = session.ask(HELLO)
    next(events)
    events.close()
    list(session.resume())
    assert asked(engine) == [("user", "What is this?")]
    assert saved(session) == [("user", "What is this?", "complete"), ("assistant", "A red circle.", "complete")]


def test_edit_asks_in_place_of_an_earlier_question(session: Session, engine: ScriptedEngine) -> None:
    list(session.ask([Text("one")]))
    list(session.ask([Text("two")]))
    second = session.turns[2]
    list(session.edit(second.id, [Text("another two")]))
    assert [text for _, text, _ in saved(session)] == ["one", "A red circle.", "another two", "A red circle."]
    assert asked(engine)[-1] == ("user", "another two")
    list(session.edit(session.turns[0].id, [Text("another one")]))
    assert [text for _, text, _ in saved(session)] == ["another one", "A red circle."]


def test_fork_copies_the_branch_into_a_new_chat(session: Session, store: ChatStore) -> None:
    list(session.ask([read_picture(png()), Text("one")]))
    list(session.ask([Text("two")]))
    other = session.fork(session.turns[1].id)
    assert other.chat_id != session.chat_id
    assert [text for _, text, _ in saved(other)] == ["one", "A red circle."]
    assert other.turns[1].provenance == session.turns[1].provenance
    list(other.ask([Text("elsewhere")]))
    assert len(saved(session)) == 4
    assert len(saved(other)) == 4


def test_what_makes_no_sense_is_refused(session: Session) -> None:
    with pytest.raises(UsageError, match="no question to answer again"):
        list(session.regenerate())
    with pytest.raises(UsageError, match="no stopped answer"):
        list(session.resume())
    list(session.ask(HELLO))
    with pytest.raises(UsageError, match="no stopped answer"):
        list(session.resume())
    with pytest.raises(UsageError, match="Only a question can be edited"):
        list(session.edit(session.turns[1].id, HELLO))
    with pytest.raises(UsageError, match="no turn nothing"):
        session.fork("nothing")


def test_measure_counts_the_history_too(session: Session) -> None:
    assert session.measure(HELLO).prompt_tokens == 3
    list(session.ask(HELLO))
    assert session.measure([read_picture(png()), Text("And now?")]).prompt_tokens == 3 + 3 + 2 + 16
    assert len(session.turns) == 2


def test_a_store_that_cannot_be_written_stops_before_the_engine(
    session: Session, engine: ScriptedEngine, home: Path
) -> None:
    home.mkdir()
    (home / "data").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError):
        list(session.ask(HELLO))
    assert engine.requests == []


def test_a_long_answer_is_written_while_it_comes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "SAVE_EVERY_S", 0.0)
    seen: list[str] = []
    for event in session.ask(HELLO):
        if isinstance(event, Delta):
            seen.append(saved(session)[-1][1])
    assert seen == ["A", "A red", "A red circle."]
    assert len(saved(session)) == 2


def test_a_crash_in_mid_answer_keeps_question_and_beginning(store: ChatStore) -> None:
    code = (
        "import os\nfrom tests.fakes import ScriptedEngine\nfrom vlmchat.chat import record, session\n"
        "from vlmchat.conversation import Text\nfrom vlmchat.store.chats import ChatStore\n"
        "record.SAVE_EVERY_S = 0.0\n"
        "for event in session.Session(ScriptedEngine(), ChatStore(), 'demo').ask([Text('Well?')]):\n"
        "    if getattr(event, 'text', '') == 'red ': os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    branch = store.chat(store.chats()[0].id).branch()
    assert [(turn.message.text, turn.status) for turn in branch] == [("Well?", "complete"), ("A red", "interrupted")]
