"""The box: how paths become chips, what happens to bad ones, chips removed, questions recalled."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Paste

from tests.tui.helpers import Driven, GatedEngine, build, draw_picture, driven, plain
from vlmchat.tui.widgets.chips import Chip
from vlmchat.tui.widgets.prompt import PromptBox


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A picture whose name has a blank."""
    return draw_picture(tmp_path / "a disc.png", (64, 48))


async def paste(run: Driven, text: str) -> None:
    """Send ``text`` as a terminal sends a drop or a paste."""
    run.app.post_message(Paste(text))
    await run.pilot.pause()


@pytest.mark.parametrize("form", ["{path}", "'{path}'", '"{path}"', "{escaped}", "{url}", " {path}\n", "{path}\r"])
async def test_paste_of_a_path_becomes_a_chip(disc: Path, form: str) -> None:
    text = form.format(path=disc, escaped=str(disc).replace(" ", "\\ "), url=disc.as_uri())
    async with driven(build()) as run:
        await paste(run, text)
        await run.until(lambda: run.draft.pictures)
        assert run.draft.text == ""
        assert "a disc.png 64x48" in plain(run.chat.query_one(Chip))


@pytest.mark.parametrize("joint", [" ", "\n"])
async def test_several_paths_in_one_drop(tmp_path: Path, disc: Path, joint: str) -> None:
    other = draw_picture(tmp_path / "other.jpg", color="blue")
    async with driven(build()) as run:
        await paste(run, joint.join(f"'{path}'" for path in (disc, other)))
        await run.until(lambda: len(run.draft.pictures) == 2)
        assert [picture.name for picture in run.draft.pictures] == ["a disc.png", "other.jpg"]


async def test_the_same_picture_is_attached_once(disc: Path) -> None:
    async with driven(build()) as run:
        await paste(run, str(disc))
        await run.until(lambda: run.draft.pictures)
        await paste(run, str(disc))
        await paste(run, "word")
        await run.until(lambda: run.draft.text == "word")
        assert len(run.draft.pictures) == 1


async def test_other_pastes_are_typed(tmp_path: Path) -> None:
    async with driven(build()) as run:
        await paste(run, "two\r\nlines \x1b[31mred\x1b[0m")
        await run.until(lambda: run.draft.text)
        assert run.draft.text == "two\nlines [31mred[0m"
        await paste(run, f"{tmp_path}/nothing.png")
        await run.until(lambda: "nothing.png" in run.draft.text)
        assert not run.draft.pictures


async def test_typed_path_becomes_a_chip_when_its_word_ends(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "disc.png")
    async with driven(build()) as run:
        await paste(run, f"what is in {picture}")
        await run.pilot.press("space", *"here")
        await run.until(lambda: run.draft.pictures and run.draft.text == "what is in here")


async def test_enter_on_a_lone_path_attaches_and_does_not_send(disc: Path) -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.ask(str(disc))
        await run.until(lambda: run.draft.pictures)
        assert run.draft.text == ""
        assert not run.questions
        await run.pilot.press("enter")
        assert "Type a question" in run.toasts
        assert run.draft.pictures


async def test_enter_on_a_question_with_a_path_sends_both(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "disc.png")
    async with driven(build()) as run:
        await run.ready()
        await run.asked(f"What is in {picture}?")
        assert run.questions == ["What is in?"]
        assert "disc.png" in plain(run.chat.transcript)
        assert not run.draft


async def test_bad_picture_is_explained_and_the_text_stays(tmp_path: Path) -> None:
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"no picture at all")
    async with driven(build()) as run:
        await run.ready()
        text = f"What is {fake}"
        await run.ask(text)
        await run.until(lambda: "not a picture" in run.toasts)
        assert run.draft.text == text
        assert not run.questions
        await run.pilot.press("enter")
        await run.until(lambda: run.questions)
        assert run.questions == [text]
        await run.idle()
        await paste(run, str(fake))
        await run.until(lambda: run.draft.text == str(fake))


async def test_missing_picture_is_explained(tmp_path: Path) -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.ask(f"What is {tmp_path}/missing.png?")
        await run.until(lambda: "There is no file" in run.toasts)
        assert "Enter again sends it" in run.toasts
        assert not run.questions


async def test_words_with_slashes_are_words(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("words")
    async with driven(build()) as run:
        await run.ready()
        await run.asked(f"Is and/or in {notes} or /nowhere at all?")
        assert run.questions == [f"Is and/or in {notes} or /nowhere at all?"]


async def test_chips_are_removed_by_one_key(tmp_path: Path) -> None:
    paths = [draw_picture(tmp_path / f"{color}.png", color=color) for color in ("red", "blue", "green", "black")]
    async with driven(build()) as run:
        await paste(run, "\n".join(map(str, paths)))
        await run.until(lambda: len(run.draft.pictures) == 4)
        await run.write("x")
        await run.pilot.press("home", "backspace")
        await run.until(lambda: len(run.draft.pictures) == 3)
        assert run.draft.text == "x"
        await run.pilot.press("f8")
        await run.until(lambda: len(run.draft.pictures) == 2)
        await run.pilot.press("shift+tab")
        await run.until(lambda: isinstance(run.app.focused, Chip))
        await run.pilot.press("delete")
        await run.until(lambda: len(run.draft.pictures) == 1)
        assert run.app.focused is run.chat.prompt.area
        await run.pilot.click(Chip)
        await run.until(lambda: not run.draft.pictures)
        assert run.draft.text == "x"


async def test_chip_is_left_with_escape(disc: Path) -> None:
    async with driven(build()) as run:
        await paste(run, str(disc))
        await run.until(lambda: run.draft.pictures)
        await run.pilot.press("shift+tab", "escape")
        await run.until(lambda: run.app.focused is run.chat.prompt.area)
        assert run.draft.pictures


async def test_enter_sends_and_ctrl_j_breaks_the_line() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.pilot.press("a", "ctrl+j", "b")
        assert run.draft.text == "a\nb"
        await run.pilot.press("enter")
        await run.until(lambda: run.questions == ["a\nb"])


async def test_empty_box_sends_nothing() -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.pilot.press("space", "enter")
        assert not run.questions


async def test_up_recalls_questions_with_their_pictures(disc: Path) -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.pilot.press("up")
        await run.until(lambda: "No earlier question" in run.toasts)
        await paste(run, str(disc))
        await run.until(lambda: run.draft.pictures)
        await run.asked("First.")
        await run.asked("Second.")
        await run.pilot.press("up")
        await run.until(lambda: run.draft.text == "Second.")
        await run.pilot.press("up")
        await run.until(lambda: run.draft.text == "First.")
        assert [picture.name for picture in run.draft.pictures] == ["a disc.png"]
        await run.pilot.press("down")
        await run.until(lambda: run.draft.text == "Second.")
        await run.pilot.press("down")
        await run.until(lambda: not run.draft)
        await run.pilot.press("down", "up")
        await run.until(lambda: run.draft.text == "Second.")
        await run.pilot.press("x", "up")
        await run.pilot.pause()
        assert run.draft.text == "Second.x"


async def test_up_leaves_a_draft_alone_that_has_a_picture(disc: Path) -> None:
    async with driven(build()) as run:
        await run.ready()
        await run.asked("First.")
        await paste(run, str(disc))
        await run.until(lambda: run.draft.pictures)
        await run.pilot.press("up")
        await run.pilot.pause()
        assert run.draft.pictures
        assert not run.draft.text


async def test_up_moves_in_a_longer_text() -> None:
    async with driven(build()) as run:
        await run.pilot.press("a", "ctrl+j", "b", "up")
        assert run.chat.prompt.area.cursor_location[0] == 0
        assert run.draft.text == "a\nb"


async def test_box_grows_with_its_text_and_stops() -> None:
    async with driven(build()) as run:
        low = run.chat.query_one(PromptBox).size.height
        await run.pilot.press("a", *["ctrl+j"] * 20)
        await run.pilot.pause()
        assert low < run.chat.query_one(PromptBox).size.height <= 12


async def test_the_caret_stays_where_one_types_while_text_streams() -> None:
    engine = GatedEngine(answers=(["line\n\n"] * 40,))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Go on.")
        await run.until(lambda: run.desk.answering)
        await run.write("你好")
        for lines in range(5, 45, 5):
            engine.let(5)
            await run.until(lambda: run.answers[0].text.count("line") >= lines)  # noqa: B023 - awaited at once
            area = run.chat.prompt.area
            assert run.app.cursor_position == area.cursor_screen_offset
            assert run.app.cursor_position.x == area.content_region.x + 4
        await run.pilot.press("escape")
        await run.idle()
