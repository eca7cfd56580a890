"""The action table: every action can be reached with the keys of an old terminal, and says what it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.dom import DOMNode
from textual.events import Key

import vlmchat.tui
from tests.tui.helpers import build, driven, plain
from vlmchat.tui import text
from vlmchat.tui.actions import ACTIONS, SCOPES, Action, key_of, of, shown
from vlmchat.tui.app import VlmchatApp
from vlmchat.tui.screens.chat import ChatScreen
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.crop import CropScreen
from vlmchat.tui.screens.downloads import DownloadsScreen, PlanScreen
from vlmchat.tui.screens.help import HelpScreen
from vlmchat.tui.screens.jump import JumpScreen
from vlmchat.tui.screens.models import ModelsScreen
from vlmchat.tui.screens.panel import ChoicePanel
from vlmchat.tui.screens.pictures import PicturesScreen
from vlmchat.tui.screens.settings import SettingsScreen
from vlmchat.tui.screens.tiles import TilesScreen
from vlmchat.tui.telling import tell
from vlmchat.tui.widgets.chips import Chip
from vlmchat.tui.widgets.prompt import PromptArea
from vlmchat.tui.widgets.turn import TurnView
from vlmchat.tui.words import english

HOMES: dict[str, type[DOMNode]] = {
    "app": VlmchatApp,
    "chat": ChatScreen,
    "prompt": PromptArea,
    "turn": TurnView,
    "pictures": PicturesScreen,
    "tiles": TilesScreen,
    "crop": CropScreen,
    "chips": Chip,
    "models": ModelsScreen,
    "plan": PlanScreen,
    "downloads": DownloadsScreen,
    "chats": ChatsScreen,
}
LEGACY = re.compile(
    r"ctrl\+[a-z]|f[1-9]|f1[0-2]|enter|escape|up|down|backspace|delete|left|right|pageup|pagedown|[a-z]"
)
"""What a terminal without any keyboard protocol sends as a code of its own."""
DOUBLES = {"ctrl+i", "ctrl+m", "ctrl+h"}
"""The same bytes as Tab, Enter and Backspace."""


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: f"{action.scope}.{action.id}")
def test_action_is_typable_named_and_done(action: Action) -> None:
    keys = action.key.split(",") if action.key else []
    assert all(LEGACY.fullmatch(key) and key not in DOUBLES for key in keys)
    assert keys or action.commands
    assert action.label
    assert action.tip.endswith(".")
    method, _ = action.call
    assert hasattr(HOMES[action.scope], f"action_{method}"), action


def test_no_key_is_given_twice_in_one_place() -> None:
    for scope in SCOPES:
        keys = [key for action in of(scope) for key in action.key.split(",") if key]
        assert len(keys) == len(set(keys)), scope
    for scopes in (("app", "chat", "prompt"), ("app", "turn"), ("app", "chips")):
        keys = [key for action in ACTIONS if action.scope in scopes for key in action.key.split(",") if key]
        assert len(keys) == len(set(keys)), scopes


def test_keys_are_written_as_people_write_them() -> None:
    assert (shown("ctrl+j"), shown("f1"), shown("escape"), key_of("send")) == ("Ctrl+J", "F1", "Esc", "Enter")


async def test_help_lists_every_action() -> None:
    async with driven(build(), (120, 190)) as run:
        await run.pilot.press("f1")
        await run.until(lambda: isinstance(run.app.screen, HelpScreen))
        await run.pilot.pause()
        page = plain(run.app.screen)
        for action in ACTIONS:
            assert action.label in page
            assert action.keys in page
        await run.pilot.press("f1")
        assert run.app.screen is run.chat


async def test_palette_finds_actions_and_themes() -> None:
    async with driven(build(), (120, 110)) as run:
        await run.ready()
        await run.pilot.press("ctrl+p")
        await run.until(lambda: "Theme: Paper" in plain(run.app.screen))
        page = plain(run.app.screen)
        for label in ("New chat", "Chats", "Models", "Copy answer", "Help", "Quit"):
            assert label in page
        assert "Stop" not in page
        await run.pilot.press(*"paper")
        await run.until(lambda: "Begin a new chat" not in plain(run.app.screen))
        await run.pilot.press("down", "enter")
        await run.until(lambda: run.app.theme == "paper")


async def test_palette_runs_an_action() -> None:
    async with driven(build(), (120, 60)) as run:
        await run.pilot.press("ctrl+p", *"models")
        await run.until(lambda: "Models" in plain(run.app.screen))
        await run.pilot.pause(0.3)
        await run.pilot.press("down", "enter")
        await run.until(lambda: isinstance(run.app.screen, ModelsScreen))


async def test_a_hint_can_be_clicked() -> None:
    async with driven(build(), (120, 30)) as run:
        await run.ready()
        await run.until(lambda: "Esc Stop" not in plain(run.chat.query_one("KeyHints")))
        line = plain(run.chat.query_one("KeyHints"))
        await run.pilot.click("KeyHints", offset=(line.index("Models"), 0))
        await run.until(lambda: isinstance(run.app.screen, ModelsScreen))


def said() -> Iterator[str]:
    """Yield every key that the code asks the text table for, dynamic ones as patterns."""
    for file in Path(vlmchat.tui.__file__).parent.rglob("*.py"):
        if file.parent.name == "words":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in node.values)
                yield "".join(parts)


def test_no_text_is_unused() -> None:
    patterns = re.compile("|".join(pattern for pattern in set(said()) if "." in pattern and pattern != ".+"))
    unused = [key for key in english.TABLE if not patterns.fullmatch(key)]
    assert not unused


def test_short_forms_of_figures() -> None:
    assert [text.seconds(value) for value in (0.34, 1.23, 75.4)] == ["340 ms", "1.2 s", "75 s"]
    assert [text.size(value) for value in (5, 9_800_000, 152_000_000_000, 3 * 10**12)] == [
        "5 B",
        "9.8 MB",
        "152 GB",
        "3.0 TB",
    ]
    ages = (5, 120, 7200, 100_000)
    assert [text.ago(0, age) for age in ages] == ["just now", "2 min ago", "2 h ago", "yesterday"]
    assert text.ago(0, 10**6).startswith("19")
    assert text.model_name("/a/b/") == "b"


async def test_only_the_top_screen_says_its_keys() -> None:
    async with driven(build()) as run:
        await run.ready()
        assert "Enter Send" in plain(run.app.screen)
        await run.pilot.press("f9")
        await run.until(lambda: isinstance(run.app.screen, SettingsScreen))
        await run.until(lambda: not plain(run.chat.query_one("KeyHints")).strip())
        await run.pilot.press("escape")
        await run.until(lambda: "Enter Send" in plain(run.app.screen))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_a_short_notice_covers_nothing(size: tuple[int, int]) -> None:
    async with driven(build(), size) as run:
        await run.ready()
        await run.asked("What is it?")
        before = plain(run.app.screen).splitlines()
        tell(run.chat, "toast.settings")
        await run.until(lambda: text.say("toast.settings") in plain(run.app.screen))
        after = plain(run.app.screen).splitlines()
        changed = [at for at, (was, now) in enumerate(zip(before, after, strict=True)) if was != now]
        assert changed == [1]
        assert not before[1].strip()


@pytest.mark.parametrize("key", ["escape", "f12", "z"])
async def test_jump_is_left_by_every_key_that_leads_nowhere(key: str) -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.pilot.press("f12")
        await run.until(lambda: isinstance(run.app.screen, JumpScreen))
        await run.pilot.press(key)
        await run.until(lambda: run.app.screen is run.chat)
        assert run.app.focused is run.chat.prompt.area


@pytest.mark.parametrize("opener", ["f12", "f1", "f2", "f9", "f10", "ctrl+l", "ctrl+o", "ctrl+p"])
async def test_a_burst_of_keys_leaves_a_screen_once(opener: str) -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it?")
        await run.pilot.press(opener)
        await run.until(lambda: run.app.screen is not run.chat)
        top = run.app.screen
        # They wait in the queue of the screen that the first one leaves, as on a slow machine.
        for key in ("escape", "x", "escape", "escape"):
            top.post_message(Key(key, "x" if key == "x" else None))
        if opener != "f12":
            await run.pilot.press("escape", "escape")
        await run.until(lambda: run.app.screen is run.chat)
        await run.write("hi")
        await run.until(lambda: run.draft.text.endswith("hi"))


async def test_a_choice_and_esc_at_once_leave_a_panel_once() -> None:
    async with driven(build()) as run:
        await run.ready()
        panel = ChoicePanel("What happened", "Why.", ["first", "second"])
        await run.app.push_screen(panel)
        panel.dismiss(0)
        panel.dismiss(None)
        panel.action_take(2)
        await run.until(lambda: run.app.screen is run.chat)
