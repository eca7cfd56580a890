"""The user's own keys: bad lines are named, the rest holds, and every list of keys shows what is in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.helpers import build, driven, plain
from vlmchat.errors import UsageError
from vlmchat.settings import load_settings
from vlmchat.tui import actions
from vlmchat.tui.keymap import read_keymap
from vlmchat.tui.screens.chats import ChatsScreen


@pytest.fixture(autouse=True)
def own_keys_end() -> Iterator[None]:
    yield
    actions.rebind({})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("coppy", "f11", "there is no action coppy. Did you mean copy?"),
        ("close", "f11", "close may be pictures.close, tiles.close"),
        ("copy", "ctrl+i", "ctrl+i arrives as Tab"),
        ("copy", "shift+enter", "arrives as Enter"),
        ("copy", "hyper+x", "hyper+x is no key"),
        ("copy", ["f11", 3.5], "3.5 is no key"),
        ("copy", "x", "x is a letter"),
        ("copy", "ctrl+n", "ctrl+n does chat.new_chat already"),
        ("leave_chips", "f1", "f1 does app.help already"),
    ],
)
def test_a_bad_line_is_named_and_left_out(name: str, value: object, problem: str) -> None:
    keymap = read_keymap({name: value, "theme": "f11"})
    assert keymap.keys == {"app.theme": "f11"}
    assert len(keymap.problems) == 1
    assert problem in keymap.problems[0]


def test_a_key_that_is_given_away_is_free() -> None:
    keymap = read_keymap({"new_chat": "f11", "copy": "ctrl+n", "copy_turn": ["y", "w"]})
    assert keymap.keys == {"chat.new_chat": "f11", "chat.copy": "ctrl+n", "turn.copy_turn": "y,w"}
    assert not keymap.problems


def test_the_file_gives_the_table(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('theme = "paper"\n[keys]\ncopy = "f11"\n', encoding="utf-8")
    assert load_settings(file=file).keys == {"copy": "f11"}
    file.write_text('keys = "f11"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="keys must be a table"):
        load_settings(file=file)


async def test_own_keys_work_and_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[keys]\nchats = "f11"\nsend = "ctrl+b"\nnonsense = "f1"\n', encoding="utf-8")
    async with driven(build(settings=load_settings(file=file)), (100, 30)) as run:
        assert "there is no action nonsense" in run.toasts
        assert "F11 Chats" in plain(run.chat.query_one("KeyHints"))
        await run.ready()
        await run.write("What?")
        await run.pilot.press("ctrl+b")
        await run.until(lambda: run.questions == ["What?"])
        await run.idle()
        await run.pilot.press("ctrl+o")
        assert run.app.screen is run.chat
        await run.pilot.press("f11")
        await run.until(lambda: isinstance(run.app.screen, ChatsScreen))
