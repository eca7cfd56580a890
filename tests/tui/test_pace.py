"""Drawing costs a small part of the time: text gathers by its price, and far answers are not laid out."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest
from textual.geometry import Region
from textual.message import Message
from textual.messages import Layout
from textual.strip import Strip
from textual.widget import Widget

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, GatedEngine, build, driven, plain
from vlmchat.engine.events import AnswerEvent, Delta
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions
from vlmchat.tui.bridge import FAST_S, GATHER_S, READY_S, VAIN, AnswerText, Bridge, Gathering
from vlmchat.tui.pace import (
    CALM_S,
    FAST,
    HELD_S,
    LEAST_S,
    MOST_FAST_S,
    MOST_S,
    QUIET_S,
    TIMES,
    YOUNG_AT_MOST,
    YOUNG_AT_REST,
    YOUNG_AT_WORK,
    Collections,
    Pace,
)
from vlmchat.tui.screens.chat import ChatScreen
from vlmchat.tui.widgets.answer import AnswerText as Body
from vlmchat.tui.widgets.answer import AnswerView

DEMO = Path(__file__).resolve().parents[2] / "vlmchat" / "demo" / "checkpoint"
LONG = "A **red** circle and a `blue` square.\n\n" * 40


def test_the_wait_follows_the_price_of_the_drawing_before() -> None:
    spent = iter([5.0, 5.003, 5.0031, 6.0, 7.0, 7.004])
    pace = Pace(lambda: next(spent))
    assert pace.wait() == LEAST_S
    assert abs(pace.wait() - TIMES * 0.003) < 1e-9
    assert pace.wait() == LEAST_S
    assert pace.wait() == MOST_S
    pace.forget()
    assert pace.wait() == LEAST_S
    assert abs(pace.wait() - TIMES * 0.004) < 1e-9


@pytest.mark.parametrize(("characters", "most"), [(FAST + 1, MOST_FAST_S), (FAST - 1, MOST_S)])
def test_what_comes_faster_than_one_reads_may_gather_longer(characters: float, most: float) -> None:
    clock, spent = [100.0], [0.0]
    pace = Pace(lambda: spent[0], lambda: clock[0])
    pace.wait()
    clock[0] += 1
    pace.drawn(int(characters))
    spent[0] += 1
    assert pace.wait() == most
    spent[0] += 0.001
    assert abs(pace.wait() - max(LEAST_S, TIMES * 0.001)) < 1e-9
    pace.forget()
    pace.wait()
    spent[0] += 1
    assert pace.wait() == MOST_S


@dataclass
class Waits:
    """An event that notes how long it was waited for, on a clock of its own."""

    clock: list[float]
    waits: list[float] = field(default_factory=list)

    def wait(self, seconds: float) -> bool:
        """Let time pass."""
        self.waits.append(seconds)
        self.clock[0] += seconds
        return False


def gathered(*took: float) -> list[float]:
    """Return how long was waited in an answer whose tokens took ``took`` seconds to get."""
    clock = [100.0]
    gathering, cancel = Gathering(lambda: clock[0]), Waits([])
    cancel.clock = clock
    for seconds in took:
        clock[0] += seconds
        gathering.came(cancel)  # type: ignore[arg-type]
    return cancel.waits


def test_tokens_of_a_fast_model_gather_and_are_taken_together() -> None:
    quick, there = READY_S * 4, READY_S / 10
    # Waited for, then taken as long as there are any.
    assert gathered(quick, *[there] * 9, quick, there) == [GATHER_S, GATHER_S]


def test_tokens_that_come_slowly_or_only_when_asked_for_are_taken_one_by_one() -> None:
    quick, slow, there = READY_S * 4, FAST_S * 1.5, READY_S / 10
    assert gathered(*[slow] * 20) == []
    assert gathered(*[there] * 20) == []
    assert gathered(*[quick] * 20) == [GATHER_S] * VAIN
    # Once in vain is not always: the other thread had the processor.
    assert len(gathered(*[quick, quick, there] * 20)) == 40


def test_text_waits_for_keys_but_not_for_ever() -> None:
    clock = [100.0]
    pace = Pace(now=lambda: clock[0])
    assert pace.hold() == 0
    pace.typed()
    assert abs(pace.hold() - min(CALM_S, HELD_S)) < 1e-9
    clock[0] += HELD_S / 2
    pace.typed()
    assert abs(pace.hold() - HELD_S / 2) < 1e-9
    clock[0] += HELD_S / 2
    assert pace.hold() == 0
    # The next text has its own time to wait, and after a while without keys none waits.
    assert pace.hold() > 0
    clock[0] += CALM_S
    assert pace.hold() == 0


def test_full_collections_wait_until_nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, young, done = [100.0], [YOUNG_AT_REST], list[float]()
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, young[0]))
    monkeypatch.setattr(gc, "collect", lambda: done.append(clock[0]))
    collections = Collections(lambda: clock[0])
    clock[0] += QUIET_S
    collections.typed()
    collections.look(busy=False)
    assert not done
    clock[0] += QUIET_S
    collections.look(busy=True)
    assert not done
    collections.look(busy=False)
    assert len(done) == 1
    young[0] = YOUNG_AT_REST - 1
    collections.look(busy=False)
    assert len(done) == 1
    young[0] = YOUNG_AT_WORK
    collections.look(busy=True)
    assert len(done) == 2


async def test_the_app_leaves_collections_as_it_found_them() -> None:
    before = gc.get_threshold()
    async with driven(build()) as run:
        await run.ready()
        assert gc.get_threshold()[2] == YOUNG_AT_MOST
    assert gc.get_threshold() == before


async def test_a_key_goes_before_text_that_is_due() -> None:
    engine = GatedEngine()
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("What?")
        pace, drawn = run.chat.flow.exchange.pace, list[str]()
        holds = iter([0.001, 0.001, 0.0])

        def hold() -> float:
            drawn.append(run.answers[-1].text)
            return next(holds, 0.0)

        pace.hold = hold  # type: ignore[method-assign]
        engine.let(1)
        await run.until(lambda: run.answers[-1].text == "A ")
        assert drawn == ["", "", ""]
        typed: list[int] = []
        pace.typed = lambda: typed.append(1)  # type: ignore[method-assign]
        await run.write("ab")
        await run.until(lambda: len(typed) == 2)
        engine.let(2)
        await run.idle()
        assert run.answers[-1].text == "A red circle."


@dataclass
class Inbox:
    """A receiver that keeps what it is sent."""

    got: list[AnswerText] = field(default_factory=list)

    def post_message(self, message: Message) -> bool:
        """Keep ``message``."""
        assert isinstance(message, AnswerText)
        self.got.append(message)
        return True


def test_a_thousand_tokens_wake_the_app_once_for_each_drawing() -> None:
    inbox, taken = Inbox(), list[str]()

    def answer(_cancel: Event) -> Iterator[AnswerEvent]:
        for number in range(1000):
            if number % 100 == 0 and inbox.got:
                taken.append(inbox.got[-1].take())
            yield Delta("x", (number,))

    bridge = Bridge(inbox)
    bridge.answer(answer).done.result(10)
    assert len(inbox.got) == 10
    assert "".join(taken) == "x" * 900
    bridge.close()


async def _long_chat(run: Driven, questions: int) -> None:
    await run.ready()
    for number in range(questions):
        await run.asked(f"Question {number}?")
    await run.until(lambda: not run.answers[0].display)


async def test_far_turns_are_folded_and_unfold_where_they_were_when_they_are_scrolled_to() -> None:
    async with driven(build(ScriptedEngine(answers=((LONG,),), context_tokens=100_000))) as run:
        await _long_chat(run, 4)
        transcript, first, last = run.chat.transcript, run.answers[0], run.answers[-1]
        assert last.display
        height, whole = first.outer_size.height, transcript.virtual_size.height
        transcript.release_anchor()
        transcript.scroll_to(y=0, animate=False)
        await run.until(lambda: first.display and not last.display)
        await run.pilot.pause()
        assert first.outer_size.height == height
        assert transcript.virtual_size.height == whole
        assert "A red circle and a blue square." in plain(transcript)


async def test_of_an_answer_that_grows_only_the_blocks_near_the_window_are_laid_out() -> None:
    engine = GatedEngine(answers=((LONG, LONG, "The end."),), context_tokens=100_000)
    engine.may_load.set()
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Go on.")
        engine.let(2)
        await run.until(lambda: run.answers and len(run.answers[0].query_one(Body).children) == 80)
        answer, transcript = run.answers[0], run.chat.transcript
        blocks = answer.query_one(Body).children
        assert run.chat.flow.busy
        engine.let(2)
        await run.idle()
        await run.until(lambda: not blocks[0].display)
        assert sum(block.display for block in blocks) < 60
        whole = transcript.virtual_size.height
        transcript.release_anchor()
        transcript.scroll_to(y=0, animate=False)
        await run.until(lambda: blocks[0].display and not blocks[-2].display)
        await run.pilot.pause()
        assert transcript.virtual_size.height == whole


async def test_a_folded_turn_can_be_marked_and_is_brought_into_view() -> None:
    async with driven(build(ScriptedEngine(answers=((LONG,),), context_tokens=100_000))) as run:
        await _long_chat(run, 4)
        transcript, last = run.chat.transcript, run.answers[-1]
        transcript.release_anchor()
        transcript.scroll_to(y=0, animate=False)
        await run.until(lambda: not last.display)
        await run.pilot.press("f7")
        await run.until(lambda: last.has_focus and last.region.overlaps(transcript.region))


async def test_another_width_wakes_all_so_that_heights_are_true() -> None:
    async with driven(build(ScriptedEngine(answers=(("many words " * 400,),), context_tokens=100_000))) as run:
        await _long_chat(run, 4)
        narrow = run.answers[0].outer_size.height
        await run.pilot.resize_terminal(110, 24)
        await run.until(lambda: run.answers[0].outer_size.height < narrow)
        assert run.answers[0].text.startswith("many words")


def test_what_a_load_leaves_alive_is_not_collected_again_until_it_goes() -> None:
    engine = TorchEngine()
    for _ in engine.load(DEMO, LoadOptions()):
        pass
    assert gc.get_freeze_count() > 10_000
    engine.close()
    assert gc.get_freeze_count() == 0


async def test_an_answer_is_tended_before_it_stands_on_the_screen() -> None:
    async with driven(build()) as run:
        await run.ready()
        transcript = run.chat.transcript
        mounted = transcript.turns.mount(AnswerView())
        transcript.tend()
        transcript.unfold()
        await mounted
        transcript.tend()
        assert len(transcript.turns.query(Body)) == 1


async def test_blocks_that_come_are_laid_out_with_their_column_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Widget] = []

    async def noted(_screen: ChatScreen, message: Layout) -> None:
        asked.append(message.widget)

    engine = GatedEngine(answers=(("One.\n\n", "Two.\n\nThree."),))
    engine.may_load.set()
    monkeypatch.setattr(ChatScreen, "on_layout", noted, raising=False)
    async with driven(build(engine)) as run:
        await run.ready()
        await run.ask("Go on.")
        engine.let(1)
        await run.until(lambda: run.answers and len(run.answers[0].query_one(Body).children) == 1)
        engine.let(2)
        await run.idle()
        body = run.answers[0].query_one(Body)
        await run.until(lambda: "Three." in plain(body))
        assert body in asked
        assert not set(body.children[1:]) & set(asked)


@pytest.mark.parametrize("colourless", [False, True])
async def test_containers_are_drawn_of_one_line_as_they_would_be_of_many(
    colourless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colourless:
        monkeypatch.setenv("NO_COLOR", "1")
    async with driven(build()) as run:
        await run.ready()
        await run.asked("What is it?")
        for marked in (False, True):
            answer = run.answers[0]
            for view in (run.chat.transcript, run.chat.transcript.turns, answer, answer.query_one(Body)):
                area = Region(0, 0, *view.size)
                lines, many = view.render_lines(area), Widget.render_lines(view, area)
                assert [_cells(line) for line in lines] == [_cells(line) for line in many]
                assert (len({id(line) for line in lines}) == 1) == (not (marked and view is answer))
            await run.pilot.press("f7")
            await run.until(lambda: run.answers[0].has_focus)


def _cells(line: Strip) -> list[tuple[str, object]]:
    return [(char, segment.style and segment.style.bgcolor) for segment in line for char in segment.text]
