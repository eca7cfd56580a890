"""NO_COLOR and TERM=dumb: no colour leaves the app, what is marked is still seen, and a dumb terminal is told."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.style import Style
from textual.screen import Screen

from tests.tui.helpers import Driven, build, driven
from tests.tui.test_tmux import ROOT, Terminal
from vlmchat.settings import Settings
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.jump import JumpScreen
from vlmchat.tui.screens.models import ModelsScreen
from vlmchat.tui.themes import read_themes

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
"""A colour of text or ground: not 39 and 49, which take one away."""


def cells(screen: Screen[object]) -> Iterator[tuple[str, Style]]:
    """Yield every piece of text that is drawn, with its style."""
    for strip in screen._compositor.render_strips():
        yield from ((text, style) for text, style, _ in strip if style is not None)


def reversed_text(run: Driven) -> str:
    """Return what is drawn in reverse."""
    return "".join(text for text, style in cells(run.app.screen) if style.reverse)


def assert_colourless(run: Driven) -> None:
    """Hold that nothing on the screen has a colour."""
    found = [
        text for text, style in cells(run.app.screen)
        if (style.color and not style.color.is_default) or (style.bgcolor and not style.bgcolor.is_default)
    ]  # fmt: skip
    assert not found


@pytest.fixture
def no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("theme", sorted(read_themes().themes))
@pytest.mark.usefixtures("no_color")
async def test_no_theme_has_a_colour_and_marks_are_reversed(theme: str) -> None:
    async with driven(build(settings=Settings(theme=theme))) as run:
        await run.ready()
        await run.asked("What is it?")
        assert_colourless(run)
        await run.pilot.press("f12")
        await run.until(lambda: isinstance(run.app.screen, JumpScreen) and "a" in reversed_text(run))
        assert_colourless(run)
        await run.pilot.press("escape", "ctrl+l")
        await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and "scripted" in reversed_text(run))
        assert_colourless(run)


@pytest.mark.usefixtures("no_color")
async def test_pictures_are_named_only_without_colours() -> None:
    assert build(settings=Settings(previews="half-block")).previews == "off"
    assert build(settings=Settings(previews="kitty")).previews == "kitty"
    async with driven(build()) as run:
        await run.chat.prompt.put(Draft("hello"))
        assert run.draft.text == "hello"


@pytest.fixture
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    # A name for each test: a server that is ending still takes the next one's commands.
    terminal = Terminal(f"vlmchat-{request.node.name}-{os.getpid()}", tmp_path, (80, 24))
    yield terminal
    terminal.tmux("kill-server")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux on this machine")
def test_a_real_terminal_gets_no_colour(terminal: Terminal) -> None:
    terminal.start("NO_COLOR=1")
    terminal.see("Ask about a picture")
    terminal.press("0c")
    terminal.see("internvl2:1b")
    assert not COLOUR.search(terminal.tmux("capture-pane", "-p", "-e"))


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux on this machine")
def test_a_dumb_terminal_is_told_in_a_sentence(terminal: Terminal) -> None:
    app = f"env TERM=dumb PYTHONPATH={ROOT} {sys.executable} -m vlmchat"
    terminal.tmux("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", f"{app}; echo left with $?; read wait")
    page = terminal.see("left with 2")
    assert "This terminal (TERM=dumb) cannot draw a screen." in page
    assert "vlmchat ask" in page
