"""The parts under the pictures of the app: boxes, searching, drawing, the clipboard, what a page says."""

from __future__ import annotations

import io
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fakes import ScriptedEngine
from tests.media.test_video import write
from tests.reference_cases import REFERENCE
from tests.tui.helpers import draw_picture
from vlmchat.conversation import Picture, Video
from vlmchat.engine.api import Request
from vlmchat.engine.view import Sight, sights
from vlmchat.errors import ImageError, InputError, VideoError
from vlmchat.families.registry import open_checkpoint
from vlmchat.media.image import load_rgb, read_picture
from vlmchat.options import VisionOptions
from vlmchat.tui import clipboard
from vlmchat.tui.attaching import read_source
from vlmchat.tui.finding import candidates, matching
from vlmchat.tui.graphics import cells_for, drawing, pixels_of
from vlmchat.tui.memory import Draft, Memory
from vlmchat.tui.screens.crop import Box, cut_out, marked
from vlmchat.tui.screens.tiles import Page, frames_plan, grid_plan, time_of
from vlmchat.tui.sighting import costs, pages

QWEN2 = REFERENCE / "internvl2" / "qwen2-vit300m"
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
STEPS = st.lists(st.tuples(st.booleans(), st.integers(-6000, 6000), st.integers(-6000, 6000)), max_size=8)


@given(SIZES, STEPS)
def test_a_box_never_leaves_its_picture_nor_vanishes(size: tuple[int, int], steps: list[tuple[bool, int, int]]) -> None:
    box = Box.middle(size)
    for stretches, across, down in steps:
        before = box
        box = (box.stretched if stretches else box.moved)(across, down)
        assert 0 <= box.left < box.right <= size[0]
        assert 0 <= box.top < box.bottom <= size[1]
        if not stretches:
            assert (box.right - box.left, box.bottom - box.top) == (
                before.right - before.left,
                before.bottom - before.top,
            )


def test_corners_in_any_order_make_the_same_box() -> None:
    assert Box.between((50, 40), (30, 5), (-3, 90)) == Box(50, 40, 0, 5, 30, 40)
    assert Box.between((50, 40), (10, 10), (10, 10)).text == "[10,10,1,1]"


def test_a_cut_is_exact_upright_and_named_as_it_could_be_typed(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    image = Image.new("RGB", (60, 40), "white")
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[274] = 6
    image.save(path, exif=exif, quality=100, subsampling=0)
    picture = read_picture(path)
    assert (picture.width, picture.height) == (40, 60)
    part = cut_out(picture, Box.between((40, 60), (20, 0), (40, 20)))
    assert part.name == "turned.jpg[20,0,20,20]"
    assert load_rgb(part).tobytes() == load_rgb(picture).crop((20, 0, 40, 20)).tobytes()
    typed = read_source(f"{path}[20,0,20,20]")
    assert isinstance(typed, Picture)
    assert typed.digest == part.digest


def test_what_is_outside_the_box_is_darker() -> None:
    shown = marked(Image.new("RGB", (20, 10), (200, 200, 200)), Box.between((200, 100), (50, 20), (100, 60)))
    inside, outside = shown.getpixel((5, 2)), shown.getpixel((4, 2))
    assert inside == (200, 200, 200)
    assert outside == (70, 70, 70)
    assert shown.getpixel((9, 5)) == (200, 200, 200)
    assert shown.getpixel((10, 6)) == (70, 70, 70)


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "sixel"),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/x"}, "half-block"),
        ({"TERM": "tmux-256color"}, "half-block"),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, "half-block"),
        ({"TERM": "xterm-256color"}, "half-block"),
        ({}, "half-block"),
    ],
)
def test_what_a_terminal_can_draw(environ: dict[str, str], kind: str) -> None:
    assert drawing("auto", environ) == kind
    assert drawing("off", environ) == "off"
    assert drawing("sixel", environ) == "sixel"


@given(SIZES, st.tuples(st.integers(1, 200), st.integers(1, 60)))
def test_a_picture_fits_its_room(size: tuple[int, int], room: tuple[int, int]) -> None:
    columns, rows = cells_for(size, room, "half-block")
    assert 1 <= columns <= room[0]
    assert 1 <= rows <= room[1]
    assert pixels_of((columns, rows), "half-block") == (columns, 2 * rows)


def test_the_library_is_not_let_at_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.__stdout__
    from vlmchat.tui import graphics

    graphics._makers.cache_clear()
    for name in [name for name in sys.modules if name.startswith("textual_image")]:
        monkeypatch.delitem(sys.modules, name)
    asked: list[object] = []

    def read(*what: object) -> bytes:
        asked.append(what)
        return b""

    monkeypatch.setattr(os, "read", read)
    graphics._makers()
    assert sys.__stdout__ is before
    assert not asked
    graphics._makers.cache_clear()


def put(path: Path, age: float, data: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


@pytest.fixture
def places_to_look(tmp_path: Path) -> tuple[Path, Path]:
    """A working folder and a home, with pictures of known ages."""
    here, home = tmp_path / "work", tmp_path / "home"
    put(here / "old.png", 500)
    put(here / "scans" / "invoice.JPG", 100)
    put(here / "clip.mp4", 1)
    put(here / "notes.txt", 0)
    put(here / ".git" / "hidden.png", 0)
    put(here / "node_modules" / "icon.png", 0)
    put(home / "Downloads" / "cat.webp", 300)
    (home / "Downloads" / "loop").symlink_to(home)
    return here, home


def test_pictures_come_first_and_the_newest_of_them(places_to_look: tuple[Path, Path]) -> None:
    found = candidates(lambda: False, *places_to_look)
    assert [it.shown for it in found] == ["scans/invoice.JPG", "~/Downloads/cat.webp", "old.png", "clip.mp4"]
    assert [it.is_video for it in found] == [False, False, False, True]
    assert candidates(lambda: True, *places_to_look) == []


def test_letters_in_order_find_a_picture(places_to_look: tuple[Path, Path]) -> None:
    known = candidates(lambda: False, *places_to_look)
    assert [it.path.name for it in matching("ivc", known, lambda: False)] == ["invoice.JPG"]
    assert matching("xyz", known, lambda: False) == []
    # The name counts more than the folder above it.
    assert matching("c", known, lambda: False)[0].path.name == "cat.webp"
    assert [it.path.name for it in matching("clip", known, lambda: False)] == ["clip.mp4"]
    assert matching("c", known, lambda: True) == []
    assert len(matching("", known, lambda: False)) == 4


def test_a_folder_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    assert candidates(lambda: False, tmp_path / "nowhere", tmp_path) == []


def tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="Pillow reads the clipboard there")
def test_the_clipboard_is_read_with_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, bin_ = draw_picture(tmp_path / "copied.png"), tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.setenv("PATH", str(bin_))
    with pytest.raises(ImageError, match="Nothing here can read a picture") as none:
        clipboard.clipboard_picture()
    assert "wl-clipboard" in none.value.hint
    tool(bin_, "wl-paste", "echo no such type >&2; exit 1")
    with pytest.raises(ImageError, match="no picture in the clipboard"):
        clipboard.clipboard_picture()
    tool(bin_, "xclip", f'exec /bin/cat "{picture}"')
    found = clipboard.clipboard_picture()
    assert (found.name, found.width) == ("clipboard.png", 64)
    tool(bin_, "wl-paste", "echo this is text")
    with pytest.raises(ImageError, match="not a picture"):
        clipboard.clipboard_picture()


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="Pillow reads the clipboard there")
def test_a_clipboard_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path / "bin", "xclip", "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(clipboard, "_PATIENCE_S", 0.05)
    with pytest.raises(ImageError, match="no picture in the clipboard"):
        clipboard.clipboard_picture()


def tile(size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, "red")


def picture(name: str = "a.png") -> Picture:
    return Picture(name * 8, name, "image/png", 30, 20)


def test_a_page_says_how_a_picture_is_cut() -> None:
    cut = Sight(picture(), 112, 7, 3, 2, "last", tuple(tile() for _ in range(7)))
    about = Page("a.png", (cut,)).about
    assert "7 tiles of 8x8" in about
    assert "3 x 2 and the whole picture" in about
    assert "7 x 16 = 112 tokens" in about
    whole = Sight(picture(), 1302, 1, images=(tile((1344, 1344)),))
    assert Page("a.png", (whole,)).about == "one square of 1344x1344 · 1,302 tokens"
    frames = tuple(Sight(picture(f"c.mp4@{at}.0s"), 66, 1, images=(tile(),)) for at in range(3))
    video = Page("c.mp4", frames, is_video=True, times=(0.0, 1.0, None))
    assert "3 frames of 8x8 · 3 x 66 = 198 tokens" in video.about
    assert video.picture is None
    assert Page("a.png", (cut,)).picture == cut.picture


def test_tiles_lie_as_they_do_in_the_picture() -> None:
    images = tuple(tile((at + 1, 1)) for at in range(7))
    last = grid_plan(Sight(picture(), 112, 7, 3, 2, "last", images), (80, 20))
    cells, whole = last.blocks
    assert [[cell.image.width for cell in row] for row in cells] == [[1, 2, 3], [4, 5, 6]]
    assert whole[0][0].image.width == 7
    assert whole[0][0].caption == "whole · 16"
    first = grid_plan(Sight(picture(), 112, 7, 3, 2, "first", images), (80, 20))
    assert first.blocks[0][0][0].image.width == 1
    assert [[cell.image.width for cell in row] for row in first.blocks[1]] == [[2, 3, 4], [5, 6, 7]]
    alone = grid_plan(Sight(picture(), 16, 1, images=images[:1]), (80, 20))
    assert len(alone.blocks) == 1
    assert alone.room[0] <= 80


def test_frames_fill_the_rows_there_is_room_for() -> None:
    frames = tuple(Sight(picture(), 66, 1, images=(tile(),)) for _ in range(5))
    plan = frames_plan(Page("c", frames, is_video=True, times=(0.0, 1.5, 3.0, 61.25, None)), (40, 20))
    captions = [cell.caption for row in plan.blocks[0] for cell in row]
    assert captions == ["1 · 0:00.0 · 66", "2 · 0:01.5 · 66", "3 · 0:03.0 · 66", "4 · 1:01.2 · 66", "5 · 66"]
    assert len(plan.blocks[0][0]) == 2
    assert time_of(59.96) == "1:00.0"


class OneOnly(ScriptedEngine):
    """Takes one picture and no video, as CogVLM2 does."""

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        media = request.messages[-1].media
        if len(media) > 1 or isinstance(media[0], Video):
            raise InputError("One picture only.")
        return super().view(request, draw)


def test_pictures_that_cannot_go_together_are_seen_one_by_one(tmp_path: Path) -> None:
    media = tuple(read_picture(draw_picture(tmp_path / f"{name}.png", color=name)) for name in ("red", "blue"))
    assert [page.name for page in pages(OneOnly(), media, VisionOptions())] == ["red.png", "blue.png"]
    assert costs(OneOnly(), media, VisionOptions()) == {it.digest: 16 for it in media}
    assert costs(OneOnly(), (*media, Video("v", "clip")), VisionOptions()) == {it.digest: 16 for it in media}
    with pytest.raises(InputError):
        pages(OneOnly(), (Video("v", "clip"),), VisionOptions())


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypisom\0\0\0\0", b"\x1a\x45\xdf\xa3" * 4, b"RIFF\0\0\0\0AVI LIST"])
def test_a_video_is_known_by_its_content(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "clip.png"
    path.write_bytes(head)
    with pytest.raises(VideoError):
        read_source(str(path))


def test_stills_in_the_container_of_videos_are_pictures(tmp_path: Path) -> None:
    path = tmp_path / "still.mp4"
    Image.new("RGB", (16, 16), "red").save(path, "AVIF")
    found = read_source(str(path))
    assert isinstance(found, Picture)
    assert found.media_type == "image/avif"


def test_hostile_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(whole, "PNG")
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.getvalue()[:-200])
    huge = tmp_path / "huge.bmp"
    huge.write_bytes(b"BM" + struct.pack("<IHHIIiiHHIIIIII", 0, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0))
    for path, words in ((cut, "damaged or cut short"), (huge, "pixels")):
        with pytest.raises(ImageError, match=words) as refused:
            read_source(str(path))
        assert refused.value.message.count(".") <= 3
        assert "\n" not in refused.value.message


def test_a_draft_keeps_its_videos(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    draft = Draft("What happens?", (), (Video("d" * 64, "clip.mp4", path=clip),))
    Memory(tmp_path / "state").keep(draft)
    assert Memory.read(tmp_path / "state").draft == draft
    clip.unlink()
    assert Memory.read(tmp_path / "state").draft == Draft("What happens?")


def test_media_are_added_once() -> None:
    one, two, video = picture("a"), picture("b"), Video("v", "v")
    draft = Draft("", (one,)).with_media((one, video, two, video))
    assert draft == Draft("", (one, two), (video,))
    assert draft.before(Draft("later", (two,))) == Draft("later", (one, two), (video,))


@dataclass
class CheckpointEngine(ScriptedEngine):
    """Lays pictures and videos out as a real checkpoint does."""

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Ask the checkpoint."""
        return sights(open_checkpoint(QWEN2 / "checkpoint"), request.messages, request.vision, draw)


def test_a_video_is_seen_frame_by_frame_with_its_times(tmp_path: Path) -> None:
    clip = read_source(str(write(tmp_path / "clip.mp4", "mpeg4", 0, 12)))
    assert isinstance(clip, Video)
    still = read_picture(draw_picture(tmp_path / "disc.png"))
    first, second = pages(CheckpointEngine(), (still, clip), VisionOptions())
    assert (first.name, first.is_video) == ("disc.png", False)
    assert (second.name, second.is_video, len(second.sights)) == ("clip.mp4", True, 8)
    times = [time for time in second.times if time is not None]
    assert len(times) == 8
    assert times == sorted(times)
    assert 0 <= times[0] < 0.2
    assert 1.3 < times[-1] < 1.6
    found = costs(CheckpointEngine(), (still, clip), VisionOptions())
    assert found[clip.digest] == second.tokens == 8 * second.sights[0].tokens
