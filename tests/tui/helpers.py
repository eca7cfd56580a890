"""What the tests of the app share: an engine that waits for the test, and an app that runs under a pilot."""

from __future__ import annotations

import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as CancelEvent
from typing import TypeVar

from PIL import Image, ImageDraw
from textual.pilot import Pilot
from textual.widget import Widget

from tests.fakes import ScriptedEngine
from vlmchat.engine.api import Engine, Request
from vlmchat.engine.events import AnswerEvent, Delta, Loading
from vlmchat.options import LoadOptions
from vlmchat.paths import places
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore
from vlmchat.tui.app import VlmchatApp
from vlmchat.tui.desk import Desk
from vlmchat.tui.memory import Draft, Memory
from vlmchat.tui.screens.chat import ChatScreen
from vlmchat.tui.widgets.answer import AnswerView
from vlmchat.tui.widgets.turn import QuestionView

PATIENCE_S = 20.0
"""How long a condition may take to come true before a test fails; a busy machine is slow."""
AnyWidget = TypeVar("AnyWidget", bound=Widget)


@dataclass
class GatedEngine(ScriptedEngine):
    """A scripted engine that loads, and says its next piece, only when the test lets it."""

    may_load: threading.Event = field(default_factory=threading.Event)
    may_say: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    cancels: int = 0

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        """Load when :attr:`may_load` is set, or end when cancelled."""
        while not self.may_load.wait(0.005):
            if cancel is not None and cancel.is_set():
                return
        yield from super().load(folder, options, cancel)

    def generate(self, request: Request, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Say one piece for every :meth:`let` of the test."""
        for event in super().generate(request, cancel):
            while isinstance(event, Delta) and not self.may_say.acquire(timeout=0.005):
                if cancel is not None and cancel.is_set():
                    self.cancels += 1
                    break
            yield event

    def let(self, pieces: int) -> None:
        """Allow ``pieces`` more pieces."""
        self.may_say.release(pieces)


@dataclass
class Driven:
    """A running app and what a test needs of it."""

    app: VlmchatApp
    pilot: Pilot[int]

    @property
    def chat(self) -> ChatScreen:
        """The screen at the bottom of the stack."""
        screen = self.app.screen_stack[0]
        assert isinstance(screen, ChatScreen)
        return screen

    @property
    def desk(self) -> Desk:
        """What the app works with."""
        return self.app.desk

    @property
    def draft(self) -> Draft:
        """What is in the box."""
        return self.chat.prompt.draft

    @property
    def answers(self) -> list[AnswerView]:
        """All answers on the screen."""
        return list(self.chat.query(AnswerView))

    @property
    def questions(self) -> list[str]:
        """The texts of all questions on the screen."""
        return [view.question.text for view in self.chat.query(QuestionView)]

    @property
    def toasts(self) -> str:
        """All notices so far."""
        return "\n".join(note.message for note in self.app._notifications)

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the app run until ``condition`` is true."""
        waited = 0.0
        while not condition():
            await self.pilot.pause(0.01)
            waited += 0.01
            assert waited < PATIENCE_S, "the condition never came true"

    async def ready(self) -> None:
        """Wait until the model can answer."""
        await self.until(lambda: self.desk.model is not None)

    async def write(self, text: str) -> None:
        """Press one key for each character."""
        await self.pilot.press(*(" " if char == " " else char for char in text))

    async def ask(self, text: str) -> None:
        """Put ``text`` into the box and press Enter."""
        self.chat.prompt.area.text = text
        self.chat.prompt.area.move_cursor(self.chat.prompt.area.document.end)
        await self.pilot.press("enter")

    async def idle(self) -> None:
        """Wait until nothing is being answered or asked."""
        await self.until(lambda: not self.chat.flow.busy)
        await self.pilot.pause()

    async def asked(self, text: str) -> None:
        """Ask and wait for the whole answer."""
        before = len(self.answers)
        await self.ask(text)
        await self.until(lambda: len(self.answers) > before)
        await self.idle()

    def text_of(self, widget: type[AnyWidget]) -> str:
        """Return the plain text that ``widget`` shows, line by line."""
        return plain(self.app.screen.query_one(widget))


def plain(widget: Widget) -> str:
    """Return what stands on the screen where ``widget`` is, without colours."""
    screen = widget.screen
    region = widget.region.intersection(screen.size.region)
    strips = screen._compositor.render_strips()[region.y : region.bottom]
    return "\n".join(strip.crop(region.x, region.right).text.rstrip() for strip in strips)


def build(
    engine: Engine | None = None,
    *,
    store: ChatStore | None = None,
    model: str | None = None,
    settings: Settings | None = None,
) -> VlmchatApp:
    """Return an app over ``engine``, with everything else in the test's own ``VLMCHAT_HOME``."""
    folder = places().cache / "models" / "scripted"
    folder.mkdir(parents=True, exist_ok=True)
    desk = Desk(
        settings or Settings(previews="off"), store or ChatStore(), model or str(folder), engine or ScriptedEngine()
    )
    return VlmchatApp(desk, Memory.read(places().state))


@asynccontextmanager
async def driven(app: VlmchatApp, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Driven]:
    """Run ``app`` under a pilot; afterwards it is closed as ``run`` closes it."""
    try:
        async with app.run_test(size=size, notifications=True) as pilot:
            yield Driven(app, pilot)
    finally:
        app.desk.close()
        app.desk.store.close()


def draw_picture(path: Path, size: tuple[int, int] = (64, 48), color: str = "red") -> Path:
    """Write a picture of one disc, in the format that the suffix of ``path`` names."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((8, 8, min(size) - 8, min(size) - 8), fill=color)
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[path.suffix.lower()])
    path.write_bytes(buffer.getvalue())
    return path
