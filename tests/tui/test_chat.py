"""The chat screen: ask, stream, stop, follow up, queue, fail, begin anew."""

from __future__ import annotations

from tests.fakes import ScriptedEngine
from tests.tui.helpers import GatedEngine, build, driven
from vlmchat.store.chats import ChatStore


async def test_answer_is_streamed_and_stored() -> None:
    store = ChatStore()
    async with driven(build(store=store)) as run:
        await run.ready()
        await run.asked("What is this?")
        assert run.questions == ["What is this?"]
        assert run.answers[0].text == "A red circle."
        assert run.draft.text == ""
    chat = store.chat(store.chats()[0].id)
    assert [turn.message.text for turn in chat.branch()] == ["What is this?", "A red circle."]


async def test_stop_keeps_the_text() -> None:
    engine = GatedEngine(answers=(("one ", "two ", "three "),))
    engine.may_load.set()
    store = ChatStore()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        await run.ask("Count.")
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text)
        await run.pilot.press("escape")
        await run.idle()
        assert run.answers[0].text.startswith("one")
    turns = store.chat(store.chats()[0].id).branch()
    assert turns[-1].status == "interrupted"


async def test_first_frame_names_the_model_and_takes_typing() -> None:
    engine = GatedEngine()
    async with driven(build(engine)) as run:
        await run.type("hi")
        assert run.draft.text == "hi"
        engine.may_load.set()
        await run.ready()
