"""Where the requests of a batch come from: slow, fast and broken sources, cancelled and left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.engine.asking import asked, ends
from tests.reference_cases import QWEN2
from vlmchat.engine.api import Request
from vlmchat.engine.events import Delta, Finished, RowEvent
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions


@pytest.fixture(scope="module")
def engine() -> Iterator[TorchEngine]:
    engine = TorchEngine()
    list(engine.load(QWEN2 / "checkpoint", LoadOptions()))
    yield engine
    engine.close()


def test_a_slow_source_holds_up_no_answer(engine: TorchEngine) -> None:
    first_done = threading.Event()

    def source() -> Iterator[Request]:
        yield asked("Hello", tokens=3)[0]
        assert first_done.wait(20)
        yield asked("Who are you?", tokens=3)[0]

    found: list[RowEvent] = []
    for number, event in engine.generate_many(source(), 4):
        found.append((number, event))
        if isinstance(event, Finished):
            first_done.set()
    assert sorted(ends(found)) == [0, 1]


def test_a_fast_source_is_read_only_a_little_ahead(engine: TorchEngine) -> None:
    taken = finished = ahead = 0

    def source() -> Iterator[Request]:
        nonlocal taken
        for _ in range(60):
            taken += 1
            yield asked("Hello", tokens=2)[0]

    for _, event in engine.generate_many(source(), 3):
        finished += isinstance(event, Finished)
        ahead = max(ahead, taken - finished)
    assert finished == taken == 60
    # In the batch, encoded ahead, waiting, in hand; the rest are finished, and said to be so a little later.
    assert ahead <= 3 + 3 + 3 + 1 + 10


def test_what_the_source_raises_comes_after_the_answers_before_it(engine: TorchEngine) -> None:
    def source() -> Iterator[Request]:
        yield from asked("Hello", "Who are you?", tokens=3)
        raise OSError("the pipe broke")

    found: list[RowEvent] = []
    with pytest.raises(OSError, match="the pipe broke"):
        for event in engine.generate_many(source(), 2):
            found.append(event)
    assert sorted(ends(found)) == [0, 1]


def test_cancel_and_leaving_end_a_batch(engine: TorchEngine) -> None:
    cancel = threading.Event()
    endless = (request for _ in range(10**6) for request in asked("Tell me.", tokens=20000))
    found: list[RowEvent] = []
    for number, event in engine.generate_many(endless, 3, cancel):
        found.append((number, event))
        if len(found) > 30:
            cancel.set()
    # Answers may have come to their own end while the cancel was on its way.
    reasons = {end.reason for end in ends(found).values()}
    assert "interrupted" in reasons
    assert reasons <= {"interrupted", "stop"}
    assert next(endless)  # its thread has left it
    leaving = engine.generate_many(asked("Tell me.", "Tell us.", tokens=20000), 2)
    next(leaving)
    leaving.close()  # type: ignore[attr-defined]
    assert len(ends(list(engine.generate_many(asked("Hello", tokens=2), 1)))) == 1


def test_one_request_of_many_is_one(engine: TorchEngine) -> None:
    request = asked("Hello, who are you?")[0]
    engine.runner.forget()
    single = [event for event in engine.generate(request) if isinstance(event, Delta)]
    engine.runner.forget()
    many = [event for _, event in engine.generate_many([request], 8) if isinstance(event, Delta)]
    assert single == many
    assert list(engine.generate_many([], 8)) == []
