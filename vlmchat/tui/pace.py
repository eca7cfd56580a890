"""How long new text gathers before it is drawn, so that drawing stays a small part of the work.

The engine's thread and the app's share one interpreter lock: while the app draws, a small model says nothing.
So the wait follows the price. It is the CPU time of the app's own thread since the text before, layout, paint
and keys included: a piece that takes 6 ms is followed by 200 ms of gathering.

A key goes before text: while one types, drawing waits a little longer (:meth:`Pace.hold`), and Python's full garbage
collection waits for a moment in which nobody types (:class:`Collections`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

LEAST_S = 0.04
"""Between two drawings at least: the eye sees no difference below it."""
MOST_S = 0.2
"""Between two drawings at most: five a second still look like writing."""
MOST_FAST_S = 0.4
"""The same for text that nobody reads as it comes."""
FAST = 300.0
"""Characters a second from which on that is so: some 60 words."""
TIMES = 33
"""Waiting over drawing: three hundredths of the time are drawing, where the longest wait allows it."""

CALM_S = 0.1
"""After a key the next one is likely: for so long no text is drawn, as far as :data:`HELD_S` allows."""
HELD_S = 0.1
"""Text that is due waits for keys at most so long: with :data:`MOST_S` it still moves three times a second."""
QUIET_S = 2.0
"""Nobody types who has not for so long: the time for a full collection."""
YOUNG_AT_REST, YOUNG_AT_WORK = 10, 1000
"""Collections of young objects before a full one: 10 is Python's own number, and 1,000 are some three minutes of
streaming, so that an answer without an end does not fill the memory."""
YOUNG_AT_MOST = 10_000
"""The same, where somebody types all the time."""


class Pace:
    """Sets the time of the next drawing by the cost of the one before; for one thread."""

    def __init__(
        self, spent: Callable[[], float] = time.thread_time, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin an account.

        Args:
            spent: seconds of CPU that the drawing thread has used so far.
            now: a clock, in seconds.
        """
        self._spent, self._now = spent, now
        self._mark: float | None = None
        self._begun = 0.0
        """When the text that is drawn next began to gather."""
        self._rate = 0.0
        """Characters a second that came last."""
        self._typed: float | None = None
        self._due: float | None = None

    def wait(self) -> float:
        """Return the seconds that the text announced now may gather; the first of an answer hardly waits."""
        before, self._mark = self._mark, self._spent()
        self._begun = self._now()
        if before is None:
            return LEAST_S
        most = MOST_FAST_S if self._rate >= FAST else MOST_S
        return min(most, max(LEAST_S, TIMES * (self._mark - before)))

    def drawn(self, characters: int) -> None:
        """Note how much text had gathered since :meth:`wait`."""
        self._rate = characters / max(0.001, self._now() - self._begun)

    def typed(self) -> None:
        """Note that a key was pressed."""
        self._typed = self._now()

    def hold(self) -> float:
        """Return the seconds that text which is due still waits for keys; 0 when it is to be drawn now."""
        now = self._now()
        if self._due is None:
            self._due = now
        calm = 0.0 if self._typed is None else self._typed + CALM_S - now
        held = min(calm, self._due + HELD_S - now)
        if held > 0.001:
            return held
        self._due = None
        return 0.0

    def forget(self) -> None:
        """Begin anew: what was spent between two answers is not the price of text."""
        self._mark = self._due = None
        self._rate = 0.0


class Collections:
    """Does Python's full garbage collections when nobody types; one goes through all the widgets of a chat.

    By themselves they came four times in 12 s of streaming into a chat of 10,000 tokens, 0.43 s of CPU each, and any
    key pressed meanwhile waited: they were the whole of p95. Young garbage is collected as ever.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Change nothing yet.

        Args:
            now: a clock, in seconds.
        """
        self._now = now
        self._typed = now()
        self._before: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """Put the full collections off, until :meth:`end`."""
        if self._before is None:
            self._before = gc.get_threshold()
            gc.set_threshold(*self._before[:2], YOUNG_AT_MOST)

    def end(self) -> None:
        """Let Python choose again."""
        if self._before is not None:
            gc.set_threshold(*self._before)
            self._before = None

    def typed(self) -> None:
        """Note that a key was pressed."""
        self._typed = self._now()

    def look(self, busy: bool) -> None:
        """Collect if it is time; ``busy`` says whether text is streaming."""
        due = gc.get_count()[2] >= (YOUNG_AT_WORK if busy else YOUNG_AT_REST)
        if due and self._now() - self._typed >= QUIET_S:
            gc.collect()
