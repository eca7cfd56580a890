"""The list of chats: by time, searched, reopened, renamed, deleted and brought back."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, draw_picture, driven, plain
from vlmchat.conversation import Message, Text, assistant, user
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.widgets.transcript import FIRST_SHOWN, Earlier


def keep(store: ChatStore, title: str, *turns: Message) -> str:
    """Store a chat of ``turns``."""
    chat = store.create_chat("demo", title)
    parent = None
    for turn in turns:
        parent = store.add_turn(chat.id, parent, turn).id
    return chat.id


async def opened(run: Driven) -> ChatsScreen:
    """Open the list and wait for its rows."""
    await run.pilot.press("ctrl+o")
    await run.until(lambda: isinstance(run.app.screen, ChatsScreen))
    screen = run.app.screen
    assert isinstance(screen, ChatsScreen)
    await run.pilot.pause(0.05)
    return screen


def titles(screen: ChatsScreen) -> list[str]:
    """Return the titles as listed."""
    return [row.title for row in screen.rows]


async def test_empty_list_says_what_to_do() -> None:
    async with driven(build()) as run:
        screen = await opened(run)
        await run.until(lambda: "No chats yet" in plain(screen))
        await run.pilot.press("enter", "ctrl+d", "ctrl+r", "ctrl+z", "escape")
        assert run.app.screen is run.chat


async def test_reopened_chat_goes_on(tmp_path: Path) -> None:
    store = ChatStore()
    picture = store.keep_picture(read_picture(draw_picture(tmp_path / "disc.png")))
    keep(store, "Older", user("Old question"), assistant("Old **answer**"))
    chat_id = keep(store, "Discs", user("What is it?", picture), assistant("A disc."))
    engine = ScriptedEngine()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        screen = await opened(run)
        await run.until(lambda: titles(screen) == ["Discs", "Older"])
        await run.pilot.press("enter")
        await run.until(lambda: run.questions == ["What is it?"])
        assert run.app.screen is run.chat
        await run.until(lambda: "A disc." in plain(run.chat.transcript))
        assert "disc.png" in plain(run.chat.transcript)
        assert run.chat.status.title == "Discs"
        await run.asked("And now?")
        assert run.desk.chat.id == chat_id
        await run.pilot.press("up", "up")
        await run.until(lambda: run.draft.text == "What is it?")
        assert run.draft.pictures
    assert [message.text for message in engine.requests[0].messages] == ["What is it?", "A disc.", "And now?"]
    assert len(store.chat(chat_id).turns) == 4


async def test_a_list_that_comes_after_the_screen_was_left_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    store, may_come, came = ChatStore(), Event(), Event()
    read = ChatStore.chats

    def slowly(self: ChatStore, *args: Any, **options: Any) -> Any:
        assert may_come.wait(20)
        found = read(self, *args, **options)
        came.set()
        return found

    async with driven(build(store=store)) as run:
        await run.ready()
        monkeypatch.setattr(ChatStore, "chats", slowly)
        screen = await opened(run)
        screen.dismiss(None)
        screen.query_one(".listing").remove()  # as Textual does while it takes the screen away
        may_come.set()
        await run.until(came.is_set)
        await run.until(lambda: run.app.screen is run.chat)
        await run.asked("Are you there?")


async def test_search_as_you_type_and_its_hits() -> None:
    store = ChatStore()
    keep(store, "Fruit", user("Is the pear green?"), assistant("Yes."))
    keep(store, "Shapes", user("Is the square blue?"), assistant("No."))
    async with driven(build(store=store)) as run:
        screen = await opened(run)
        await run.until(lambda: len(screen.rows) == 2)
        await run.write("pear")
        await run.until(lambda: titles(screen) == ["Fruit"])
        await run.pilot.pause()
        assert "the pear green" in plain(screen)
        await run.write("xyz")
        await run.until(lambda: "No chat has these words" in plain(screen))


async def test_delete_is_undone_and_rename_kept() -> None:
    store = ChatStore()
    for title in ("One", "Two", "Three"):
        keep(store, title, user("?"), assistant("!"))
    async with driven(build(store=store)) as run:
        screen = await opened(run)
        await run.until(lambda: titles(screen) == ["Three", "Two", "One"])
        await run.pilot.press("down", "ctrl+d")
        await run.until(lambda: titles(screen) == ["Three", "One"])
        assert "Deleted “Two”" in run.toasts
        await run.pilot.press("ctrl+z")
        await run.until(lambda: len(screen.rows) == 3)
        await run.pilot.press("ctrl+r")
        await run.until(lambda: run.app.screen is not screen)
        await run.pilot.press("home", *"[b]", "enter")
        await run.until(lambda: any(title.startswith("[b]") for title in titles(screen)))
        await run.pilot.pause()
        assert "[b]" in plain(screen)
        await run.pilot.press("ctrl+r")
        await run.until(lambda: run.app.screen is not screen)
        await run.pilot.press("escape")
        assert run.app.screen is screen


async def test_deleting_the_open_chat_begins_a_new_one() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is this?")
        screen = await opened(run)
        await run.until(lambda: screen.rows)
        await run.pilot.press("ctrl+d")
        await run.until(lambda: not screen.rows)
        await run.pilot.press("escape")
        await run.until(lambda: not run.questions)
        assert run.desk.chat.id is None
        await run.asked("Anew.")
        assert [chat.title for chat in run.desk.store.chats()] == ["Anew."]


async def test_a_chat_under_way_is_not_deleted() -> None:
    engine = GatedEngine(answers=(("one ", "two "),))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Count.")
        await run.until(lambda: run.desk.store.chats())
        screen = await opened(run)
        await run.until(lambda: screen.rows)
        await run.pilot.press("ctrl+d")
        await run.until(lambda: "Stop it first" in run.toasts)
        assert screen.rows
        engine.let(2)


async def test_a_chat_that_is_gone_is_explained() -> None:
    store = ChatStore()
    chat_id = keep(store, "Gone", user("?"), assistant("!"))
    async with driven(build(store=store)) as run:
        screen = await opened(run)
        await run.until(lambda: screen.rows)
        store.erase(chat_id)
        await run.pilot.press("enter")
        await run.until(lambda: run.app.screen is run.chat)
        await run.until(lambda: run.toasts)
        assert not run.questions


async def test_long_chat_shows_its_end_first() -> None:
    store = ChatStore()
    turns = [turn for at in range(FIRST_SHOWN) for turn in (user(f"Question {at}"), assistant(f"Answer {at}"))]
    keep(store, "Long", *turns)
    async with driven(build(store=store)) as run:
        screen = await opened(run)
        await run.until(lambda: screen.rows)
        await run.pilot.press("enter")
        await run.until(lambda: len(run.questions) == FIRST_SHOWN // 2)
        assert run.chat.query(Earlier)
        for _ in range(60):
            await run.pilot.press("pageup")
            if not run.chat.query(Earlier):
                break
        await run.until(lambda: len(run.questions) == FIRST_SHOWN)
        assert run.questions[0] == "Question 0"


async def test_failed_question_is_marked_when_it_is_reopened() -> None:
    store = ChatStore()
    chat = store.create_chat("demo", "Failed")
    store.add_turn(chat.id, None, Message("user", (Text("Too long?"),)), "failed")
    async with driven(build(store=store)) as run:
        screen = await opened(run)
        await run.until(lambda: screen.rows)
        await run.pilot.press("enter")
        await run.until(lambda: run.questions == ["Too long?"])
        await run.pilot.pause()
        assert "not answered" in plain(run.chat.transcript)


async def test_archive_takes_a_chat_out_of_the_list_and_back() -> None:
    store = ChatStore()
    keep(store, "Fruit", user("A pear?"), assistant("Yes."))
    keep(store, "Shapes", user("A star?"), assistant("No."))
    async with driven(build(store=store), (100, 30)) as run:
        screen = await opened(run)
        await run.until(lambda: titles(screen) == ["Shapes", "Fruit"])
        await run.pilot.press("f5")
        await run.until(lambda: titles(screen) == ["Fruit"])
        await run.pilot.press("f6")
        await run.until(lambda: titles(screen) == ["Shapes"])
        assert "Archived chats" in plain(screen)
        await run.pilot.press("f5")
        await run.until(lambda: "No archived chats" in plain(screen))
        await run.pilot.press("f6")
        await run.until(lambda: titles(screen) == ["Shapes", "Fruit"])


async def test_export_from_the_list_writes_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ChatStore()
    keep(store, "Fruit", user("A pear?"), assistant("Yes."))
    async with driven(build(store=store), (100, 30)) as run:
        screen = await opened(run)
        await run.until(lambda: titles(screen) == ["Fruit"])
        await run.pilot.press("f7")
        await run.until(lambda: "Written to" in run.toasts)
    assert "A pear?" in (tmp_path / "Fruit.html").read_text(encoding="utf-8")
