"""Keys reach what the key before them has opened, however fast they come: in order, and none is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual.events import Key, Paste
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, draw_picture, driven
from vlmchat.paths import places
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import ChatSummary
from vlmchat.tui.inorder import InOrder, Passed
from vlmchat.tui.memory import Memory
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.models import ModelsScreen
from vlmchat.tui.screens.tiles import TilesScreen

NAMES = {" ": "space", ".": "full_stop", "?": "question_mark", "!": "exclamation_mark", "/": "slash"}


def burst(run: Driven, *keys: str) -> None:
    """Put ``keys`` into the app's queue at once, as after a stall: all are there before the first is handled."""
    for key in keys:
        run.app.post_message(Key(NAMES.get(key, key), key if len(key) == 1 else None))


def asked_in(run: Driven) -> list[str]:
    """Return the questions of the open chat, as its session has them."""
    session = run.desk.chat.session
    assert session is not None
    return [turn.message.text for turn in session.turns if turn.message.role == "user"]


async def test_a_question_behind_new_chat_is_asked_in_the_new_chat() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it?")
        burst(run, "ctrl+n", *"Go on.", "enter")
        await run.until(lambda: run.questions == ["Go on."] and run.chat.transcript.last_answer == "A red circle.")
        await run.idle()
        assert asked_in(run) == ["Go on."]
        assert run.draft.text == ""


async def test_what_is_typed_before_the_first_frame_is_in_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build()
    opened = app.get_default_screen

    def typed_into() -> Screen[None]:
        for char in "hello":
            app.post_message(Key(char, char))
        return opened()

    monkeypatch.setattr(app, "get_default_screen", typed_into)
    async with driven(app) as run:
        await run.until(lambda: run.draft.text == "hello")


async def test_a_question_before_new_chat_is_asked_in_the_old_one() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it?")
        old = run.desk.chat
        burst(run, *"Go on.", "enter", "ctrl+n", *"hi")
        await run.until(lambda: run.draft.text == "hi" and not run.questions)
        assert run.desk.chat is not old
        assert old.session is not None
        assert [turn.message.text for turn in old.session.turns if turn.message.role == "user"][1:] == ["Go on."]


@pytest.mark.parametrize("opener", ["ctrl+o", "ctrl+l", "ctrl+p", "f2", "f9"])
async def test_what_is_typed_behind_a_key_reaches_the_line_it_opens(opener: str) -> None:
    async with driven(build()) as run:
        await run.ready()
        burst(run, opener, *"red fox")
        await run.until(lambda: isinstance(run.app.focused, Input) and run.app.focused.value == "red fox")
        assert run.draft.text == ""
        burst(run, "escape", "h", "i")
        await run.until(lambda: run.app.screen is run.chat and run.draft.text == "hi")


async def test_a_chat_is_found_and_opened_and_written_to_in_one_burst() -> None:
    engine = ScriptedEngine(answers=(("one",), ("two",), ("three",)))
    async with driven(build(engine)) as run:
        await run.ready()
        await run.asked("About foxes?")
        await run.pilot.press("ctrl+n")
        await run.asked("About owls?")
        burst(run, "ctrl+o", *"foxes", "enter", *"More", "enter")
        await run.until(lambda: run.questions == ["About foxes?", "More"])
        await run.idle()
        assert asked_in(run) == ["About foxes?", "More"]


async def test_the_bar_of_a_list_that_is_on_its_way_moves_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    may_list = threading.Event()
    listed = ChatStore.chats

    def slowly(store: ChatStore, words: str = "", limit: int = 50, *, archived: bool = False) -> list[ChatSummary]:
        assert may_list.wait(20)
        return listed(store, words, limit, archived=archived)

    async with driven(build()) as run:
        await run.ready()
        await run.asked("About foxes?")
        await run.pilot.press("ctrl+n")
        await run.asked("About owls?")
        monkeypatch.setattr(ChatStore, "chats", slowly)
        monkeypatch.setattr("vlmchat.tui.inorder.LOOKS", 1000)
        burst(run, "ctrl+o", "down", "enter", *"hi")
        await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and run.app.screen.is_mounted)
        may_list.set()
        await run.until(lambda: run.questions == ["About foxes?"] and run.draft.text == "hi")


async def test_each_delete_takes_the_next_chat_of_the_list() -> None:
    async with driven(build()) as run:
        await run.ready()
        for number in range(3):
            await run.asked(f"Question {number}?")
            await run.pilot.press("ctrl+n")
        burst(run, "ctrl+o", "ctrl+d", "ctrl+d", "enter")
        await run.until(lambda: run.questions == ["Question 0?"])
        assert [chat.title for chat in run.desk.store.chats()] == ["Question 0?"]


async def test_a_slow_list_does_not_keep_esc(monkeypatch: pytest.MonkeyPatch) -> None:
    may_list = threading.Event()
    monkeypatch.setattr("vlmchat.tui.screens.models.catalog_rows", lambda _hub: (may_list.wait(20), ())[1])
    monkeypatch.setattr("vlmchat.tui.inorder.LOOKS", 1000)
    async with driven(build()) as run:
        await run.ready()
        burst(run, "ctrl+l", "x")
        await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and run.app.screen.is_mounted)
        burst(run, "escape")
        await run.until(lambda: run.app.screen is run.chat)
        may_list.set()


async def test_a_marked_question_is_edited_in_one_burst() -> None:
    async with driven(build(ScriptedEngine(answers=(("one",), ("two",))))) as run:
        await run.ready()
        await run.asked("First")
        burst(run, "f7", "up", "e", "?", "enter")
        await run.until(lambda: run.questions == ["First?"] and run.chat.transcript.last_answer == "two")


async def test_the_copy_of_a_chat_gets_what_is_typed_behind_fork() -> None:
    async with driven(build(ScriptedEngine(answers=(("one",), ("two",))))) as run:
        await run.ready()
        await run.asked("First?")
        old = run.desk.chat
        burst(run, *"/fork", "enter", *"Then", "enter")
        await run.until(lambda: run.questions == ["First?", "Then"] and not run.chat.flow.busy)
        assert run.desk.chat is not old
        assert asked_in(run) == ["First?", "Then"]


async def test_a_typed_command_is_done_before_what_is_typed_behind_it() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it?")
        burst(run, *"/title", "enter", *"Foxes", "enter", *"/delete", "enter", *"Go on.", "enter")
        await run.until(lambda: run.questions == ["Go on."] and run.chat.transcript.last_answer == "A red circle.")
        await run.idle()
        assert [chat.title for chat in run.desk.store.chats()] == ["Go on."]
        burst(run, *"/undo", "enter", *"hi")
        await run.until(lambda: run.questions == ["What is it?"] and run.draft.text == "hi")
        assert run.chat.status.title == "Foxes"


async def test_settings_are_typed_and_kept_in_one_burst() -> None:
    async with driven(build()) as run:
        await run.ready()
        burst(run, "f9", *"Be brief", "down", "backspace", "1", "enter", *"hi")
        await run.until(lambda: run.draft.text == "hi")
        assert run.desk.choices.system == "Be brief"
        assert run.desk.choices.sampling.temperature == 1.0


async def test_tiles_are_shown_and_left_in_one_burst(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "disc.png")
    async with driven(build()) as run:
        await run.ready()
        run.chat.prompt.attach(str(picture))
        await run.until(lambda: run.draft.pictures)
        burst(run, "f3")
        await run.until(lambda: isinstance(run.app.screen, TilesScreen))
        burst(run, "escape", "f3", "escape", *"hi", "f8", *"!")
        await run.until(lambda: run.draft.text == "hi!" and not run.draft.pictures)
        assert run.app.screen is run.chat


async def test_an_answer_again_or_stopped_and_gone_on_with_leaves_the_draft_in_order() -> None:
    engine = GatedEngine()
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        burst(run, *"What?", "enter", "a")
        await run.until(lambda: run.chat.flow.busy and run.draft.text == "a")
        burst(run, "escape", "b")
        await run.until(lambda: not run.chat.flow.busy and run.draft.text == "ab")
        burst(run, "ctrl+r", "c")
        await run.until(lambda: run.chat.flow.busy and run.draft.text == "abc")
        burst(run, "escape", "d")
        await run.until(lambda: not run.chat.flow.busy and run.draft.text == "abcd")
        burst(run, "f5", "e")
        await run.until(lambda: run.chat.flow.busy and run.draft.text == "abcde")
        engine.let(3)
        await run.idle()


async def test_corrections_in_the_box_are_made_where_they_were_typed() -> None:
    async with driven(build()) as run:
        burst(run, *"ab", "backspace", "c", "left", "d", "end", "ctrl+j", *"ef", "up", "home", "x")
        await run.until(lambda: run.draft.text == "xadc\nef")


async def test_a_recalled_question_is_the_one_that_is_changed() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it")
        burst(run, "up", "?", "enter")
        await run.until(lambda: run.questions == ["What is it", "What is it?"])


async def test_what_is_pasted_stands_where_it_was_pasted() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it?")
        burst(run, "ctrl+n", "a")
        run.app.post_message(Paste("b c"))
        burst(run, "d")
        await run.until(lambda: run.draft.text == "ab cd" and not run.questions)


async def test_what_is_typed_before_leaving_is_kept() -> None:
    app = build()
    async with driven(app) as run:
        await run.ready()
        burst(run, *"half a thought", "ctrl+q")
        await run.until(lambda: not app.is_running)
    assert Memory.read(places().state).draft.text == "half a thought"


async def test_keys_go_on_when_what_they_wait_for_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmchat.tui.inorder.LOST_S", 0.01)
    lost: list[int] = []

    async def lose(_app: InOrder, message: Message) -> None:
        assert isinstance(message, Passed)
        lost.append(message.number)

    monkeypatch.setattr(InOrder, "on_passed", lose)
    async with driven(build()) as run:
        await run.ready()
        burst(run, "f1", "escape", *"hi")
        await run.until(lambda: run.draft.text.endswith("hi"))
        assert len(lost) > 1
