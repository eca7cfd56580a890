"""Pictures in the app, key by key: found, pasted, fetched, seen as the model sees them, cropped, kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from textual.events import Key, Paste
from textual.widgets import Input

from tests.fakes import ScriptedEngine
from tests.media.test_video import write
from tests.tui.helpers import Driven, GatedEngine, build, draw_picture, driven, plain
from vlmchat.engine.api import Request
from vlmchat.engine.events import Loading
from vlmchat.engine.view import Sight
from vlmchat.media.image import load_rgb, read_picture
from vlmchat.options import LoadOptions
from vlmchat.settings import Settings
from vlmchat.store.chats import ChatStore
from vlmchat.tui import attaching
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.crop import CropField, CropScreen
from vlmchat.tui.screens.panel import ChoicePanel
from vlmchat.tui.screens.pictures import PicturesScreen
from vlmchat.tui.screens.tiles import Tile, TilesScreen
from vlmchat.tui.widgets.chips import ChipRow
from vlmchat.tui.widgets.preview import Preview

DRAWN = Settings(previews="half-block")


@dataclass
class TilingEngine(ScriptedEngine):
    """Cuts every picture into two tiles and shows the whole of it, at 16 tokens each."""

    looks: list[int] = field(default_factory=list)

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Return 2 x 1 tiles and a thumbnail."""
        self.looks.append(len(request.messages[-1].media))
        found = []
        for picture in request.messages[-1].pictures:
            whole = load_rgb(picture).resize((32, 32))
            images = (whole.crop((0, 0, 16, 16)), whole.crop((16, 0, 32, 16)), whole) if draw else ()
            found.append(Sight(picture, 48, 3, 2, 1, "last", images))
        return tuple(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three pictures, the newest last, and an empty home."""
    here = tmp_path / "work"
    here.mkdir()
    for age, name in enumerate(("old.png", "invoice.png", "cat.png")):
        draw_picture(here / name, (64, 48), ("red", "blue", "green")[age])
        os.utime(here / name, (1_000_000 + age, 1_000_000 + age))
    (here / "broken.png").write_bytes(b"no picture")
    os.utime(here / "broken.png", (1, 1))
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return here


async def picker(run: Driven) -> PicturesScreen:
    await run.until(lambda: isinstance(run.app.screen, PicturesScreen) and run.app.screen.rows)
    screen = run.app.screen
    assert isinstance(screen, PicturesScreen)
    return screen


async def test_at_finds_a_picture_by_a_few_letters(folder: Path) -> None:
    async with driven(build()) as run:
        await run.write("is it @")
        screen = await picker(run)
        assert [row.path.name for row in screen.rows] == ["cat.png", "invoice.png", "old.png", "broken.png"]
        await run.pilot.press(*"ivc")
        await run.until(lambda: [row.path.name for row in screen.rows] == ["invoice.png"])
        await run.until(lambda: "64x48" in plain(screen))
        await run.pilot.press("enter")
        await run.until(lambda: run.draft.pictures)
        assert [it.name for it in run.draft.pictures] == ["invoice.png"]
        assert run.draft.text == "is it "
        assert run.app.focused is run.chat.prompt.area


async def test_at_left_without_a_picture_is_typed(folder: Path) -> None:
    async with driven(build()) as run:
        await run.write("mail me@here and @")
        await picker(run)
        await run.pilot.press(*"bob", "escape")
        await run.until(lambda: run.draft.text == "mail me@here and @bob")
        assert not run.draft.pictures


async def test_f2_finds_too_and_shows_what_is_wrong_with_a_file(folder: Path) -> None:
    async with driven(build()) as run:
        await run.pilot.press("f2")
        screen = await picker(run)
        await run.pilot.press("end", *"broken")
        await run.until(lambda: [row.path.name for row in screen.rows] == ["broken.png"])
        await run.until(lambda: "not a picture" in plain(screen))
        await run.pilot.press("enter")
        await run.until(lambda: "not a picture" in run.toasts)
        assert not run.draft


async def test_the_picker_takes_a_path_and_draws_the_marked_picture(folder: Path, tmp_path: Path) -> None:
    elsewhere = draw_picture(tmp_path / "a far one.png")
    async with driven(build(settings=DRAWN), (100, 30)) as run:
        await run.pilot.press("f2")
        screen = await picker(run)
        await run.until(lambda: "▀" in plain(screen.query_one(Preview)))
        screen.query_one(Input).value = f"'{elsewhere}'"
        await run.until(lambda: "what is typed" in plain(screen))
        await run.pilot.press("enter")
        await run.until(lambda: run.draft.pictures)
        assert run.draft.pictures[0].name == "a far one.png"


async def test_an_empty_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    async with driven(build()) as run:
        await run.pilot.press("f2")
        await run.until(lambda: "No pictures here" in plain(run.app.screen))
        await run.pilot.press("enter", "escape")
        await run.until(lambda: run.app.screen is run.chat)


async def test_a_box_behind_a_path_is_a_chip_of_its_own(folder: Path) -> None:
    async with driven(build()) as run:
        run.app.post_message(Paste("cat.png[8,4,20,30]"))
        await run.until(lambda: run.draft.pictures)
        await run.until(lambda: "cat.png[8,4,20,30] 20x30" in plain(run.chat.query_one(ChipRow)))
        await run.ready()
        await run.asked("Compare ./old.png[0,0,0.5,0.5] with it.")
        assert run.questions == ["Compare with it."]
        await run.ask("And cat.png[60,40,20,20]?")
        await run.until(lambda: "not inside a picture" in run.toasts)
        assert run.draft.text == "And cat.png[60,40,20,20]?"


async def test_ctrl_v_attaches_the_picture_in_the_clipboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = folder / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    async with driven(build()) as run:
        await run.pilot.press("ctrl+v")
        await run.until(lambda: "Nothing here can read a picture" in run.toasts)
        (tools / "xclip").write_text(f'#!/bin/sh\nexec /bin/cat "{folder / "cat.png"}"\n', encoding="utf-8")
        (tools / "xclip").chmod(0o755)
        await run.pilot.press("ctrl+v")
        await run.until(lambda: run.draft.pictures)
        await run.until(lambda: "clipboard.png 64x48" in plain(run.chat.query_one(ChipRow)))
        (tools / "xclip").unlink()
        run.app.copy_to_clipboard("copied in the app")
        await run.pilot.press("ctrl+v")
        await run.until(lambda: run.draft.text == "copied in the app")


class PictureServer(BaseHTTPRequestHandler):
    """Gives one picture; waits in its middle while the test holds it."""

    data = b""
    may_end = threading.Event()

    def do_GET(self) -> None:
        """Send the picture in two halves."""
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        half = len(self.data) // 2
        self.wfile.write(self.data[:half])
        self.wfile.flush()
        self.may_end.wait(20)
        self.wfile.write(self.data[half:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """A loopback server with one picture, which it sends at once."""
    PictureServer.data = (folder / "cat.png").read_bytes() + b"\0" * 100_000
    PictureServer.may_end.set()
    http = ThreadingHTTPServer(("127.0.0.1", 0), PictureServer)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/pictures/cat.png"
    PictureServer.may_end.set()
    http.shutdown()
    http.server_close()


PRIVATE = Settings(previews="off", private_urls=True)


async def test_a_url_becomes_a_chip(server: str) -> None:
    async with driven(build(settings=PRIVATE)) as run:
        run.app.post_message(Paste(server))
        await run.until(lambda: run.draft.pictures)
        await run.until(lambda: "cat.png 64x48" in plain(run.chat.query_one(ChipRow)))
        await run.ready()
        await run.asked(f"What is on {server}?")
        assert run.questions == ["What is on?"]


async def test_a_fetch_shows_its_progress_and_stops(server: str) -> None:
    PictureServer.may_end.clear()
    async with driven(build(settings=PRIVATE)) as run:
        await run.ready()
        run.app.post_message(Paste(server))
        await run.until(lambda: "fetching" in str(run.chat.prompt.border_subtitle))
        assert "Esc stops" in str(run.chat.prompt.border_subtitle)
        await run.pilot.press("escape")
        PictureServer.may_end.set()
        await run.until(lambda: run.draft.text == server)
        assert "stopped" in run.toasts
        assert not run.draft.pictures
        assert not run.chat.prompt.border_subtitle


@pytest.mark.parametrize(
    ("settings", "words"),
    [(Settings(previews="off"), "private network"), (Settings(previews="off", offline=True), "vlmchat is offline")],
    ids=["private", "offline"],
)
async def test_a_url_that_may_not_be_fetched_stays_text(server: str, settings: Settings, words: str) -> None:
    async with driven(build(settings=settings)) as run:
        await run.ready()
        await run.ask(f"What is {server}")
        await run.until(lambda: words in run.toasts)
        assert run.draft.text == f"What is {server}"
        assert not run.questions


async def test_chips_say_what_they_cost_once_the_model_can_tell(folder: Path) -> None:
    engine = GatedEngine()
    async with driven(build(engine)) as run:
        run.app.post_message(Paste("cat.png"))
        await run.until(lambda: run.draft.pictures)
        assert "tokens" not in plain(run.chat.query_one(ChipRow))
        engine.may_load.set()
        await run.until(lambda: "64x48 16 tokens" in plain(run.chat.query_one(ChipRow)))


async def test_pictures_wait_with_their_question_for_the_model(folder: Path) -> None:
    engine = GatedEngine(answers=(("yes",),))
    async with driven(build(engine)) as run:
        run.app.post_message(Paste("cat.png"))
        await run.until(lambda: run.draft.pictures)
        await run.ask("Is it a cat?")
        await run.until(lambda: run.desk.queued)
        engine.may_load.set()
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text == "yes")
    assert [it.name for it in engine.requests[0].messages[-1].pictures] == ["cat.png"]


async def tiles(run: Driven) -> TilesScreen:
    await run.until(lambda: isinstance(run.app.screen, TilesScreen) and run.app.screen.pages)
    await run.until(lambda: run.app.screen.query(Tile))
    screen = run.app.screen
    assert isinstance(screen, TilesScreen)
    return screen


async def test_f3_shows_the_tiles_of_every_picture(folder: Path) -> None:
    engine = TilingEngine()
    async with driven(build(engine, settings=DRAWN), (100, 30)) as run:
        await run.ready()
        run.app.post_message(Paste("cat.png\nold.png"))
        await run.until(lambda: len(run.draft.pictures) == 2)
        await run.pilot.press("f3")
        screen = await tiles(run)
        await run.until(lambda: "3 x 16 = 48 tokens" in plain(screen))
        page = plain(screen)
        assert "cat.png  64x48 (1/2)" in page
        assert "2 x 1 and the whole picture" in page
        assert "4.8 % of the 1,000 tokens" in page
        await run.until(lambda: len(screen.query(Tile)) == 3 and "▀" in plain(screen.query(Tile).first()))
        assert [tile.cell.caption for tile in screen.query(Tile)] == ["1 · 16", "2 · 16", "whole · 16"]
        await run.pilot.press("right")
        await run.until(lambda: "old.png  64x48 (2/2)" in plain(screen))
        await run.pilot.press("left", "left", "down", "up")
        await run.until(lambda: "old.png" in plain(screen))
        await run.pilot.press("escape")
        await run.until(lambda: run.app.screen is run.chat)
    assert engine.looks[-1] == 2


async def test_f3_shows_what_was_asked_about_last(folder: Path) -> None:
    async with driven(build(TilingEngine())) as run:
        await run.pilot.press("f3")
        assert "no picture yet" in run.toasts
        await run.ready()
        await run.asked("What is ./cat.png")
        await run.pilot.press("f3")
        screen = await tiles(run)
        await run.until(lambda: "whole · 16" in plain(screen))
        assert "▀" not in plain(screen)


async def test_f3_before_the_model_is_ready_says_so(folder: Path) -> None:
    async with driven(build(GatedEngine())) as run:
        run.app.post_message(Paste("cat.png"))
        await run.until(lambda: run.draft.pictures)
        await run.pilot.press("f3")
        assert "not ready yet" in run.toasts


async def test_a_picture_that_is_gone_is_named_in_the_tiles(folder: Path) -> None:
    store = ChatStore()
    async with driven(build(TilingEngine(), store=store)) as run:
        await run.ready()
        await run.asked("What is ./cat.png")
    chat = store.chats()[0].id
    for blob in (run.app.memory.folder.parent / "data" / "blobs").iterdir():
        blob.unlink()
    async with driven(build(TilingEngine(), store=ChatStore(), settings=DRAWN)) as run:
        await run.ready()
        await run.chat.chats.open(chat)
        await run.pilot.press("f3")
        await run.until(lambda: "no longer" in plain(run.app.screen))


async def crop(run: Driven) -> CropScreen:
    await run.until(lambda: isinstance(run.app.screen, CropScreen) and run.app.screen._base)
    await run.pilot.pause()
    screen = run.app.screen
    assert isinstance(screen, CropScreen)
    return screen


async def test_crop_by_keys_is_exact(folder: Path) -> None:
    async with driven(build()) as run:
        run.app.post_message(Paste("cat.png"))
        await run.until(lambda: run.draft.pictures)
        await run.pilot.press("f4")
        screen = await crop(run)
        assert screen.box.text == "[16,12,32,24]"
        await run.pilot.press("f", "left", "left", "up", "d", "s", "s", "w", "a", "a")
        assert "cat.png[14,11,31,25] · 31x25 · pixel by pixel" in plain(screen)
        await run.pilot.press("right", "down", "enter")
        await run.until(lambda: len(run.draft.pictures) == 2)
        cut = run.draft.pictures[1]
    assert cut.name == "cat.png[15,12,31,25]"
    part = load_rgb(cut)
    assert part.tobytes() == Image.open(folder / "cat.png").convert("RGB").crop((15, 12, 46, 37)).tobytes()


async def test_crop_by_mouse_takes_the_cells_it_was_drawn_over(folder: Path) -> None:
    async with driven(build(settings=DRAWN), (100, 40)) as run:
        run.app.post_message(Paste("cat.png"))
        await run.until(lambda: run.draft.pictures)
        await run.pilot.press("f4")
        screen = await crop(run)
        columns, rows = screen._cells
        await run.pilot.mouse_down(CropField, offset=(10, 3))
        await run.pilot.hover(CropField, offset=(29, 9))
        await run.pilot.mouse_up(CropField, offset=(29, 9))
        await run.pilot.pause()
        box = screen.box
        assert (box.left, box.top) == (64 * 10 // columns, 48 * 3 // rows)
        assert (box.right, box.bottom) == (-(-64 * 30 // columns), -(-48 * 10 // rows))
        await run.pilot.press("escape")
        await run.until(lambda: run.app.screen is run.chat)
        assert len(run.draft.pictures) == 1


async def test_tiles_lead_to_the_crop_of_the_picture_on_the_screen(folder: Path) -> None:
    async with driven(build(TilingEngine())) as run:
        await run.ready()
        run.app.post_message(Paste("cat.png\nold.png"))
        await run.until(lambda: len(run.draft.pictures) == 2)
        await run.pilot.press("f3")
        await tiles(run)
        await run.pilot.press("right", "c")
        await crop(run)
        await run.pilot.press("enter")
        await run.until(lambda: len(run.draft.pictures) == 3)
        assert run.draft.pictures[2].name == "old.png[16,12,32,24]"


async def test_a_chip_is_seen_and_cropped_from_itself(folder: Path) -> None:
    async with driven(build(TilingEngine())) as run:
        await run.ready()
        run.app.post_message(Paste("cat.png\nold.png"))
        await run.until(lambda: len(run.draft.pictures) == 2)
        await run.pilot.press("shift+tab", "shift+tab", "c")
        await crop(run)
        await run.pilot.press("enter")
        await run.until(lambda: len(run.draft.pictures) == 3)
        assert run.draft.pictures[2].name.startswith("cat.png[")
        await run.pilot.press("shift+tab", "v")
        await tiles(run)


async def test_previews_are_drawn_and_switched_off_and_on(folder: Path) -> None:
    async with driven(build(settings=DRAWN), (100, 30)) as run:
        await run.ready()
        await run.asked("What is ./cat.png")
        await run.until(lambda: "▀" in plain(run.chat.query_one(Preview)))
        await run.pilot.press("f6")
        await run.until(lambda: "▀" not in plain(run.chat.transcript))
        assert "cat.png 64x48" in plain(run.chat.transcript)
        await run.pilot.press("f6")
        await run.until(lambda: "▀" in plain(run.chat.transcript))


async def test_the_chat_keeps_its_own_copy(folder: Path) -> None:
    before = (folder / "cat.png").read_bytes()
    engine, store = ScriptedEngine(), ChatStore()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        run.app.post_message(Paste("cat.png"))
        await run.until(lambda: run.draft.pictures)
        draw_picture(folder / "cat.png", (300, 200), "black")
        await run.asked("What is it?")
        (folder / "cat.png").unlink()
        await run.asked("And now?")
    chat = store.chats()[0].id
    async with driven(build(engine, store=ChatStore())) as run:
        await run.ready()
        await run.chat.chats.open(chat)
        await run.asked("Still?")
    assert len(engine.requests) == 3
    for request in engine.requests:
        (picture,) = request.messages[0].pictures
        assert picture.read() == before
        assert (picture.width, picture.height) == (64, 48)


async def test_hostile_names_are_shown_as_they_are(folder: Path) -> None:
    path = draw_picture(folder / "x.png").rename(folder / "[b]bold[i]\x1b[31m.png")
    async with driven(build(TilingEngine())) as run:
        await run.ready()
        await run.chat.prompt.put(Draft("", (read_picture(path),)))
        await run.until(lambda: "[b]bold[i][31m.png" in plain(run.chat.query_one(ChipRow)))
        await run.pilot.press("f3")
        screen = await tiles(run)
        await run.until(lambda: "[b]bold[i][31m.png" in plain(screen))
        await run.pilot.press("c")
        await crop(run)
        await run.pilot.press("enter")
        await run.until(lambda: len(run.draft.pictures) == 2)


@dataclass
class OnePictureEngine(GatedEngine):
    """Belongs to a family that reads one picture per conversation."""

    def load(self, folder: Path, options: LoadOptions, cancel: threading.Event | None = None) -> Iterator[Loading]:
        """Load, and say that it is of CogVLM2's family."""
        yield from super().load(folder, options, cancel)
        if self.loaded is not None:
            self.loaded = replace(self.loaded, family="cogvlm2")


def one_picture() -> OnePictureEngine:
    engine = OnePictureEngine(answers=(("fine",),))
    engine.may_load.set()
    engine.let(100)
    return engine


async def offered(run: Driven) -> str:
    await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
    await run.pilot.pause()
    return " ".join(plain(run.app.screen).replace("│", "").split())


def sent(engine: ScriptedEngine) -> list[list[str]]:
    return [[it.name for message in request.messages for it in message.media] for request in engine.requests]


async def test_a_second_picture_may_take_the_place_of_the_first(folder: Path) -> None:
    engine, store = one_picture(), ChatStore()
    async with driven(build(engine, store=store), (100, 30)) as run:
        await run.ready()
        await run.asked("What is ./cat.png")
        await run.ask("And ./old.png then")
        text = await offered(run)
        assert "old.png would be the second one, after cat.png" in text
        assert "nothing was dropped" in text
        assert len(engine.requests) == 1
        await run.pilot.press("escape")
        await run.until(lambda: run.app.screen is run.chat)
        assert run.draft.text == "And then"
        assert [it.name for it in run.draft.pictures] == ["old.png"]
        await run.pilot.press("enter")
        await offered(run)
        await run.pilot.press("1")
        await run.until(lambda: len(run.answers) == 2 and not run.chat.flow.busy)
        assert not run.draft
        assert run.questions == ["What is", "And then"]
    assert sent(engine) == [["cat.png"], ["old.png"]]
    assert [message.text for message in engine.requests[1].messages] == ["What is", "fine", "And then"]
    chats = [store.chat(summary.id) for summary in ChatStore().chats()]
    assert sorted([it.name for turn in chat.branch() for it in turn.message.pictures] for chat in chats) == [
        ["cat.png"],
        ["old.png"],
    ]


async def test_a_second_picture_may_begin_a_new_chat(folder: Path) -> None:
    engine = one_picture()
    async with driven(build(engine), (100, 30)) as run:
        await run.ready()
        await run.asked("What is ./cat.png")
        await run.ask("And ./old.png")
        await offered(run)
        await run.pilot.press("2")
        await run.until(lambda: run.questions == ["And"] and run.answers and not run.chat.flow.busy)
    assert sent(engine) == [["cat.png"], ["old.png"]]
    assert len(engine.requests[1].messages) == 1


async def test_of_two_pictures_in_the_box_one_is_asked_about(folder: Path) -> None:
    engine = one_picture()
    async with driven(build(engine), (100, 30)) as run:
        await run.ready()
        await run.ask("Is ./cat.png like ./old.png")
        assert "The question has 2 of them" in await offered(run)
        await run.pilot.press("1")
        await run.until(lambda: run.answers and not run.chat.flow.busy)
        await run.asked("Words alone are fine.")
    assert sent(engine) == [["old.png"], ["old.png"]]


async def test_a_question_that_waited_is_held_back_too(folder: Path) -> None:
    engine = one_picture()
    engine.may_load.clear()
    async with driven(build(engine), (100, 30)) as run:
        await run.ask("Is ./cat.png like ./old.png")
        await run.until(lambda: run.desk.queued)
        engine.may_load.set()
        await offered(run)
        await run.pilot.press("escape")
        await run.until(lambda: len(run.draft.pictures) == 2)
        assert run.questions == []
    assert not engine.requests


async def test_what_is_typed_behind_the_at_sign_before_the_list_is_there_belongs_to_the_list(folder: Path) -> None:
    async with driven(build()) as run:
        await run.ready()
        for key in ("@", "o", "x", "backspace", "l", "d", "enter"):
            run.app.post_message(Key(key, key if len(key) == 1 else None))
        await run.until(lambda: [it.name for it in run.draft.pictures] == ["old.png"])
        await run.pilot.press("h", "i")
        assert run.draft.text == "hi"


async def test_the_at_sign_and_what_follows_are_text_when_the_list_is_left(folder: Path) -> None:
    async with driven(build()) as run:
        await run.ready()
        for key in "@cat":
            run.app.post_message(Key(key, key))
        screen = await picker(run)
        await run.until(lambda: screen.words == "cat")
        await run.pilot.press("escape", "s")
        await run.until(lambda: run.draft.text == "@cats")


async def test_a_video_is_a_chip_and_is_asked_about(folder: Path) -> None:
    engine = ScriptedEngine()
    write(folder / "clip.mp4", "mpeg4", 0, 12)
    async with driven(build(engine)) as run:
        await run.ready()
        await run.pilot.press("@", *"clip")
        screen = await picker(run)
        await run.until(lambda: [row.path.name for row in screen.rows] == ["clip.mp4"])
        await run.pilot.press("enter")
        await run.until(lambda: "▶ clip.mp4" in plain(run.chat.query_one(ChipRow)))
        await run.pilot.press("f4")
        assert "no picture yet" in run.toasts
        await run.asked("What happens?")
        assert "▶ clip.mp4" in plain(run.chat.transcript)
        await run.pilot.press("up")
        await run.until(lambda: [it.name for it in run.draft.videos] == ["clip.mp4"])
    assert [it.name for it in engine.requests[0].messages[-1].media] == ["clip.mp4"]


async def test_a_video_that_is_kept_by_its_path_is_told_when_it_is_attached(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "MAX_VIDEO", (folder / "cat.png").stat().st_size)
    write(folder / "clip.mp4", "mpeg4", 0, 12)
    async with driven(build()) as run:
        run.app.post_message(Paste("cat.png clip.mp4"))
        await run.until(lambda: len(run.draft.media) == 2)
        await run.until(lambda: "the chat keeps only its path" in run.toasts)
        assert run.toasts.count("clip.mp4 is over 200 MB") == 1
        assert "cat.png" not in run.toasts
