"""How the screens of pictures look, in a small and in a large terminal, drawn with half blocks."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw
from textual.events import Paste
from textual.widgets import Input

from tests.tui.helpers import Driven, build, plain
from tests.tui.test_pictures import DRAWN, TilingEngine
from tests.tui.test_snapshots import Look, Size, language, look, pytestmark, ready
from vlmchat.tui.screens import pictures as pictures_screen
from vlmchat.tui.screens.crop import CropScreen
from vlmchat.tui.screens.pictures import PicturesScreen
from vlmchat.tui.screens.tiles import TilesScreen
from vlmchat.tui.widgets.preview import Preview

__all__ = ["language", "look", "pytestmark"]


@pytest.fixture(autouse=True)
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures of known ages, and a clock that stands still."""
    here = tmp_path / "work"
    here.mkdir()
    for age, name in enumerate(("a rather long name of a scan.png", "shapes.png")):
        image = Image.new("RGB", (96, 64), "white")
        pen = ImageDraw.Draw(image)
        pen.rectangle((6, 14, 40, 50), fill="royalblue")
        pen.ellipse((54, 12, 90, 48), fill="crimson")
        image.save(here / name)
        os.utime(here / name, (1_000_000 + age, 1_000_000 + age))
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setattr(pictures_screen, "time", SimpleNamespace(time=lambda: 1_000_000 + 7200))
    return here


async def attach(run: Driven, name: str) -> None:
    """Paste a picture's name and wait for its chip and its price."""
    await ready(run)
    run.app.post_message(Paste(name))
    await run.until(lambda: run.draft.pictures)


async def settled(run: Driven) -> None:
    """Let the last worker draw."""
    await run.app.workers.wait_for_complete([worker for worker in run.app.workers if worker.node.is_attached])
    await run.pilot.pause()


def test_picker(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("@")
        await run.until(lambda: isinstance(run.app.screen, PicturesScreen) and run.app.screen.rows)
        run.app.screen.query_one(Input).cursor_blink = False
        await run.until(lambda: run.app.screen.query_one(Preview).children and "96x64" in plain(run.app.screen))
        await settled(run)

    look(build(settings=DRAWN), size, steps)


def test_tiles(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await attach(run, "shapes.png")
        await run.pilot.press("f3")
        await run.until(lambda: isinstance(run.app.screen, TilesScreen) and run.app.screen.pages)
        await settled(run)

    look(build(TilingEngine(), settings=DRAWN), size, steps)


def test_crop(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await attach(run, "shapes.png")
        await run.pilot.press("f4")
        await run.until(lambda: isinstance(run.app.screen, CropScreen) and run.app.screen._base)
        await run.pilot.press("left", "d")
        await settled(run)

    look(build(settings=DRAWN), size, steps)


def test_previews_in_the_chat(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await attach(run, "shapes.png")
        await run.asked("What do you see?")
        await run.until(lambda: run.chat.query_one(Preview).children)
        await settled(run)

    look(build(settings=DRAWN), size, steps)
