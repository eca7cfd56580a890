"""The store: what goes in comes out, whoever writes beside it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import png
from vlmchat.conversation import Message, Picture, Text, Video, assistant, user
from vlmchat.errors import InputError, StoreError
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Provenance

MADE_BY = Provenance(
    model="internvl2:1b",
    revision="abc",
    quantization="none",
    device="cpu",
    dtype="float32",
    settings={"temperature": 0.0, "seed": None, "system": "Be brief."},
    prompt_tokens=10,
    image_tokens=5,
    completion_tokens=3,
    first_token_s=0.1,
    total_s=0.5,
    decode_tokens_per_s=20.0,
)


@pytest.fixture
def store() -> ChatStore:
    return ChatStore()


def with_turns(store: ChatStore, *texts: str, title: str = "A chat") -> str:
    """Make a chat of ``texts`` by turns of user and model; return its id."""
    chat, parent = store.create_chat("demo", title), None
    for at, text in enumerate(texts):
        message = assistant(text) if at % 2 else user(text)
        parent = store.add_turn(chat.id, parent, message).id
    return chat.id


def test_nothing_is_on_disk_before_the_first_write(store: ChatStore, home: Path) -> None:
    assert store.chats() == []
    assert store.chats("word") == []
    assert store.latest() is None
    with pytest.raises(InputError, match="There is no chat 'x'"):
        store.chat("x")
    assert not home.exists()


def test_a_chat_comes_back_as_it_was(store: ChatStore) -> None:
    picture = store.keep_picture(read_picture(png(), "red.png"))
    frame = store.keep_picture(read_picture(png("blue"), "f1.png"))
    video = Video("d" * 64, "clip", (frame,), Path("/videos/clip.mp4"))
    question = Message("user", (Text("Look: "), picture, Text("and"), video, Text("what?")))
    chat = store.create_chat("demo", "Looking")
    asked = store.add_turn(chat.id, None, question)
    answered = store.add_turn(chat.id, asked.id, assistant("红色 red"), "interrupted", MADE_BY)
    found = ChatStore().chat(chat.id)
    assert found.turns == (asked, answered)
    assert found.branch() == (asked, answered)
    assert found.head == answered.id
    assert found.turns[1].provenance == MADE_BY
    assert found.turns[0].message.pictures[0].read() == png()
    assert found.summary.title == "Looking"
    assert found.summary.model == "internvl2:1b", "a chat carries the model of its last answer"
    assert found.summary.turns == 2


def test_an_answer_grows_in_place(store: ChatStore) -> None:
    chat = with_turns(store, "hello", "A")
    turn = store.chat(chat).turns[1]
    store.update_turn(turn.id, assistant("A red"), "interrupted")
    store.update_turn(turn.id, status="complete", provenance=MADE_BY)
    grown = store.chat(chat).turns[1]
    assert (grown.message.text, grown.status, grown.provenance) == ("A red", "complete", MADE_BY)
    assert [hit.id for hit in store.chats("red")] == [chat]
    store.update_turn("no such turn", status="failed")


def test_turns_are_a_tree(store: ChatStore) -> None:
    chat = with_turns(store, "question", "first answer")
    question, first = store.chat(chat).turns
    second = store.add_turn(chat, question.id, assistant("second answer"))
    assert [turn.message.text for turn in store.chat(chat).branch()] == ["question", "second answer"]
    store.set_head(chat, first.id)
    assert [turn.message.text for turn in store.chat(chat).branch()] == ["question", "first answer"]
    assert store.chat(chat).turns == (question, first, second)


def test_found_by_the_beginning_of_its_id(store: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([b"\xab\xcd\x00\x00\x00\x00\x00\x01", b"\xab\xce\x00\x00\x00\x00\x00\x02"])
    monkeypatch.setattr(os, "urandom", lambda count: next(ids))
    first = store.create_chat("demo").id
    store.create_chat("demo")
    assert store.chat("ABCD").summary.id == first
    with pytest.raises(InputError, match="More than one chat begins with 'ab'") as caught:
        store.chat("ab")
    assert caught.value.hint == "Give more of the id."
    for nothing in ("", "%", "ffff"):
        with pytest.raises(InputError, match="There is no chat"):
            store.chat(nothing)


def test_listed_latest_first_in_pages(store: ChatStore) -> None:
    ids = [with_turns(store, f"number {at}", title=f"Chat {at}") for at in range(5)]
    store.add_turn(ids[0], None, user("again"))
    assert [chat.id for chat in store.chats()] == [ids[0], ids[4], ids[3], ids[2], ids[1]]
    assert [chat.id for chat in store.chats(limit=2, offset=1)] == [ids[4], ids[3]]
    latest = store.latest()
    assert latest is not None
    assert (latest.id, latest.turns) == (ids[0], 2)


def test_rename_archive_delete_and_undo(store: ChatStore) -> None:
    one, two = with_turns(store, "one"), with_turns(store, "two")
    store.rename(one, "Renamed")
    assert [chat.id for chat in store.chats("renamed")] == [one]
    store.archive(one)
    assert [chat.id for chat in store.chats()] == [two]
    assert [(chat.id, chat.archived) for chat in store.chats(archived=True)] == [(one, True)]
    store.archive(one, archived=False)
    store.delete(two)
    assert [chat.id for chat in store.chats()] == [one]
    with pytest.raises(InputError):
        store.chat(two)
    store.restore(two)
    assert {chat.id for chat in store.chats()} == {one, two}


def test_erase_takes_pictures_no_other_chat_shows(store: ChatStore) -> None:
    shared, own = (store.keep_picture(read_picture(png(colour))) for colour in ("red", "blue"))
    first, second = store.create_chat("demo"), store.create_chat("demo")
    store.add_turn(first.id, None, user("both", shared, own))
    store.add_turn(second.id, None, user("one", shared))
    store.erase(first.id)
    assert {path.name for path in store.pictures.iterdir()} == {shared.digest}
    assert store.chats("both") == []
    store.erase(second.id)
    assert list(store.pictures.iterdir()) == []


def test_deleted_chats_go_after_a_day(store: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = store.keep_picture(read_picture(png()))
    old, fresh = store.create_chat("demo"), store.create_chat("demo")
    store.add_turn(old.id, None, user("old", picture))
    store.delete(old.id)
    assert picture.path is not None
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(picture.path, (two_days_ago, two_days_ago))
    store.close()
    later = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    store.rename(fresh.id, "still here")
    store.restore(old.id)
    assert [chat.id for chat in store.chats()] == [fresh.id]
    assert not picture.path.exists()


@pytest.mark.parametrize(
    ("query", "snippet"),
    [
        ("circle", "A red \x02circle\x03 on white"),
        ("CIRCLE", "A red \x02circle\x03 on white"),
        ("ircl", "A red c\x02ircl\x03e on white"),
        ("什么", "图片里有\x02什么\x03颜色？"),
        ("图片里", "\x02图片里\x03有什么颜色？"),
        ("色", "图片里有什么颜\x02色\x03？"),
        ("red 图片", "A \x02red\x03 circle on white"),
        ("猫", ""),
        ("cat 猫", ""),
        ("on", "A red circle \x02on\x03 white"),
    ],
)
def test_search_finds_words_parts_and_chinese(store: ChatStore, query: str, snippet: str) -> None:
    chat = with_turns(store, "图片里有什么颜色？", "A red circle on white", title="一只猫 cat")
    with_turns(store, "something else", title="Other")
    assert [(hit.id, hit.snippet) for hit in store.chats(query)] == [(chat, snippet)]


@pytest.mark.parametrize("query", ["circle NOT", '"', "a*b", "100%", "%", "_", "\\", "NEAR(a b)", "\0", "-x", "o'r"])
def test_search_takes_every_character_as_it_is(store: ChatStore, query: str) -> None:
    with_turns(store, "a circle and one more thing")
    found = store.chats(query)
    assert len(found) == (1 if query.strip("\0") == "" else 0)


def test_search_follows_changes(store: ChatStore) -> None:
    chat = with_turns(store, "hello", "before")
    turn = store.chat(chat).turns[1]
    store.update_turn(turn.id, assistant("afterwards"))
    assert store.chats("before") == []
    assert len(store.chats("afterwards")) == 1
    store.erase(chat)
    assert store.chats("afterwards") == []


def test_long_snippets_are_cut_on_both_sides(store: ChatStore) -> None:
    with_turns(store, "x " * 200 + "needle" + " y" * 200)
    snippet = store.chats("needle")[0].snippet
    assert "\x02needle\x03" in snippet
    assert snippet.startswith("…")
    assert snippet.endswith("…")
    assert len(snippet) < 100


def test_threads_write_and_read_at_once(store: ChatStore) -> None:
    chat = store.create_chat("demo").id

    def write(number: int) -> None:
        store.add_turn(chat, None, user(f"number {number}"))
        store.chats("number")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(80)))
    texts = {turn.message.text for turn in store.chat(chat).turns}
    assert texts == {f"number {number}" for number in range(80)}


def test_programs_write_at_once(store: ChatStore) -> None:
    chat = store.create_chat("demo").id
    code = (
        "import sys; from vlmchat.store.chats import ChatStore; from vlmchat.conversation import user\n"
        "store = ChatStore()\n"
        "for at in range(25): store.add_turn(sys.argv[1], None, user(f'{sys.argv[2]} {at}'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, chat, name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(store.chat(chat).turns) == 75


def test_ten_thousand_chats_list_fast(store: ChatStore) -> None:
    store.create_chat("demo")
    with sqlite3.connect(store.database) as connection:
        connection.executemany(
            "INSERT INTO chats (id, title, model, created, updated) VALUES (?, ?, 'demo', ?, ?)",
            [(f"{at:016x}", f"Chat number {at}", at, at) for at in range(10_000)],
        )
        connection.executemany(
            "INSERT INTO turns (id, chat_id, role, parts, text, status, created) VALUES (?, ?, 'user', '[]', ?, '', 0)",
            [(f"t{at}", f"{at:016x}", f"question {at} about a picture") for at in range(10_000)],
        )
    begun = time.process_time()
    assert len(store.chats()) == 50
    listed = time.process_time() - begun
    assert len(store.chats("question 7777")) == 1
    assert len(store.chats("78")) == 50
    searched = time.process_time() - begun - listed
    print(f"10,000 chats: a page in {listed:.3f} CPU-s, two searches in {searched:.3f} CPU-s")
    assert listed < 0.5


def test_a_write_that_fails_leaves_nothing(store: ChatStore) -> None:
    with pytest.raises(StoreError, match="cannot be used: FOREIGN KEY constraint failed"):
        store.add_turn("no such chat", None, user("lost"))
    chat = store.create_chat("demo").id
    with pytest.raises(StoreError):
        store.add_turn(chat, "no such parent", user("lost"))
    assert store.chat(chat).turns == ()


def test_a_killed_writer_leaves_whole_turns(store: ChatStore) -> None:
    chat = with_turns(store, "kept")
    code = (
        "import os, sys; from vlmchat.store.chats import ChatStore; from vlmchat.conversation import user\n"
        "store = ChatStore(); store.add_turn(sys.argv[1], None, user('also kept'))\n"
        "with store._write() as connection:\n"
        "    connection.execute('UPDATE turns SET text = ?', ('half',)); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, chat], check=False).returncode == 9
    assert [turn.message.text for turn in store.chat(chat).turns] == ["kept", "also kept"]
    assert store.chats("half") == []


def test_a_picture_missing_from_memory_and_disk_is_named(store: ChatStore) -> None:
    with pytest.raises(Exception, match=r"The picture gone\.png is no longer there"):
        store.keep_picture(Picture("0" * 64, "gone.png", "image/png", 1, 1, path=Path("/nowhere/x")))
