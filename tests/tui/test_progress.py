"""What is said while a model loads, pictures are encoded and a prompt is prefilled, and how a load is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event as CancelEvent

import pytest

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, build, draw_picture, driven, plain
from vlmchat.engine.api import Request
from vlmchat.engine.events import AnswerEvent, Encoding, Loading, Prefill
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions
from vlmchat.settings import Language, Settings
from vlmchat.tui import text
from vlmchat.tui.memory import Draft

LOADING = (
    Loading("libraries"),
    Loading("config"),
    Loading("tokenizer"),
    Loading("weights", 500_000_000, 2_000_000_000, 1, 4),
    Loading("weights", 1_500_000_000, 2_000_000_000, 3, 4),
    Loading("audit"),
)
READING = (Encoding(1, 2, 3, 13), Encoding(2, 2, 13, 13), Prefill(512, 2048, 0), Prefill(2048, 2048, 0))
SAID = {
    "en": (
        "starting the engine", "reading the checkpoint", "tokenizer", "weights 1/4 · 500 MB of 2.0 GB ━━━",
        "weights 3/4 · 1.5 GB of 2.0 GB ━━━", "checking every tensor",
        "picture 1/2 · tile 3/13 ━", "picture 2/2 · tile 13/13 ━", "prefill 512/2,048 ━", "prefill 2,048/2,048 ━",
    ),
    "zh": (
        "启动引擎", "读取检查点", "分词器", "权重 1/4 · 500 MB / 2.0 GB ━━━", "权重 3/4 · 1.5 GB / 2.0 GB ━━━",
        "检查每个张量", "图片 1/2 · 分块 3/13 ━", "图片 2/2 · 分块 13/13 ━", "预填充 512/2,048 ━",
        "预填充 2,048/2,048 ━",
    ),
}  # fmt: skip
"""What stands in the line at the top at each step."""


@dataclass
class SlowEngine(ScriptedEngine):
    """Takes every step of a load and of an answer only when the test lets it."""

    steps: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        """Come to each stage with a step, and end with one; or end when cancelled."""
        for stage in LOADING:
            if not self._step(cancel):
                return
            yield stage
        if self._step(cancel):
            yield from super().load(folder, options, cancel)

    def generate(self, request: Request, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Read the pictures and the prompt step by step."""
        for event in READING:
            self._step(cancel)
            yield event
        self._step(cancel)
        yield from super().generate(request, cancel)

    def _step(self, cancel: CancelEvent | None) -> bool:
        while not self.steps.acquire(timeout=0.005):
            if cancel is not None and cancel.is_set():
                return False
        return True


async def walk(run: Driven, engine: SlowEngine, said: tuple[str, ...]) -> None:
    """Take a step for each of ``said`` and see it in the line at the top, whole."""
    for words in said:
        engine.steps.release()
        await run.until(partial(stands, run, words))


def stands(run: Driven, words: str) -> bool:
    return words in plain(run.chat.status)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_every_stage_is_said(language: Language, size: tuple[int, int], tmp_path: Path) -> None:
    engine = SlowEngine()
    said = SAID[language]
    pictures = tuple(read_picture(draw_picture(tmp_path / f"{at}.png", color=at)) for at in ("red", "green"))
    async with driven(build(engine, settings=Settings(language=language, previews="off")), size) as run:
        await walk(run, engine, said[: len(LOADING)])
        engine.steps.release()
        await run.ready()
        await run.chat.prompt.put(Draft("What is it?", pictures))
        await run.pilot.press("enter")
        await walk(run, engine, said[len(LOADING) :])
        engine.steps.release()
        await run.until(lambda: run.answers and run.answers[0].text == "A red circle.")
        await run.until(lambda: text.say("status.ready") in plain(run.chat.status))
    text.use("en")


async def test_a_load_is_stopped_and_another_begun() -> None:
    engine = SlowEngine()
    async with driven(build(engine)) as run:
        await walk(run, engine, SAID["en"][:4])
        assert "Esc Stop" in plain(run.app.screen)
        await run.ask("Wait for it.")
        await run.until(lambda: run.desk.queued)
        await run.pilot.press("escape")
        await run.until(lambda: run.draft.text == "Wait for it." and run.desk.queued is None)
        assert run.desk.loading is not None
        await run.pilot.press("escape")
        await run.until(lambda: "The load was stopped. Ctrl+L picks a model." in run.toasts)
        assert "not loaded" in plain(run.chat.status)
        assert "Esc Stop" not in plain(run.app.screen)
        assert run.draft.text == "Wait for it."
        engine.steps.release(len(LOADING) + 1)
        run.chat.reload_model()
        await run.ready()


async def test_after_a_stopped_load_the_model_before_answers() -> None:
    engine = SlowEngine()
    engine.steps.release(len(LOADING) + 1)
    async with driven(build(engine)) as run:
        await run.ready()
        before = run.desk.reference
        run.chat.reload_model()
        await walk(run, engine, SAID["en"][:1])
        await run.pilot.press("escape")
        await run.until(lambda: "the model before answers" in run.toasts)
        assert run.desk.model is not None
        assert run.desk.reference == before
        await run.until(lambda: "ready" in plain(run.chat.status))
