"""Typed commands: every one does its action; what is none stays a question; unknown ones are said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.tui.helpers import build, driven, plain
from vlmchat.store.chats import ChatStore
from vlmchat.tui.actions import ACTIONS
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.settings import SettingsScreen
from vlmchat.tui.slash import COMMANDS, completions, read_command


@pytest.mark.parametrize(
    ("text", "action", "argument"),
    [
        ("/clear", "new_chat", ""),
        (" /new ", "new_chat", ""),
        ("/model internvl2:1b", "models", "internvl2:1b"),
        ("/system Be\nbrief.", "settings", "Be\nbrief."),
        ("/quit", "quit", ""),
    ],
)
def test_a_command_is_an_action(text: str, action: str, argument: str) -> None:
    command = read_command(text)
    assert command is not None
    assert command.action is not None
    assert (command.action.id, command.argument) == (action, argument)


@pytest.mark.parametrize("text", ["What is /clear?", "/clear the table", "/tmp", "/tmp/a.png", "/a/b c", "//", "a"])
def test_a_question_stays_a_question(text: str) -> None:
    assert read_command(text) is None


def test_an_unknown_command_is_near_another() -> None:
    command = read_command("/claer")
    assert command is not None
    assert (command.action, command.nearest) == (None, "/clear")


def test_no_command_is_given_twice_and_all_complete() -> None:
    assert len(COMMANDS) == sum(len(action.commands) for action in ACTIONS)
    assert completions("/te") == ("/temporary", "/temp")
    assert completions("/clear x") == completions("no") == ()


async def test_commands_are_typed_in_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ChatStore()
    engine = ScriptedEngine()
    async with driven(build(engine, store=store), (100, 30)) as run:
        await run.ready()
        await run.write("/te")
        await run.until(lambda: "/temporary" in plain(run.chat.status))
        run.chat.prompt.area.text = ""
        await run.asked("First?")
        await run.ask("/title Fruit")
        await run.until(lambda: store.chats()[0].title == "Fruit")
        await run.ask("/system Be brief.")
        await run.until(lambda: "new settings" in run.toasts)
        await run.asked("Second?")
        assert engine.requests[-1].messages[0].text == "Be brief."
        await run.ask("/export markdown")
        await run.until(lambda: "Written to" in run.toasts)
        assert "Second?" in (tmp_path / "Fruit.md").read_text(encoding="utf-8")
        await run.ask("/settings")
        await run.until(lambda: isinstance(run.app.screen, SettingsScreen))
        await run.pilot.press("escape")
        await run.ask("/nonsense")
        await run.until(lambda: "no command /nonsense" in run.toasts)
        assert run.draft.text == "/nonsense"
        await run.pilot.press("enter")
        await run.until(lambda: run.questions[-1] == "/nonsense")
        await run.idle()
        await run.ask("/delete")
        await run.until(lambda: not run.questions)
        assert store.chats() == []
        await run.ask("/undo")
        await run.until(lambda: "First?" in run.questions)
        await run.ask("/archive")
        await run.until(lambda: store.chats() == [] and len(store.chats(archived=True)) == 1)
        await run.ask("/search pear")
        await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and run.app.screen.words == "pear")
        await run.pilot.press("escape")
        await run.ask("/temp")
        await run.until(lambda: "temporary, not saved" in plain(run.chat.status))
        await run.asked("Secret?")
        await run.ask("/clear")
        await run.until(lambda: not run.questions)
        assert "temporary" not in plain(run.chat.status)
    everything = b"".join(file.read_bytes() for file in Path(os.environ["VLMCHAT_HOME"]).rglob("*") if file.is_file())
    assert b"Second?" in everything
    assert b"Secret?" not in everything
