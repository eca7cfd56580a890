"""How the smaller panels and notices look, in two sizes and two languages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, build, draw_picture, plain
from tests.tui.test_chats import keep
from tests.tui.test_models_snapshots import opened, same_everywhere
from tests.tui.test_pictures import DRAWN, one_picture
from tests.tui.test_pictures_snapshots import settled
from tests.tui.test_snapshots import Look, Size, language, look, pytestmark, ready
from vlmchat.conversation import Picture, Video, assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.view import Sight
from vlmchat.errors import ImageError, OutOfMemory
from vlmchat.media.image import load_rgb, read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.tui import finding
from vlmchat.tui.downloads import Downloads
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.chats import ChatsScreen
from vlmchat.tui.screens.panel import ChoicePanel, LinePanel, Panel
from vlmchat.tui.screens.pictures import PicturesScreen
from vlmchat.tui.screens.tiles import TilesScreen
from vlmchat.tui.telling import complain
from vlmchat.tui.text import say

__all__ = ["language", "look", "pytestmark", "same_everywhere"]


@dataclass
class FramesEngine(ScriptedEngine):
    """Sees six frames of any video, one each half second."""

    frame: Picture | None = None

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Return the same frame six times, under its times."""
        assert self.frame is not None
        image = load_rgb(self.frame).resize((32, 32))
        names = [f"clip.mp4@{at / 2:.1f}s" for at in range(6)]
        return tuple(Sight(replace(self.frame, name=name), 16, 1, images=(image,)) for name in names)


async def shown(run: Driven, panel: type[Panel] | type[ChoicePanel]) -> None:
    """Wait until such a panel is on top."""
    await run.until(lambda: isinstance(run.app.screen, panel))


def test_what_made_an_answer(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        assert run.desk.model is not None
        run.desk.model = replace(run.desk.model, name="internvl2:1b")
        await run.asked("What do you see?")
        await run.pilot.press("f7", "i")
        await shown(run, Panel)

    look(build(), size, steps)


def test_out_of_memory(look: Look, size: Size, tmp_path: Path) -> None:
    ran_out = OutOfMemory(
        "Memory ran out while answering.", "Use a smaller model, --quantization 4-bit, or fewer tiles (--max-tiles)."
    )
    picture = read_picture(draw_picture(tmp_path / "disc.png", (640, 480)))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.chat.prompt.put(Draft("What do you see?", (picture,)))
        await run.pilot.press("enter")
        await shown(run, ChoicePanel)

    look(build(ScriptedEngine(answers=(ran_out,), tiles=12)), size, steps)


def test_one_picture_only(look: Look, size: Size, tmp_path: Path) -> None:
    pictures = tuple(read_picture(draw_picture(tmp_path / f"{at}.png", color=at)) for at in ("red", "green"))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.chat.prompt.put(Draft("What do you see?", pictures[:1]))
        await run.pilot.press("enter")
        await run.until(lambda: run.answers)
        await run.idle()
        await run.chat.prompt.put(Draft("And here?", pictures[1:]))
        await run.pilot.press("enter")
        await shown(run, ChoicePanel)

    look(build(one_picture()), size, steps)


def test_model_details(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await opened(run)
        await run.pilot.press("f3")
        await shown(run, Panel)

    look(build(), size, steps)


def test_no_downloads(look: Look, size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Downloads, "all", ())

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("f10")
        await run.until(lambda: say("downloads.none") in plain(run.app.screen))

    look(build(), size, steps)


def test_an_error_as_a_notice(look: Look, size: Size) -> None:
    async def steps(run: Driven) -> None:
        await ready(run)
        await run.asked("What do you see?")
        await run.chat.prompt.put(Draft("./disc.png and what is this?"))
        error = ImageError("disc.png is damaged or cut short.", "Copy or save it again.")
        complain(run.chat, error, say("toast.path_as_text"))
        await run.until(lambda: say("toast.path_as_text") in plain(run.app.screen))

    look(build(), size, steps)


def test_no_pictures_here(look: Look, size: Size, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(finding, "_files", lambda *_: iter(()))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("f2")
        await run.until(lambda: isinstance(run.app.screen, PicturesScreen))
        await run.until(lambda: say("pictures.empty")[:8] in plain(run.app.screen))

    look(build(), size, steps)


def test_another_title(look: Look, size: Size) -> None:
    store = ChatStore()
    keep(store, "Fruit", user("Is the pear green?"), assistant("Yes."))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.pilot.press("ctrl+o")
        await run.until(lambda: isinstance(run.app.screen, ChatsScreen) and len(run.app.screen.rows) == 1)
        await run.pilot.press("ctrl+r")
        await shown(run, LinePanel)

    look(build(store=store), size, steps)


def test_frames_of_a_video(look: Look, size: Size, tmp_path: Path) -> None:
    frame = read_picture(draw_picture(tmp_path / "disc.png", (96, 64)))

    async def steps(run: Driven) -> None:
        await ready(run)
        await run.chat.prompt.put(Draft("What happens?", videos=(Video("0" * 64, "clip.mp4", path=tmp_path),)))
        await run.pilot.press("f3")
        await run.until(lambda: isinstance(run.app.screen, TilesScreen) and run.app.screen.pages)
        await settled(run)

    look(build(FramesEngine(frame=frame), settings=DRAWN), size, steps)
