"""How every screen looks, in a small and in a large terminal, in English and in Chinese.

The pictures hold for the Textual they were made with: another release draws a border or a blank
differently, which is no fault of the app. ``pytest tests/tui/test_snapshots.py --snapshot-update``
makes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import pytest
import textual
from textual.pilot import Pilot

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, draw_picture, plain
from tests.tui.test_chats import keep
from vlmchat.conversation import assistant, user
from vlmchat.engine.events import Encoding
from vlmchat.errors import CheckpointError
from vlmchat.media.image import read_picture
from vlmchat.paths import places
from vlmchat.store.chats import ChatStore
from vlmchat.tui import bridge, text
from vlmchat.tui.app import VlmchatApp
from vlmchat.tui.memory import Draft
from vlmchat.tui.meter import Meter
from vlmchat.tui.screens import chats as chats_screen
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.panel import ChoicePanel, LinkPanel
from vlmchat.tui.screens.settings import SettingsScreen
from vlmchat.tui.text import say

MADE_WITH = "8.2.8"
pytestmark = [
    pytest.mark.skipif(textual.__version__ != MADE_WITH, reason=f"the snapshots were made with Textual {MADE_WITH}"),
    pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"]),
]
ANSWER = """The picture shows a **red circle** and a `blue square`.

1. The circle is *bigger*.
2. The square is on the right.

```python
def area(r: float) -> float:
    return 3.14159 * r * r
```

| shape | colour |
| --- | --- |
| circle | red |

> 一个红色的圆。See [the notes](https://example.org/a)."""
Size = tuple[int, int]
Steps = Callable[[Driven], Awaitable[None]]


class Look(Protocol):
    """Compares an app with its picture after some steps."""

    def __call__(self, app: VlmchatApp, size: Size, steps: Steps) -> None:
        """Run ``steps`` in ``app`` and compare."""


@pytest.fixture(params=["en", "zh"], autouse=True)
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the locale choose the language, as on a user's machine."""
    monkeypatch.setenv("LC_ALL", {"en": "C.UTF-8", "zh": "zh_CN.UTF-8"}[request.param])
    # What the meter would measure a moment later, at once, so that no picture is taken in between.
    monkeypatch.setattr(Meter, "look", lambda meter: setattr(meter._flow.status, "meter", (96, 1000)))
    yield
    text.use("en")


@pytest.fixture
def look(snap_compare: Callable[..., bool]) -> Look:
    """Return the comparison, with the app taken down as ``run`` does."""

    def compare(app: VlmchatApp, size: Size, steps: Steps) -> None:
        async def before(pilot: Pilot[int]) -> None:
            run = Driven(app, pilot)
            await run.until(lambda: app.screen_stack and hasattr(app.desk, "bridge"))
            await steps(run)
            await run.pilot.pause()

        try:
            assert snap_compare(app, terminal_size=size, run_before=before)
        finally:
            app.desk.close()
            app.desk.store.close()

    return compare


async def ready(run: Driven) -> None:
    """Wait for the model and for what it changes on the screen."""
    await run.ready()
    await run.until(lambda: run.chat.status.activity == say("status.ready"))


def test_loading(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await run.until(lambda: run.desk.bridge._works)

    look(build(GatedEngine()), size, steps)


def test_welcome(look: Look, size: Size) -> None:
    look(build(), size, ready)


def test_draft_with_pictures(look: Look, size: Size, tmp_path: Path) -> None:
    names = ("disc.png", "a picture with a rather long name.jpg")
    pictures = tuple(read_picture(draw_picture(tmp_path / name, (640, 480))) for name in names)

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.chat.prompt.put(Draft("Which one is bigger?\nAnd why?", pictures))

    look(build(), size, steps)


def test_chat(look: Look, size: Size, tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png", (640, 480)))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.chat.prompt.put(Draft("What do you see?", (picture,)))
        await run.pilot.press("enter")
        await run.until(lambda: run.answers)
        await run.idle()
        await run.asked("How many shapes are there?")

    look(build(ScriptedEngine(answers=((ANSWER,), ("There are ", "two.")))), size, steps)


def test_reading_a_picture(look: Look, size: Size) -> None:
    engine = GatedEngine()
    engine.may_load.set()

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.ask("What is it?")
        await run.until(lambda: run.desk.answering)
        work = run.desk.answering
        assert work is not None
        await run.until(lambda: run.chat.status.part is not None)
        run.chat.post_message(bridge.AnswerProgress(work.id, Encoding(1, 1, 3, 13)))
        await run.until(lambda: run.chat.status.part == 3 / 13)

    look(build(engine), size, steps)


def test_stopped(look: Look, size: Size) -> None:
    engine = GatedEngine(answers=(("One, ", "two, ", "three."),))
    engine.may_load.set()

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.ask("Count.")
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text)
        await run.pilot.press("escape")
        await run.idle()

    look(build(engine), size, steps)


def test_question_waits(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await run.ask("What is it?")
        await run.until(lambda: run.desk.queued)

    look(build(GatedEngine()), size, steps)


def test_chats(look: Look, size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ChatStore()
    for title, question in (("Fruit", "Is the pear green?"), ("A much longer title than most " * 3, "A pear?")):
        keep(store, title, user(question), assistant("Yes, the pear is green."))
    newest = store.chats()[0].updated
    monkeypatch.setattr(chats_screen, "time", SimpleNamespace(time=lambda: newest + 7200))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("ctrl+o")
        await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and len(run.app.screen.rows) == 2)
        await run.pilot.press(*"pear")
        screen = run.app.screen
        assert isinstance(screen, ChatsScreen)
        await run.until(lambda: screen.rows and screen.rows[0].snippet)

    look(build(store=store), size, steps)


def test_no_chats(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("ctrl+o")
        await run.until(lambda: say("chats.none") in plain(run.app.screen))

    look(build(), size, steps)


def test_help(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("f1")

    look(build(), size, steps)


def test_palette(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("ctrl+p")
        await run.until(lambda: say("action.new_chat") in plain(run.app.screen))
        await run.until(lambda: not run.app.screen.query("LoadingIndicator.--visible"))

    look(build(), size, steps)


def test_load_error(look: Look, size: Size) -> None:
    error = CheckpointError("The folder has no config.json.", "Name the folder that holds the checkpoint.")

    engine = GatedEngine(load_error=error)

    async def steps(run: Driven) -> None:
        await run.ask("What is it?")
        await run.until(lambda: run.desk.queued)
        engine.may_load.set()
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))

    look(build(engine), size, steps)


def test_link(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        run.app.push_screen(LinkPanel("https://example.org/[b]a[/b]?q=1"))

    look(build(), size, steps)


def test_marked_turn(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.asked("What do you see?")
        await run.pilot.press("f5")
        await run.until(lambda: len(run.desk.session().versions(run.desk.session().turns[-1].id)) == 2)
        await run.idle()
        await run.pilot.press("f7")

    look(build(ScriptedEngine(answers=(("A circle.",), ("A red circle.",)))), size, steps)


def test_settings(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("f9")
        await run.until(lambda: isinstance(run.app.screen, SettingsScreen))

    look(build(), size, steps)


def test_overflow(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.asked("word " * 40)
        await run.ask("word " * 20)
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))

    look(build(ScriptedEngine(context_tokens=120)), size, steps)


def test_jump(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.asked("What do you see?")
        await run.pilot.press("f12")

    look(build(), size, steps)


def test_typed_command(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press(*"/te")
        await run.until(lambda: run.chat.status.commands)

    look(build(), size, steps)


@pytest.mark.parametrize("language", ["en"], indirect=True)
@pytest.mark.parametrize("theme", ["fjord", "paper", "porcelain", "beacon", "terminal"])
def test_themes(look: Look, size: Size, theme: str, tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png", (640, 480)))
    places().state.mkdir(parents=True)
    (places().state / "app.json").write_text(f'{{"theme": "{theme}"}}', encoding="utf-8")

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.chat.prompt.put(Draft("What do you see?", (picture,)))
        await run.pilot.press("enter")
        await run.until(lambda: run.answers)
        await run.idle()
        await run.chat.prompt.put(Draft("And here?", (picture,)))

    look(build(ScriptedEngine(answers=((ANSWER,),))), size, steps)
