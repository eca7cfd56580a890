"""Drawing costs a small part of the time: text gathers by its price, and far answers are not laid out."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from textual.message import Message

from tests.fakes import ScriptedEngine
from tests.tui.helpers import Driven, build, driven
from vlmchat.engine.events import AnswerEvent, Delta
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions
from vlmchat.tui.bridge import AnswerText, Bridge
from vlmchat.tui.pace import LEAST_S, MOST_S, TIMES, Pace
from vlmchat.tui.widgets.answer import AnswerText as Body

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
    await run.until(lambda: run.answers[0].rests)


async def test_far_answers_rest_at_their_height_and_wake_when_they_are_scrolled_to() -> None:
    async with driven(build(ScriptedEngine(answers=((LONG,),), context_tokens=100_000))) as run:
        await _long_chat(run, 4)
        transcript, first, last = run.chat.transcript, run.answers[0], run.answers[-1]
        assert not first.query_one(Body).display
        assert not last.rests
        height, whole = first.outer_size.height, transcript.virtual_size.height
        transcript.release_anchor()
        transcript.scroll_to(y=0, animate=False)
        await run.until(lambda: not first.rests)
        await run.pilot.pause()
        assert first.query_one(Body).display
        assert first.outer_size.height == height
        assert transcript.virtual_size.height == whole
        await run.until(lambda: last.rests)


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
