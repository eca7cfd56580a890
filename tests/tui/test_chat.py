"""The chat screen: ask, stream, stop, follow up, queue, fail, begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from tests.fakes import ScriptedEngine
from tests.tui.helpers import GatedEngine, build, draw_picture, driven, plain
from vlmchat.engine.api import PromptSize, Request
from vlmchat.engine.events import AnswerEvent, Delta, Encoding, Finished, Loading, Prefill
from vlmchat.errors import CheckpointError, ContextOverflow, OutOfMemory
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore
from vlmchat.tui import bridge
from vlmchat.tui.memory import Draft
from vlmchat.tui.screens.panel import ChoicePanel, LinkPanel
from vlmchat.tui.widgets.answer import AnswerText
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.status import StatusLine
from vlmchat.tui.widgets.turn import QuestionView


async def test_answer_is_streamed_stored_and_measured() -> None:
    store = ChatStore()
    async with driven(build(store=store), (100, 30)) as run:
        await run.ready()
        await run.asked("What is this?")
        assert run.questions == ["What is this?"]
        assert run.answers[0].text == "A red circle."
        assert run.draft.text == ""
        stats = plain(run.answers[0].query_one(".stats"))
        assert "20 ms to first token" in stats
        assert "25.0 tok/s" in stats
        assert "3 tokens" in stats
        assert "finished" in stats
        assert "scripted" in stats
    chat = store.chat(store.chats()[0].id)
    assert [turn.message.text for turn in chat.branch()] == ["What is this?", "A red circle."]


async def test_follow_up_carries_the_history() -> None:
    engine = ScriptedEngine()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.asked("What is this?")
        await run.asked("What colour?")
        assert len(run.answers) == 2
    assert [message.text for message in engine.requests[1].messages] == [
        "What is this?",
        "A red circle.",
        "What colour?",
    ]


async def test_stop_keeps_the_text() -> None:
    engine = GatedEngine(answers=(("one ", "two ", "three "),))
    engine.may_load.set()
    store = ChatStore()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        await run.ask("Count.")
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text)
        assert "Esc" in run.text_of(KeyHints)
        await run.pilot.press("escape")
        await run.idle()
        assert run.answers[0].text.startswith("one")
        assert "three" not in run.answers[0].text
        assert "stopped" in plain(run.answers[0].query_one(".stats"))
        assert "Esc" not in run.text_of(KeyHints)
        await run.pilot.press("up")
        await run.until(lambda: run.draft.text == "Count.")
    turns = store.chat(store.chats()[0].id).branch()
    assert turns[-1].status == "interrupted"
    assert turns[-1].message.text.startswith("one")


async def test_first_frame_names_the_model_and_takes_typing() -> None:
    engine = GatedEngine()
    async with driven(build(engine)) as run:
        assert "scripted" in run.text_of(StatusLine)
        assert "loading" in run.text_of(StatusLine)
        await run.write("hi")
        assert run.draft.text == "hi"
        engine.may_load.set()
        await run.ready()
        await run.until(lambda: "ready" in run.text_of(StatusLine))
        assert "cpu · fp32" in run.text_of(StatusLine)


async def test_question_waits_for_the_model() -> None:
    engine = GatedEngine(answers=(("yes",),))
    async with driven(build(engine)) as run:
        await run.ask("Ready?")
        await run.until(lambda: run.desk.queued)
        assert run.questions == ["Ready?"]
        assert "waiting for the model" in plain(run.chat.query_one(QuestionView))
        await run.ask("Another?")
        assert run.draft.text == "Another?"
        assert "waiting for the model already" in run.toasts
        engine.may_load.set()
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text == "yes" and not run.desk.answering)
        assert "waiting" not in plain(run.chat.query_one(QuestionView))
        assert run.draft.text == "Another?"


async def test_waiting_question_is_taken_back_with_its_pictures(tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png"))
    async with driven(build(GatedEngine())) as run:
        await run.chat.prompt.put(Draft("Ready?", (picture,)))
        await run.pilot.press("enter")
        await run.until(lambda: run.desk.queued)
        await run.write("more")
        await run.pilot.press("escape")
        await run.until(lambda: run.draft.pictures)
        assert run.draft == Draft("Ready?\nmore", (picture,))
        assert run.questions == []
        assert "Everything stays on this machine" in plain(run.chat.transcript)


async def test_failed_load_shows_a_panel_and_returns_the_question() -> None:
    engine = GatedEngine(load_error=CheckpointError("The folder is [b]empty[/b].", "Name another one."))
    async with driven(build(engine)) as run:
        await run.ask("Ready?")
        await run.until(lambda: run.desk.queued)
        engine.may_load.set()
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.pilot.pause()
        panel = plain(run.app.screen)
        assert "The folder is [b]empty[/b]." in panel
        assert "Name another one." in panel
        assert "back in the box" in panel
        assert "Traceback" not in panel
        await run.pilot.press("escape")
        assert run.app.screen is run.chat
        assert run.draft.text == "Ready?"
        assert "not loaded" in run.text_of(StatusLine)
        await run.pilot.press("enter")
        assert "No model is loaded" in run.toasts
        assert run.draft.text == "Ready?"


async def test_panel_leads_to_the_models() -> None:
    async with driven(build(ScriptedEngine(load_error=CheckpointError("No.")))) as run:
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.pilot.press("1")
        await run.until(lambda: getattr(run.app.screen, "scope", "") == "models")


async def test_failed_answer_returns_question_and_pictures(tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png"))
    engine = ScriptedEngine(answers=(ContextOverflow("4,000 tokens do not fit into 1,000.", "Begin a new chat."),))
    async with driven(build(engine)) as run:
        await run.ready()
        await run.chat.prompt.put(Draft("Describe it.", (picture,)))
        await run.pilot.press("enter")
        await run.until(lambda: run.draft.pictures)
        assert run.draft == Draft("Describe it.", (picture,))
        assert run.questions == []
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.pilot.pause()
        assert "4,000 tokens do not fit into 1,000." in plain(run.app.screen)
        assert "Begin a new chat." in plain(run.app.screen)
        await run.pilot.press("escape")
        assert "ready" in run.text_of(StatusLine)


async def test_what_was_typed_meanwhile_follows_the_returned_question() -> None:
    engine = GatedEngine(answers=(("one ", "two "),))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Count.")
        await run.until(lambda: run.desk.answering)
        await run.write("and then")
        assert run.desk.answering is not None
        run.chat.post_message(bridge.AnswerFailed(run.desk.answering.id, ContextOverflow("Full.")))
        await run.until(lambda: run.draft.text == "Count.\nand then")


async def test_out_of_memory_is_a_panel_and_the_chat_lives() -> None:
    engine = ScriptedEngine(answers=(OutOfMemory("The device is full.", "Use fewer tiles."), ("fine",)))
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Describe it.")
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.pilot.press("escape")
        assert run.draft.text == "Describe it."
        await run.pilot.press("enter")
        await run.until(lambda: run.answers and run.answers[0].text == "fine")


async def test_unforeseen_error_is_one_sentence_and_a_log(own_home: Path) -> None:
    class Broken(ScriptedEngine):
        def measure(self, request: Request) -> PromptSize:
            raise ZeroDivisionError("oops")

    async with driven(build(Broken())) as run:
        await run.ready()
        await run.ask("Divide.")
        await run.until(lambda: "ZeroDivisionError: oops" in run.toasts)
        assert "Traceback" not in run.toasts
        assert run.draft.text == "Divide."
    assert "Traceback" in (own_home / "state" / "app.log").read_text(encoding="utf-8")


async def test_messages_of_other_work_are_dropped() -> None:
    engine = GatedEngine(answers=(("one ", "two "),))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Count.")
        await run.until(lambda: run.desk.answering)
        stranger = bridge.Arrived()
        stranger.add("from another answer")
        for message in (
            bridge.AnswerText("other", stranger),
            bridge.AnswerProgress("other", Prefill(1, 2, 0)),
            bridge.AnswerFailed("other", ContextOverflow("Wrong.")),
            bridge.ModelFailed("other", CheckpointError("Wrong.")),
            bridge.ModelLoading("other", Loading("weights", 1, 2, 1, 1)),
            bridge.ModelReady("other", "impostor", "", None),
        ):
            run.chat.post_message(message)
        engine.let(2)
        await run.idle()
        assert run.answers[0].text == "one two"
        assert run.desk.model is not None
        assert run.desk.model.name != "impostor"
        assert "Wrong." not in run.toasts
        assert run.app.screen is run.chat


async def test_new_chat_while_answering_keeps_the_half_answer() -> None:
    engine = GatedEngine(answers=(("one ", "two "), ("three",)))
    engine.may_load.set()
    store = ChatStore()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        await run.ask("Count.")
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text)
        await run.pilot.press("ctrl+n")
        await run.until(lambda: not run.answers)
        engine.let(2)
        await run.asked("Again.")
        assert run.questions == ["Again."]
        assert run.answers[0].text == "three"
    texts = {chat.title: store.chat(chat.id).branch()[-1].message.text for chat in store.chats()}
    assert texts == {"Count.": "one", "Again.": "three"} or texts["Count."].startswith("one")


async def test_progress_is_shown() -> None:
    engine = GatedEngine(answers=(("one",),))
    engine.may_load.set()
    async with driven(build(engine), (100, 30)) as run:
        await run.ready()
        await run.ask("Look.")
        await run.until(lambda: run.desk.answering)
        work = run.desk.answering
        assert work is not None
        run.chat.post_message(bridge.AnswerProgress(work.id, Encoding(1, 2, 3, 13)))
        await run.until(lambda: "picture 1/2 · tile 3/13" in run.text_of(StatusLine))
        run.chat.post_message(bridge.AnswerProgress(work.id, Prefill(512, 2048, 0)))
        await run.until(lambda: "prefill 512/2,048" in run.text_of(StatusLine))
        engine.let(1)
        await run.idle()


def test_load_progress_has_words_for_every_stage() -> None:
    line = StatusLine()
    for stage in ("libraries", "config", "tokenizer", "weights", "audit", "ready"):
        line.show_progress(Loading(stage, 500, 1000, 1, 2))
        assert line.activity


async def test_scrolled_away_stays_where_it_is() -> None:
    engine = GatedEngine(answers=(["line\n\n"] * 60,))
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Go on.")
        engine.let(40)
        await run.until(lambda: run.answers and run.answers[0].text.count("line") == 40)
        await run.until(lambda: run.chat.transcript.max_scroll_y > 0)
        await run.until(lambda: run.chat.transcript.scroll_y == run.chat.transcript.max_scroll_y)
        await run.pilot.press("pageup")
        await run.pilot.pause()
        at = run.chat.transcript.scroll_y
        assert at < run.chat.transcript.max_scroll_y
        engine.let(20)
        await run.idle()
        assert run.chat.transcript.scroll_y == at
        for _ in range(20):
            await run.pilot.press("pagedown")
        await run.until(lambda: run.chat.transcript.scroll_y == run.chat.transcript.max_scroll_y)


async def test_link_shows_its_target_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    async with driven(build(ScriptedEngine(answers=(("See [here](https://example.org/a).",),)))) as run:
        monkeypatch.setattr(run.app, "open_url", opened.append)
        await run.ready()
        await run.asked("Where?")
        block = run.answers[0].query_one(AnswerText).children[0]
        await block.run_action("link('https://example.org/a')")
        await run.until(lambda: isinstance(run.app.screen, LinkPanel))
        await run.pilot.pause()
        assert "https://example.org/a" in plain(run.app.screen)
        assert not opened
        await run.pilot.press("o")
        await run.until(lambda: run.app.screen is run.chat)
        assert opened == ["https://example.org/a"]


async def test_copy_takes_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driven(build(ScriptedEngine(answers=(("one",), ("**two**",))))) as run:
        copied: list[str] = []
        monkeypatch.setattr(run.app, "copy_to_clipboard", copied.append)
        await run.ready()
        await run.pilot.press("ctrl+g")
        assert "no answer to copy" in run.toasts
        await run.asked("First.")
        await run.asked("Second.")
        await run.pilot.press("ctrl+g")
        assert copied == ["**two**"]


async def test_quit_in_mid_answer_keeps_everything() -> None:
    engine = GatedEngine(answers=(("one ", "two ", "three "),))
    engine.may_load.set()
    store = ChatStore()
    async with driven(build(engine, store=store)) as run:
        await run.ready()
        await run.ask("Count.")
        engine.let(1)
        await run.until(lambda: run.answers and run.answers[0].text)
        await run.write("next question")
        await run.pilot.press("ctrl+q")
    turns = store.chat(store.chats()[0].id).branch()
    assert [turn.status for turn in turns] == ["complete", "interrupted"]
    assert turns[1].message.text.startswith("one")
    assert engine.closed
    async with driven(build()) as run:
        await run.until(lambda: run.draft.text == "next question")


async def test_quit_while_a_question_waits_keeps_it(tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png"))
    async with driven(build(GatedEngine())) as run:
        await run.chat.prompt.put(Draft("Ready?", (picture,)))
        await run.pilot.press("enter")
        await run.until(lambda: run.desk.queued)
        await run.pilot.press("ctrl+q")
    (tmp_path / "disc.png").unlink()
    async with driven(build()) as run:
        await run.until(lambda: run.draft.pictures)
        assert run.draft.text == "Ready?"
        assert run.draft.pictures == (picture,)
        assert run.draft.pictures[0].read() == picture.read()


async def test_finished_text_wins_over_the_streamed_one() -> None:
    class Trimming(ScriptedEngine):
        def generate(self, request: Request, cancel: Event | None = None) -> Iterator[AnswerEvent]:
            for event in super().generate(request, cancel):
                if isinstance(event, Finished):
                    yield Delta("", (9,))
                    yield Finished(event.reason, "the truth", event.token_ids, event.usage, event.timing)
                else:
                    yield event

    async with driven(build(Trimming())) as run:
        await run.ready()
        await run.asked("What?")
        assert run.answers[0].text == "the truth"
        assert "the truth" in plain(run.answers[0])
        assert "circle" not in plain(run.answers[0])


async def test_error_in_mid_answer_keeps_what_was_written_and_returns_the_question() -> None:
    class Failing(ScriptedEngine):
        def generate(self, request: Request, cancel: Event | None = None) -> Iterator[AnswerEvent]:
            for event in super().generate(request, cancel):
                if isinstance(event, Finished):
                    raise OutOfMemory("The device is full.", "Use fewer tiles.")
                yield event

    async with driven(build(Failing())) as run:
        await run.ready()
        await run.ask("What is it?")
        await run.until(lambda: isinstance(run.app.screen, ChoicePanel))
        await run.pilot.press("enter")
        assert run.answers[0].text.strip() == "A red circle."
        assert "not answered" in plain(run.answers[0])
        assert run.draft.text == "What is it?"


async def test_a_long_name_gives_way_in_the_status_line(tmp_path: Path) -> None:
    folder = tmp_path / ("a very long name of a checkpoint " * 4).strip()
    folder.mkdir()
    async with driven(build(model=str(folder)), (60, 24)) as run:
        await run.ready()
        await run.until(lambda: "ready" in run.text_of(StatusLine))
        assert "…" in run.text_of(StatusLine)
        assert len(run.text_of(StatusLine)) <= 60
