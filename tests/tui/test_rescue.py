"""What does not fit: a choice with numbers, taken with one key; and the settings of a chat."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, build, draw_picture, driven, plain
from vlmchat.errors import DoesNotFit, OutOfMemory
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.panel import ChoicePanel
from vlmchat.tui.screens.settings import SettingsScreen


async def offered(run: Driven) -> str:
    """Wait for the panel and return what it says, blanks joined."""
    await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
    await run.pilot.pause()
    return " ".join(plain(run.app.screen).replace("│", " ").split())


def answered(run: Driven, count: int) -> bool:
    return len(run.answers) == count and not run.chat.flow.busy


async def ask_about(run: Driven, path: Path, color: str, text: str) -> None:
    await run.chat.prompt.put(Draft(text, (read_picture(draw_picture(path, color=color)),)))
    await run.pilot.press("enter")


async def test_an_overflow_is_a_choice_with_numbers_before_anything_is_lost(tmp_path: Path) -> None:
    engine = ScriptedEngine(tiles=12, context_tokens=16 * 12 * 2 + 100)
    store = ChatStore()
    async with driven(build(engine, store=store), (100, 30)) as run:
        await run.ready()
        for at, color in enumerate(("red", "green")):
            await ask_about(run, tmp_path / f"{at}.png", color, f"question {at}")
            await run.until(partial(answered, run, at + 1))
        await ask_about(run, tmp_path / "2.png", "blue", "question 2")
        page = await offered(run)
        assert "588 tokens, 576 of them pictures" in page
        assert "At most 6 tiles per picture: 300 of 484 tokens" in page
        assert "Without the 2 oldest turns and their picture; they stay" in page
        assert "A new chat with this question alone: 194 of 484 tokens" in page
        assert run.draft.text == "question 2"
        assert [turn.message.text for turn in store.chat(store.chats()[0].id).branch()][-1] == "A red circle."
        await run.pilot.press("2")
        await run.until(lambda: len(run.answers) == 3 and not run.chat.flow.busy)
        assert run.draft == Draft()
    assert [message.text for message in engine.requests[-1].messages] == ["question 1", "A red circle.", "question 2"]
    assert len(store.chat(store.chats()[0].id).turns) == 6


async def test_a_new_chat_takes_the_question_along() -> None:
    engine = ScriptedEngine(context_tokens=120)
    async with driven(build(engine), (100, 30)) as run:
        await run.ready()
        await run.asked("first " * 40)
        await run.ask("second " * 20)
        page = await offered(run)
        assert "1 A new chat with this question alone: 20 of 120 tokens" in page
        await run.pilot.press("1")
        await run.until(partial(answered, run, 1))
        assert run.questions == ["second " * 20]
    assert [message.text.split()[0] for message in engine.requests[-1].messages] == ["second"]


async def test_out_of_memory_offers_smaller_settings_and_the_chat_survives() -> None:
    engine = ScriptedEngine(answers=(OutOfMemory("The device is full.", "Use less."), ("fine",)))
    async with driven(build(engine), (100, 30)) as run:
        await run.ready()
        await run.ask("Describe it.")
        page = await offered(run)
        assert "The device is full." in page
        assert "Load the model in 8-bit: weights of about 250 B, not 1.0 kB" in page
        assert "back in the box" in page
        await run.pilot.press("1")
        await run.until(lambda: run.answers and run.answers[0].text == "fine")
        assert engine.loads[-1][1].quantization == "8-bit"


async def test_a_model_that_does_not_fit_can_be_loaded_smaller() -> None:
    engine = ScriptedEngine(load_error=DoesNotFit("Too large.", "Pick a smaller one."))
    async with driven(build(engine), (100, 30)) as run:
        page = await offered(run)
        assert "1 Load the model in 8-bit" in page
        engine.load_error = None
        await run.pilot.press("2")
        await run.ready()
        assert engine.loads[-1][1].quantization == "4-bit"


async def test_the_meter_says_how_full_the_context_is() -> None:
    async with driven(build(), (100, 30)) as run:
        await run.ready()
        await run.write("one two three")
        await run.until(lambda: run.chat.status.meter == (3, 1000))
        assert "3/1,000" in plain(run.chat.status)


async def test_settings_are_checked_kept_with_the_chat_and_recorded() -> None:
    engine = ScriptedEngine()
    store = ChatStore()
    async with driven(build(engine, store=store), (100, 40)) as run:
        await run.ready()
        await run.pilot.press("f9")
        await run.until(lambda: isinstance(run.app.screen, SettingsScreen))
        await run.pilot.press(*"Brief.", "down", "backspace", "backspace", "backspace", *"hot", "enter")
        await run.until(lambda: "Temperature must be a number, not" in plain(run.app.screen))
        await run.pilot.press("backspace", "backspace", "backspace", *"0.5", "enter")
        await run.until(lambda: run.app.screen is run.chat)
        await run.asked("First?")
        await run.pilot.press("ctrl+n")
        await run.asked("Second?")
        first = next(chat.id for chat in store.chats() if chat.title == "First?")
        await run.chat.chats.open(first)
        await run.asked("Third?")
    assert [request.sampling.temperature for request in engine.requests] == [0.5, 0.0, 0.5]
    assert [request.messages[0].text for request in engine.requests] == ["Brief.", "Second?", "Brief."]
    made = store.chat(first).branch()[-1].provenance
    assert made is not None
    assert made.settings["temperature"] == 0.5
