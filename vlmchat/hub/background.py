"""A blocking question asked on a thread of its own, so that it can be left at once."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event as CancelEvent
from threading import Thread
from typing import NoReturn, TypeVar

_POLL_S = 0.05

Answer = TypeVar("Answer")


def ask(question: Callable[[], Answer], cancel: CancelEvent) -> Answer:
    """Return what ``question`` returns, or raise what it raises.

    Raises:
        KeyboardInterrupt: ``cancel`` was set; the question is left to end by itself, its answer unread.
    """
    answers: SimpleQueue[Callable[[], Answer]] = SimpleQueue()

    def run() -> None:
        try:
            found = question()
        except BaseException as problem:  # noqa: BLE001 - raised again where the answer is waited for
            answers.put(_raiser(problem))
        else:
            answers.put(lambda: found)

    Thread(target=run, name="vlmchat-question", daemon=True).start()
    while not cancel.is_set():
        try:
            answer = answers.get(timeout=_POLL_S)
        except Empty:
            continue
        return answer()
    raise KeyboardInterrupt


def _raiser(problem: BaseException) -> Callable[[], NoReturn]:
    def raise_it() -> NoReturn:
        raise problem

    return raise_it
