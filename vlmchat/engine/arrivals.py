"""Where requests come from while others are being answered: never waited for as long as there is work.

No torch here.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from vlmchat.engine.api import Request

Numbered: TypeAlias = tuple[int, Request]
_PATIENCE = 0.1
"""Seconds between two looks at the stop, while nothing arrives."""


class Arrivals(Protocol):
    """Requests in order, numbered from 0."""

    def take(self, wait: bool) -> Numbered | None:
        """Return the next request; None at the end, when stopped, and without ``wait`` where none is there yet."""

    def close(self) -> None:
        """Raise what the source of the requests raised, after everything before it was taken."""


class Listed:
    """Requests that are all there already."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._rest = iter(enumerate(requests))

    def take(self, wait: bool) -> Numbered | None:
        """Return the next request."""
        return next(self._rest, None)

    def close(self) -> None:
        """Do nothing: a list raises nothing."""


class Fed:
    """Requests that a thread of its own takes from an iterable, a few ahead.

    So a slow source (a pipe somebody types into, pictures that are fetched) holds up no answer, and
    a fast one is never far ahead.
    """

    def __init__(self, requests: Iterable[Request], ahead: int, stopped: Callable[[], bool]) -> None:
        self._requests = requests
        self._stopped = stopped
        self._queue: queue.Queue[Numbered | None] = queue.Queue(ahead)
        self._ended = False
        self._problem: BaseException | None = None
        threading.Thread(target=self._feed, name="vlmchat-requests", daemon=True).start()

    def take(self, wait: bool) -> Numbered | None:
        """Return the next request, waiting for it if asked to."""
        while not self._ended and not self._stopped():
            try:
                taken = self._queue.get(block=wait, timeout=_PATIENCE)
            except queue.Empty:
                if wait:
                    continue
                return None
            self._ended = taken is None
            return taken
        return None

    def close(self) -> None:
        """Raise what the iterable raised."""
        if self._ended and self._problem is not None:
            raise self._problem

    def _feed(self) -> None:
        try:
            for numbered in enumerate(self._requests):
                if not self._put(numbered):
                    return
        except BaseException as problem:  # noqa: BLE001 - handed to the thread that asked, every kind
            self._problem = problem
        self._put(None)

    def _put(self, numbered: Numbered | None) -> bool:
        """Queue ``numbered``, waiting for room; False when stopped."""
        while not self._stopped():
            try:
                self._queue.put(numbered, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False


def arrivals_of(requests: Iterable[Request], ahead: int, stopped: Callable[[], bool]) -> Arrivals:
    """Return the arrivals of ``requests``; only what is no sequence needs a thread."""
    return Listed(requests) if isinstance(requests, Sequence) else Fed(requests, ahead, stopped)
