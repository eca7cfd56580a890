"""Make ``screenshots/*.svg`` from the running app: ``python -m tests.tui.take_screenshots``.

The answers are those of the embedded model when its checkpoint is in the package, else scripted
ones (``--scripted`` forces these). Everything happens in a home of its own, so no chat of the
developer is touched or shown. ``screenshots/example.png`` is the picture that is asked about.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.fakes import ScriptedEngine
from tests.tui import helpers
from tests.tui.helpers import Driven, build, draw_picture, driven
from vlmchat.chat.opening import create_engine
from vlmchat.chat.shelf import demo_folder
from vlmchat.media.image import read_picture
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.models import ModelsScreen

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
SIZE = (110, 32)
CHATS = (
    ("How many shapes are there?", "Is there a square?"),
    ("图里有什么？",),
    ("What is in this picture?", "What colour is the star?", "有几个图形？"),
)
"""The questions of each chat; the last one is the chat that is shown."""
SCRIPT = (
    ("There are three.",),
    ("No.",),
    ("一个蓝色的圆、一个红色的三角形和一颗黄色的星。",),
    ("A blue circle, a red triangle and a yellow star.",),
    ("It is yellow.",),
    ("三个。",),
)
"""Stands in for the model while it is not there; never committed."""
PATIENCE_S = 300.0
"""The first load of the libraries takes long on a busy machine."""


def picture_file(folder: Path) -> Path:
    """Return the picture to ask about; without the shipped one, a disc drawn into ``folder``."""
    shipped = FOLDER / "example.png"
    return shipped if shipped.exists() else draw_picture(folder / "example.png", (448, 448))


async def save(run: Driven, name: str) -> None:
    """Write what the app shows now as ``name``.svg."""
    await run.pilot.pause(0.2)
    (FOLDER / f"{name}.svg").write_text(run.app.export_screenshot(), encoding="utf-8")


async def hold_chats(run: Driven, file: Path) -> None:
    """Ask every question of :data:`CHATS`, the picture with the first of each chat."""
    picture = read_picture(file)
    for number, questions in enumerate(CHATS):
        if number:
            await run.pilot.press("ctrl+n")
        for first, question in enumerate(questions):
            await run.chat.prompt.put(Draft(question, () if first else (picture,)))
            await run.pilot.press("enter")
            await run.until(partial(answered, run, first + 1))


def answered(run: Driven, count: int) -> bool:
    """Say whether the open chat has ``count`` answers, all of them whole."""
    return len(run.answers) == count and bool(run.answers[-1].text) and run.desk.answering is None


async def visit(run: Driven, file: Path) -> None:
    """Walk through the app and save each screen."""
    await run.until(lambda: run.desk.model is not None)
    await save(run, "start")
    await hold_chats(run, file)
    await save(run, "chat")
    await run.pilot.press("ctrl+l")
    await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and run.app.screen.rows)
    await save(run, "models")
    await run.pilot.press("escape", "ctrl+o")
    await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and len(run.app.screen.rows) == len(CHATS))
    await save(run, "chats")
    await run.pilot.press("escape", "f1")
    await save(run, "help")
    await run.pilot.press("escape")
    run.app.theme = "paper"
    await save(run, "chat-light")


async def main(scripted: bool) -> None:
    """Run the app over the embedded model, or over a script."""
    helpers.PATIENCE_S = PATIENCE_S
    with tempfile.TemporaryDirectory() as home:
        os.environ["VLMCHAT_HOME"] = home
        app = build(ScriptedEngine(answers=SCRIPT)) if scripted else build(create_engine(), model="demo")
        async with driven(app, SIZE) as run:
            await visit(run, picture_file(Path(home)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripted", action="store_true", help="do not use the embedded model")
    options = parser.parse_args()
    without = options.scripted or not (demo_folder() / "config.json").exists()
    if without:
        sys.stderr.write("scripted answers: the embedded model is not used\n")
    asyncio.run(main(without))
