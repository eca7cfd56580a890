"""What is done with turns: answered again, edited, forked, switched, deleted and brought back, copied, continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, draw_picture, driven, plain
from vlmchat.errors import OutOfMemory
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.panel import ChoicePanel, Panel
from vlmchat.tui.widgets.turn import TurnView

FOUR = (("one",), ("two",), ("three",), ("four",))


async def two_exchanges(run: Driven) -> None:
    await run.ready()
    await run.asked("First?")
    await run.asked("Second?")


def said(run: Driven) -> list[str]:
    """The turns on the screen, as text."""
    return [view.plain for view in run.chat.transcript.views]


async def settled(run: Driven, *texts: str) -> None:
    await run.until(lambda: said(run) == list(texts) and not run.chat.flow.busy)
    await run.pilot.pause()


async def mark(run: Driven, steps_back: int = 0) -> TurnView:
    await run.pilot.press("f7", *["up"] * steps_back)
    view = run.app.focused
    assert isinstance(view, TurnView)
    return view


async def test_answer_again_keeps_the_other_as_a_version() -> None:
    store = ChatStore()
    async with driven(build(ScriptedEngine(answers=FOUR), store=store), (100, 30)) as run:
        await two_exchanges(run)
        await run.pilot.press("f5")
        await settled(run, "First?", "one", "Second?", "three")
        assert "version 2/2" in plain(run.answers[1].query_one(".stats"))
        await mark(run)
        await run.pilot.press("left")
        await settled(run, "First?", "one", "Second?", "two")
        assert isinstance(run.app.focused, TurnView)
        assert "version 1/2" in plain(run.answers[1].query_one(".stats"))
        await run.pilot.press("right")
        await settled(run, "First?", "one", "Second?", "three")
    assert len(store.chat(store.chats()[0].id).turns) == 5


async def test_an_earlier_question_is_answered_again() -> None:
    async with driven(build(ScriptedEngine(answers=FOUR))) as run:
        await two_exchanges(run)
        await mark(run, 3)
        await run.pilot.press("r")
        await settled(run, "First?", "three")


async def test_edit_brings_text_and_pictures_back_and_keeps_the_draft(tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png"))
    engine = ScriptedEngine(answers=FOUR)
    async with driven(build(engine)) as run:
        await run.ready()
        await run.chat.prompt.put(Draft("Frist?", (picture,)))
        await run.pilot.press("enter")
        await settled(run, "Frist?", "one")
        await run.asked("Second?")
        await run.write("draft")
        await mark(run, 3)
        await run.pilot.press("e")
        await run.until(lambda: run.draft == Draft("Frist?", (picture,)))
        await run.pilot.press("escape")
        await run.until(lambda: run.draft == Draft("draft"))
        await mark(run, 3)
        await run.pilot.press("e")
        await run.until(lambda: run.draft.text == "Frist?")
        await run.chat.prompt.put(Draft("First?", (picture,)))
        await run.pilot.press("enter")
        await settled(run, "First?", "three")
        assert run.draft == Draft("draft")
        assert "version 2/2" in plain(run.chat.transcript)
        await mark(run, 1)
        await run.pilot.press("left")
        await settled(run, "Frist?", "one", "Second?", "two")
    assert [message.text for message in engine.requests[-1].messages] == ["First?"]
    assert engine.requests[-1].messages[0].pictures == (picture,)


async def test_an_edit_that_fails_is_in_the_box_again_and_the_chat_as_before() -> None:
    engine = ScriptedEngine(answers=(("one",), OutOfMemory("Full.", "Less."), ("three",)))
    async with driven(build(engine)) as run:
        await run.ready()
        await run.asked("First?")
        await mark(run, 1)
        await run.pilot.press("e")
        await run.until(lambda: run.draft.text == "First?")
        await run.chat.prompt.put(Draft("Other?"))
        await run.pilot.press("enter")
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.pilot.press("escape")
        await settled(run, "First?", "one")
        assert run.draft == Draft("Other?")
        await run.pilot.press("enter")
        await settled(run, "Other?", "three")


async def test_fork_goes_on_in_a_new_chat() -> None:
    store = ChatStore()
    async with driven(build(ScriptedEngine(answers=FOUR), store=store)) as run:
        await two_exchanges(run)
        before = run.desk.chat.id
        await mark(run, 2)
        await run.pilot.press("f")
        await settled(run, "First?", "one")
        assert run.desk.chat.id != before
        await run.pilot.press("escape")
        await run.asked("Third?")
        assert said(run) == ["First?", "one", "Third?", "three"]
    assert sorted(chat.turns for chat in store.chats()) == [4, 4]


async def test_deleted_turns_come_back() -> None:
    async with driven(build(ScriptedEngine(answers=FOUR))) as run:
        await two_exchanges(run)
        await mark(run, 1)
        await run.pilot.press("delete")
        await settled(run, "First?", "one")
        assert "Deleted 2 turns." in run.toasts
        await run.pilot.press("ctrl+z")
        await settled(run, "First?", "one", "Second?", "two")
        await mark(run, 3)
        await run.pilot.press("backspace")
        await run.until(lambda: not said(run))
        await run.until(lambda: run.app.focused is run.chat.prompt.area)
        assert run.chat.query("Welcome")
        await run.ask("/undo")
        await settled(run, "First?", "one", "Second?", "two")
        await run.ask("/undo")
        await run.until(lambda: "Nothing was deleted" in run.toasts)


async def test_a_stopped_answer_goes_on_where_it_ended() -> None:
    engine = GatedEngine(answers=(("one ", "two ", "and ", "so ", "on "), ("four ", "five")))
    engine.may_load.set()
    store = ChatStore()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        await run.ask("Count.")
        engine.let(2)
        await run.until(lambda: run.answers and "two" in run.answers[0].text)
        await run.pilot.press("escape")
        await run.idle()
        kept = run.answers[0].text
        engine.let(9)
        await run.pilot.press("ctrl+r")
        await run.until(lambda: run.answers[0].text.endswith("five"))
        await run.idle()
        assert len(run.answers) == 1
        assert run.answers[0].text == f"{kept}four five"
        assert engine.requests[-1].messages[-1].text == kept
        await run.pilot.press("ctrl+r")
        await run.until(lambda: "nothing to continue" in run.toasts)
    turns = store.chat(store.chats()[0].id).branch()
    assert [turn.status for turn in turns] == ["complete", "complete"]


async def test_turn_and_code_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "Look:\n\n```py\nx = 1\n```\n\nand\n\n```sh\nls\n```\n"
    async with driven(build(ScriptedEngine(answers=((answer,),)))) as run:
        copied: list[str] = []
        monkeypatch.setattr(run.app, "copy_to_clipboard", copied.append)
        await run.ready()
        await run.asked("Code?")
        await mark(run)
        await run.pilot.press("y", "b", "b", "b")
        await run.until(lambda: len(copied) == 4)
        assert copied == [answer.strip(), "x = 1\n", "ls\n", "x = 1\n"]
        await run.until(lambda: "Copied code block 2 of 2." in run.toasts)


async def test_what_made_an_answer_is_shown() -> None:
    async with driven(build(), (100, 40)) as run:
        await run.ready()
        await run.asked("First?")
        await mark(run)
        await run.pilot.press("i")
        await run.until(lambda: isinstance(run.app.screen, Panel))
        await run.pilot.pause()
        panel = plain(run.app.screen)
        for words in ("scripted", "f" * 64, "cpu · fp32", "Temperature: 0.0", "Longest answer: 1024"):
            assert words in panel


async def test_moving_over_turns_and_back_to_the_box() -> None:
    async with driven(build(ScriptedEngine(answers=FOUR))) as run:
        await two_exchanges(run)
        assert (await mark(run, 9)).plain == "First?"
        await run.pilot.press("j", "down", "down", "down")
        assert run.chat.prompt.area.has_focus
        await mark(run)
        await run.pilot.press("W", "h", "y")
        assert run.draft.text == "Why"
        await run.pilot.click(run.chat.transcript.views[0])
        await run.until(lambda: run.chat.transcript.views[0].has_focus)


async def test_nothing_changes_while_an_answer_comes() -> None:
    engine = GatedEngine(answers=(("one",), ("two ", "more")))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        engine.let(1)
        await run.asked("First?")
        await run.ask("Second?")
        await run.until(lambda: run.desk.answering is not None)
        await mark(run, 2)
        await run.pilot.press("delete", "e", "r", "f")
        await run.until(lambda: run.toasts.count("still coming") == 3)
        engine.let(9)
        await run.idle()
        assert said(run) == ["First?", "one", "Second?", "two more"]


async def test_next_question_waits_for_the_answer_and_goes_out_by_itself() -> None:
    engine = GatedEngine(answers=(("one ", "two"), ("three",)))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("First?")
        await run.until(lambda: run.desk.answering is not None)
        await run.ask("Second?")
        await run.until(lambda: run.desk.queued)
        assert "goes out after this answer" in plain(run.chat.transcript)
        engine.let(3)
        await settled(run, "First?", "one two", "Second?", "three")
    assert [message.text for message in engine.requests[1].messages] == ["First?", "one two", "Second?"]


async def test_stopping_gives_the_waiting_question_back() -> None:
    engine = GatedEngine(answers=(("one ", "two"), ("three",)))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("First?")
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text)
        await run.ask("Second?")
        await run.until(lambda: run.desk.queued)
        await run.pilot.press("escape")
        await run.idle()
        assert run.draft.text == "Second?"
        assert run.questions == ["First?"]
