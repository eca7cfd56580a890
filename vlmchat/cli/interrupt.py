"""Ctrl-C while a model works: the first one asks it to stop, the second one ends the program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as CancelEvent
from types import FrameType


@contextmanager
def interruptible(cancel: CancelEvent | None = None) -> Iterator[CancelEvent]:
    """Yield an event that Ctrl-C sets in place of raising, so that an answer ends in order and is kept.

    A second Ctrl-C raises KeyboardInterrupt. Only for the time of the work: outside of it Ctrl-C has to
    break a blocking read.

    Args:
        cancel: an event that is there already, for work that is taken up again.
    """
    event = cancel or CancelEvent()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
