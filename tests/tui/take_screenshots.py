"""Make ``screenshots/*.svg`` from the running app: ``python -m tests.tui.take_screenshots``.

The answers are those of the embedded model when its checkpoint is in the package, else scripted
ones (``--scripted`` forces these). The download comes from the loopback hubs of the tests, which hold
noise in place of weights. Everything happens in a home of its own, so no chat of the developer is
touched or shown. ``screenshots/example.png`` is the picture that is asked about.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from textual.widgets import Input

from tests.fakes import ScriptedEngine
from tests.hub.loopback import Fault, Hubs, noise
from tests.tui import helpers
from tests.tui.helpers import Driven, build, draw_picture, driven
from vlmchat.chat.opening import create_engine
from vlmchat.chat.shelf import demo_folder
from vlmchat.media.image import read_picture
from vlmchat.settings import Language, Settings
from vlmchat.tui.app import VlmchatApp
from vlmchat.tui.browsing import ModelRow
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.downloads import DownloadsScreen, PlanScreen
from vlmchat.tui.screens.models import ModelsScreen
from vlmchat.tui.screens.tiles import TilesScreen

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
QUESTIONS_ZH = ("图里有什么？", "有几个图形？")
WORDS = "colour"
"""What is searched for in the chats."""
MODEL, REPOSITORY, WEIGHTS = "internvl2:1b", "OpenGVLab/InternVL2-1B", "model.safetensors"
CONTENTS = {"config.json": b"{}", "tokenizer.json": noise("tokenizer", 3000), WEIGHTS: noise("weights", 48_000_000)}
"""The download that is shown under way: as many bytes as are seen coming, not a model."""
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


async def hold_chats(run: Driven, file: Path, chats: tuple[tuple[str, ...], ...] = CHATS) -> None:
    """Ask every question of ``chats``, the picture with the first of each chat."""
    picture = read_picture(file)
    for number, questions in enumerate(chats):
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
    await see_tiles(run)
    await search(run)
    await run.pilot.press("f1")
    await save(run, "help")
    await run.pilot.press("escape")
    await pick_and_fetch(run)
    run.app.theme = "paper"
    await save(run, "light")


async def see_tiles(run: Driven) -> None:
    """Show what the model saw of the picture in the chat."""
    await run.pilot.press("f3")
    await run.until(lambda: isinstance(run.app.screen, TilesScreen) and run.app.screen.pages)
    await save(run, "tiles")
    await run.pilot.press("escape")


async def search(run: Driven) -> None:
    """Search the saved chats."""
    await run.pilot.press("ctrl+o")
    await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and len(run.app.screen.rows) == len(CHATS))
    run.app.screen.query_one(Input).value = WORDS
    await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and len(run.app.screen.rows) < len(CHATS))
    await save(run, "search")
    await run.pilot.press("escape")


async def pick_and_fetch(run: Driven) -> None:
    """Show the list of models, then the download of one of them at about a third."""
    await run.pilot.press("ctrl+l")
    await run.until(lambda: isinstance(run.app.screen, ModelsScreen) and run.app.screen.rows)
    models = run.app.screen
    assert isinstance(models, ModelsScreen)
    await run.until(lambda: any(isinstance(row, ModelRow) and row.fit for row in models.rows))
    await save(run, "picker")
    models.query_one(Input).value = MODEL
    await run.until(lambda: models.row is not None and models.row.reference == MODEL)
    await run.pilot.press("enter")
    await run.until(lambda: isinstance(run.app.screen, PlanScreen) and run.app.screen.check_action("agree", ()))
    await run.pilot.press("enter")
    await run.until(lambda: isinstance(run.app.screen, DownloadsScreen) and share(run) > 1 / 3)
    await save(run, "download")
    await run.pilot.press("x", "escape", "escape")
    await run.until(lambda: run.app.screen is run.chat)


def share(run: Driven) -> float:
    """Return how much of the download is here, 0 to 1."""
    found = run.desk.downloads.get(MODEL)
    return found.share if found is not None else 0.0


async def visit_in_chinese(app: VlmchatApp, file: Path) -> None:
    """Hold one chat in Chinese, in the app that speaks Chinese too."""
    async with driven(app, SIZE) as run:
        await run.until(lambda: run.desk.model is not None)
        await hold_chats(run, file, (QUESTIONS_ZH,))
        await save(run, "chinese")


def make(scripted: bool, language: Language) -> VlmchatApp:
    """Return the app over the embedded model, or over a script."""
    settings = Settings(language=language, previews="half-block")
    if scripted:
        return build(ScriptedEngine(answers=SCRIPT if language == "en" else SCRIPT[2:]), settings=settings)
    return build(create_engine(), model="demo", settings=settings)


async def main(scripted: bool) -> None:
    """Run the app twice: in English, then in Chinese."""
    helpers.PATIENCE_S = PATIENCE_S
    with tempfile.TemporaryDirectory() as home, Hubs(Path(home) / "hubs") as hubs:
        # In time: the hubs' clients read their environment when they are imported.
        os.environ |= {
            **hubs.environment, "VLMCHAT_HOME": f"{home}/vlmchat", "HF_HOME": f"{home}/huggingface",
            "MODELSCOPE_CACHE": f"{home}/modelscope", "MODELSCOPE_HOME": f"{home}/modelscope-home",
            "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        hubs.publish(REPOSITORY, CONTENTS)
        hubs.huggingface.faults.add("content", WEIGHTS, Fault("drip", after=1_000_000, rate=2_500_000))
        file = picture_file(Path(home))
        async with driven(make(scripted, "en"), SIZE) as run:
            await visit(run, file)
        await visit_in_chinese(make(scripted, "zh"), file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripted", action="store_true", help="do not use the embedded model")
    options = parser.parse_args()
    without = options.scripted or not (demo_folder() / "config.json").exists()
    if without:
        sys.stderr.write("scripted answers: the embedded model is not used\n")
    asyncio.run(main(without))
