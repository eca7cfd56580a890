"""Results in the order of their lines, whichever comes first and from whichever thread, a bounded number of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_LOOK_S = 0.1
"""How often who waits for room looks whether it is still wanted."""


class InOrder(Generic[T]):
    """Hands results on in the order of the places they were given."""

    def __init__(self, write: Callable[[T], None], room: int) -> None:
        """Pass results to ``write``, one at a time; at most ``room`` places are open at once."""
        self._write = write
        self._room = room
        self._given = 0
        self._written = 0
        self._ready: dict[int, T] = {}
        self._changed = threading.Condition()

    def place(self, wanted: Callable[[], bool]) -> int | None:
        """Return the next place, once there is room for it; None when it is no longer ``wanted``."""
        with self._changed:
            while self._given - self._written >= self._room:
                if not wanted():
                    return None
                self._changed.wait(_LOOK_S)
            self._given += 1
            return self._given - 1

    def put(self, place: int, result: T) -> None:
        """Take a result; write it and those that waited for it, if all before it are written."""
        with self._changed:
            self._ready[place] = result
            while self._written in self._ready:
                self._write(self._ready.pop(self._written))
                self._written += 1
            self._changed.notify_all()
