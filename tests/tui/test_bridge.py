"""The bridge: text gathers, progress replaces itself, errors become one message, closing ends the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event as CancelEvent

from textual.message import Message

from vlmchat.engine.events import AnswerEvent, Delta, Finished, Loading, Prefill, Timing, Usage
from vlmchat.errors import InputError
from vlmchat.tui.bridge import (
    AnswerFailed,
    AnswerFinished,
    AnswerProgress,
    AnswerText,
    Arrived,
    Bridge,
    FromWork,
    ModelLoading,
    ModelReady,
    Work,
)

END = Finished("stop", "ab", (1, 2), Usage(1, 0, 2), Timing(0, 0, 0, 0, 0, 0))


@dataclass
class Inbox:
    """A receiver that keeps what it is sent."""

    got: list[FromWork] = field(default_factory=list)
    ended: bool = False

    def post_message(self, message: Message) -> bool:
        """Keep ``message``, or fail as an app does whose loop is closed."""
        if self.ended:
            raise RuntimeError("Event loop is closed")
        assert isinstance(message, FromWork)
        self.got.append(message)
        return True


def test_text_is_announced_once_until_it_is_taken() -> None:
    inbox = Inbox()
    bridge = Bridge(inbox)
    stored: list[str] = []

    def answer(_cancel: CancelEvent) -> Iterator[AnswerEvent]:
        yield Prefill(1, 1, 0)
        yield Delta("a", (1,))
        yield Delta("", (9,))
        yield Delta("b", (2,))
        yield END
        stored.append("yes")

    work = bridge.answer(answer)
    work.done.result(10)
    assert [type(message) for message in inbox.got] == [AnswerProgress, AnswerText, AnswerFinished]
    text = inbox.got[1]
    assert isinstance(text, AnswerText)
    assert text.take() == "ab"
    assert text.take() == ""
    assert stored, "the end is told after the session has stored the answer"
    assert {message.work for message in inbox.got} == {work.id}
    assert bridge.close()


def test_text_can_be_announced_again_after_a_take() -> None:
    arrived = Arrived()
    assert arrived.add("a")
    assert not arrived.add("b")
    assert arrived.take() == "ab"
    assert arrived.add("c")


def test_errors_become_messages_and_the_thread_lives() -> None:
    inbox = Inbox()
    bridge = Bridge(inbox)

    def refuse(_cancel: CancelEvent) -> Iterator[AnswerEvent]:
        raise InputError("No.", "Try another.")

    def break_down(_cancel: CancelEvent) -> Iterator[AnswerEvent]:
        yield Prefill(1, 1, 0)
        raise KeyError("x")

    for ask in (refuse, break_down, lambda _: iter([END])):
        work = bridge.answer(ask)
        work.done.exception(10)
    bridge.close()
    failed = [message.error.message for message in inbox.got if isinstance(message, AnswerFailed)]
    assert failed[0] == "No."
    assert "KeyError" in failed[1]
    assert isinstance(inbox.got[-1], AnswerFinished)


def test_a_cancelled_load_that_waits_never_begins() -> None:
    inbox = Inbox()
    bridge = Bridge(inbox)
    hold = threading.Event()

    def slow(work: Work) -> Iterator[Loading | ModelReady]:
        hold.wait(10)
        yield Loading("config")

    def second(work: Work) -> Iterator[Loading | ModelReady]:
        yield ModelReady(work.id, "second", "", None)

    bridge.load(slow)
    waiting = bridge.load(second)
    waiting.cancel.set()
    hold.set()
    waiting.done.result(10)
    assert [type(message) for message in inbox.got] == [ModelLoading]
    bridge.close()


def test_closing_cancels_and_says_nothing_more() -> None:
    inbox = Inbox()
    bridge = Bridge(inbox)
    begun, ended = threading.Event(), threading.Event()

    def answer(cancel: CancelEvent) -> Iterator[AnswerEvent]:
        begun.set()
        cancel.wait(10)
        yield END
        ended.set()

    bridge.answer(answer)
    waiting = bridge.answer(answer)
    assert begun.wait(10)
    assert bridge.close()
    assert ended.is_set()
    assert waiting.done.cancelled()
    assert not inbox.got


def test_an_app_that_is_gone_does_not_stop_the_work() -> None:
    inbox = Inbox(ended=True)
    bridge = Bridge(inbox)
    stored: list[str] = []

    def answer(_cancel: CancelEvent) -> Iterator[AnswerEvent]:
        yield Delta("a", (1,))
        yield END
        stored.append("yes")

    bridge.answer(answer).done.result(10)
    assert stored


def test_only_progress_of_the_same_work_replaces() -> None:
    one, other = AnswerProgress("1", Prefill(1, 2, 0)), AnswerProgress("1", Prefill(2, 2, 0))
    assert other.can_replace(one)
    assert not other.can_replace(AnswerProgress("2", Prefill(1, 2, 0)))
    assert ModelLoading("1", Loading("config")).can_replace(ModelLoading("1", Loading("libraries")))
    assert not AnswerText("1", Arrived()).can_replace(AnswerText("1", Arrived()))
