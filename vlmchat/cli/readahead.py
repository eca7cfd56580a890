"""The next items of a slow source, made ready on a thread of their own while the present ones are worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_LOOK_S = 0.1
"""How often the thread looks whether anybody still wants its items."""
PATIENCE_S = 0.1
"""How long a group that has one item waits for the next."""


class _End:
    """Marks the end of the source."""


class ReadAhead(Generic[T]):
    """At most ``size`` items of ``source`` wait here: a fast writer is held back, and memory stays flat."""

    def __init__(self, source: Iterable[T], size: int) -> None:
        """Begin to read with the ``with`` block."""
        self._box: Queue[T | BaseException | type[_End]] = Queue(size)
        self._left = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._work, args=(source,), name="vlmchat-lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The thread may wait for a line for ever; it is a daemon and holds nothing that has to be closed.
        self._left.set()

    def take(self, limit: int) -> list[T]:
        """Return the next items, at least one and at most ``limit``; none when the source has ended.

        Waits for the first item as long as it takes, for the others only a moment: who writes a line and
        waits for its answer is not kept waiting.
        """
        items: list[T] = []
        while len(items) < limit and not self._ended:
            try:
                item = self._box.get(timeout=PATIENCE_S if items else None)
            except Empty:
                break
            if item is _End:
                self._ended = True
            elif isinstance(item, BaseException):
                raise item
            else:
                items.append(item)  # type: ignore[arg-type]
        return items

    def _work(self, source: Iterable[T]) -> None:
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as problem:  # noqa: BLE001 - handed to the thread that takes, every kind
            self._put(problem)
        self._put(_End)

    def _put(self, item: T | BaseException | type[_End]) -> bool:
        while not self._left.is_set():
            try:
                self._box.put(item, timeout=_LOOK_S)
            except Full:
                continue
            return True
        return False
