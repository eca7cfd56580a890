"""Versions, deletions, and what an opened chat goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fakes import ScriptedEngine
from vlmchat.chat.choices import Choices
from vlmchat.chat.session import Session
from vlmchat.conversation import Text
from vlmchat.errors import OutOfMemory
from vlmchat.options import Sampling
from vlmchat.store import schema
from vlmchat.store.chats import ChatStore


@pytest.fixture
def store(home: object) -> Iterator[ChatStore]:
    store = ChatStore()
    yield store
    store.close()


@pytest.fixture
def session(engine: ScriptedEngine, store: ChatStore) -> Session:
    engine.answers = (("one",), ("two",), ("three",), ("four",))
    return Session(engine, store, "scripted")


def texts(session: Session) -> list[str]:
    return [turn.message.text for turn in session.turns]


def test_versions_are_switched_round_and_round(session: Session) -> None:
    list(session.ask((Text("a"),)))
    list(session.ask((Text("b"),)))
    list(session.regenerate(turn_id=session.turns[0].id))
    assert texts(session) == ["a", "three"]
    first = session.turns[1]
    assert [turn.message.text for turn in session.versions(first.id)] == ["one", "three"]
    session.switch(first.id, 1)
    assert texts(session) == ["a", "one", "b", "two"]
    session.switch(session.turns[1].id, 1)
    assert texts(session) == ["a", "three"]


def test_deleted_turns_are_gone_from_chat_search_and_count_and_come_back(session: Session, store: ChatStore) -> None:
    list(session.ask((Text("alpha"),)))
    list(session.ask((Text("bravo"),)))
    assert session.chat_id is not None
    removed = session.delete(session.turns[2].id)
    assert texts(session) == ["alpha", "one"]
    assert [turn.message.text for turn in store.chat(session.chat_id).branch()] == ["alpha", "one"]
    assert store.chats("bravo") == []
    assert store.chats("br") == []
    assert store.chats()[0].turns == 2
    session.undelete(removed)
    assert texts(session) == ["alpha", "one", "bravo", "two"]
    assert [turn.message.text for turn in store.chat(session.chat_id).branch()] == texts(session)
    assert store.chats("bravo")[0].turns == 4


def test_deleting_one_version_shows_the_other(session: Session) -> None:
    list(session.ask((Text("a"),)))
    list(session.regenerate())
    assert texts(session) == ["a", "two"]
    session.delete(session.turns[1].id)
    assert texts(session) == ["a", "one"]
    session.delete(session.turns[1].id)
    assert texts(session) == ["a"]
    session.delete(session.turns[0].id)
    assert session.turns == ()


def test_deleted_turns_are_erased_after_a_day(
    session: Session, store: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(session.ask((Text("a"),)))
    session.delete(session.turns[0].id)
    store.close()
    monkeypatch.setattr("vlmchat.store.chats._UNDO_S", -1)
    store.create_chat("demo")
    with schema.connect(store.database) as connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone()[0] == 0


@pytest.mark.parametrize("deed", ["regenerate", "edit"])
def test_an_error_before_the_first_word_leaves_the_chat_as_it_was(
    session: Session, engine: ScriptedEngine, deed: str
) -> None:
    engine.answers = (("one",), OutOfMemory("Full."), ("three",))
    list(session.ask((Text("a"),)))
    before = session.turns
    with pytest.raises(OutOfMemory):
        list(session.regenerate() if deed == "regenerate" else session.edit(before[0].id, (Text("b"),)))
    assert [turn.id for turn in session.turns] == [turn.id for turn in before]
    assert [turn.status for turn in session.turns] == ["complete", "complete"]
    list(session.ask((Text("c"),)))
    assert [message.text for message in engine.requests[-1].messages] == ["a", "one", "c"]


def test_an_opened_chat_goes_on_with_its_own_choices(
    session: Session, engine: ScriptedEngine, store: ChatStore
) -> None:
    session.choices = Choices(Sampling(temperature=0.5, seed=7), "Be brief.", 3)
    list(session.ask((Text("a"),)))
    again = Session(engine, store, "scripted", chat_id=session.chat_id)
    assert again.choices == session.choices
    assert (again.sampling.temperature, again.system, again.vision.max_tiles) == (0.5, "Be brief.", 3)


def test_since_leaves_the_oldest_turns_out_of_the_prompt_only(session: Session, engine: ScriptedEngine) -> None:
    list(session.ask((Text("a"),)))
    list(session.ask((Text("b"),)))
    session.choices = replace(session.choices, since=session.turns[2].id)
    list(session.ask((Text("c"),)))
    assert [message.text for message in engine.requests[-1].messages] == ["b", "two", "c"]
    assert texts(session) == ["a", "one", "b", "two", "c", "three"]
