"""How long new text gathers before it is drawn, so that drawing stays a small part of the work.

The engine's thread and the app's share one interpreter lock: while the app draws, a small model says nothing.
So the wait follows the price. It is the CPU time of the app's own thread since the text before, layout, paint
and keys included: a piece that takes 6 ms is followed by 200 ms of gathering.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST_S = 0.04
"""Between two drawings at least: the eye sees no difference below it."""
MOST_S = 0.2
"""Between two drawings at most: five a second still look like writing."""
TIMES = 33
"""Waiting over drawing: three hundredths of the time are drawing, where :data:`MOST_S` allows it."""


class Pace:
    """Sets the time of the next drawing by the cost of the one before; for one thread."""

    def __init__(self, spent: Callable[[], float] = time.thread_time) -> None:
        """Begin an account.

        Args:
            spent: seconds of CPU that the drawing thread has used so far.
        """
        self._spent = spent
        self._mark: float | None = None

    def wait(self) -> float:
        """Return the seconds that the text announced now may gather; the first of an answer hardly waits."""
        before, self._mark = self._mark, self._spent()
        return LEAST_S if before is None else min(MOST_S, max(LEAST_S, TIMES * (self._mark - before)))

    def forget(self) -> None:
        """Begin anew: what was spent between two answers is not the price of text."""
        self._mark = None
