"""The border between the engine's thread and the screen: events in, Textual messages out.

ONE worker thread runs every load and every answer, one after the other. Each piece of work has an
id and a cancel event; each message carries the id of the work it comes from, and the receiver
drops what belongs to work it no longer shows (Textual's ``exclusive=True`` does not stop a thread,
so a superseded answer may still speak). New text is announced once and taken all at once, when
:mod:`vlmchat.tui.pace` says so: a message per token costs more than the drawing itself (style notes: 1,000
pieces took 1.65 s of CPU singly, 0.97 s in batches of 33 ms), and a slow screen just takes more.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event as CancelEvent
from threading import Lock
from typing import Protocol
from uuid import uuid4

from textual.message import Message

from vlmchat.engine.api import LoadedModel
from vlmchat.engine.events import AnswerEvent, Delta, Encoding, Finished, Loading, Prefill
from vlmchat.errors import VlmchatError
from vlmchat.paths import places
from vlmchat.tui.text import say

ANSWER_PATIENCE_S = 5.0
"""How long closing waits for a stopped answer to reach the store: one token, tile or prefill chunk."""
LOAD_PATIENCE_S = 0.2
"""How long closing waits for a load; nothing of it has to be kept."""

GATHER_S = 0.03
"""How long tokens gather: less than text does before it is drawn."""
READY_S = 0.0005
"""A token that takes no longer to get was there already."""
FAST_S = 0.01
"""Tokens that take longer are taken one by one: a hundred a second."""
VAIN = 3
"""Waits in vain after which an answer's tokens are taken one by one."""


class Receiver(Protocol):
    """Whoever takes the messages; posting has to be safe from any thread, as Textual's is."""

    def post_message(self, message: Message) -> bool:
        """Put ``message`` into the receiver's queue."""


class Arrived:
    """Text between the two threads: the worker adds pieces, the screen takes all there is."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pieces: list[str] = []
        self._announced = False

    def add(self, piece: str) -> bool:
        """Keep ``piece``; True when the other side has to be told that there is something."""
        with self._lock:
            self._pieces.append(piece)
            new, self._announced = not self._announced, True
        return new

    def take(self) -> str:
        """Return everything that was added since the last take."""
        with self._lock:
            text = "".join(self._pieces)
            self._pieces.clear()
            self._announced = False
        return text


class Gathering:
    """Lets the tokens of a fast model come together before this thread takes them.

    It is woken for each token otherwise, and takes the interpreter from the engine's thread each time.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """Begin with an answer.

        Args:
            now: a clock, in seconds.
        """
        self._now = now
        self._asked = now()
        self._slept = False
        self._vain = 0
        """Waits in a row after which nothing was there: the tokens are made only when they are asked for."""

    def came(self, cancel: CancelEvent) -> None:
        """Note a token, and wait for more where that is worth it; a stop ends the wait."""
        took = self._now() - self._asked
        if self._slept:
            self._vain = self._vain + 1 if took > READY_S else 0
        self._slept = self._vain < VAIN and READY_S < took < FAST_S
        if self._slept:
            cancel.wait(GATHER_S)
        self._asked = self._now()


class FromWork(Message):
    """A message of some work; ``work`` is the id its receiver compares before it believes it."""

    def __init__(self, work: str) -> None:
        super().__init__()
        self.work = work


class ModelLoading(FromWork):
    """The load has come to ``event``."""

    def __init__(self, work: str, event: Loading) -> None:
        super().__init__(work)
        self.event = event

    def can_replace(self, message: Message) -> bool:
        """Only the newest progress of one load matters."""
        return isinstance(message, ModelLoading) and message.work == self.work


class ModelReady(FromWork):
    """The load is done; ``name`` is how the user knows the model."""

    def __init__(self, work: str, name: str, revision: str, loaded: LoadedModel | None) -> None:
        super().__init__(work)
        self.name, self.revision, self.loaded = name, revision, loaded


class ModelFailed(FromWork):
    """The load ended with ``error``."""

    def __init__(self, work: str, error: VlmchatError) -> None:
        super().__init__(work)
        self.error = error


class AnswerProgress(FromWork):
    """Pictures or prompt are being computed."""

    def __init__(self, work: str, event: Encoding | Prefill) -> None:
        super().__init__(work)
        self.event = event

    def can_replace(self, message: Message) -> bool:
        """Only the newest progress of one answer matters."""
        return isinstance(message, AnswerProgress) and message.work == self.work


class AnswerText(FromWork):
    """There is new text of the answer; no further one is sent until it is taken."""

    def __init__(self, work: str, arrived: Arrived) -> None:
        super().__init__(work)
        self.take = arrived.take
        """Returns all text that has arrived by now, and lets the next piece announce itself."""


class AnswerFinished(FromWork):
    """The answer has ended, whatever ended it; by now the session has stored it."""

    def __init__(self, work: str, finished: Finished) -> None:
        super().__init__(work)
        self.finished = finished


class AnswerFailed(FromWork):
    """The answer ended with ``error``."""

    def __init__(self, work: str, error: VlmchatError) -> None:
        super().__init__(work)
        self.error = error


@dataclass(slots=True)
class Work:
    """One load or one answer, running or waiting for its turn."""

    stores: bool = False
    """Its end has to reach the store: an answer. Nothing of a load has to be kept."""
    id: str = field(default_factory=lambda: uuid4().hex)
    cancel: CancelEvent = field(default_factory=CancelEvent)
    done: Future[None] = field(default_factory=Future)


class Bridge:
    """Runs work on its one thread and tells ``receiver`` what comes of it."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vlmchat-bridge")
        self._works: list[Work] = []
        self._open = True

    def load(self, opening: Callable[[Work], Iterator[Loading | ModelReady]]) -> Work:
        """Run ``opening``, a stream of progress that ends with :class:`ModelReady` unless cancelled."""
        return self._submit(Work(), partial(self._load, opening), ModelFailed)

    def answer(self, asking: Callable[[CancelEvent], Iterator[AnswerEvent]]) -> Work:
        """Run ``asking`` to its end and post what it yields."""
        return self._submit(Work(stores=True), partial(self._answer, asking), AnswerFailed)

    def close(self) -> bool:
        """Cancel everything, post nothing more, give the store the time it needs; True if all ended."""
        self._open = False
        for work in self._works:
            work.cancel.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        # A future cancelled before it began never counts as done for ``wait``.
        begun = [work for work in self._works if not work.done.cancelled()]
        wait([work.done for work in begun if work.stores], timeout=ANSWER_PATIENCE_S)
        return not wait([work.done for work in begun], timeout=LOAD_PATIENCE_S).not_done

    def _submit(self, work: Work, run: Callable[[Work], None], failed: Callable[[str, VlmchatError], FromWork]) -> Work:
        work.done = self._thread.submit(run, work)
        self._works = [other for other in self._works if not other.done.done()] + [work]
        work.done.add_done_callback(partial(self._settle, work, failed))
        return work

    def _load(self, opening: Callable[[Work], Iterator[Loading | ModelReady]], work: Work) -> None:
        if work.cancel.is_set():
            return
        for event in opening(work):
            self._post(ModelLoading(work.id, event) if isinstance(event, Loading) else event)

    def _answer(self, asking: Callable[[CancelEvent], Iterator[AnswerEvent]], work: Work) -> None:
        arrived, gathering = Arrived(), Gathering()
        finished: Finished | None = None
        for event in asking(work.cancel):
            if isinstance(event, Delta):
                if event.text and arrived.add(event.text):
                    self._post(AnswerText(work.id, arrived))
                gathering.came(work.cancel)
            elif isinstance(event, Finished):
                finished = event
            else:
                self._post(AnswerProgress(work.id, event))
        if finished is not None:
            # Only now: the session writes the answer after it has yielded its end.
            self._post(AnswerFinished(work.id, finished))

    def _settle(self, work: Work, failed: Callable[[str, VlmchatError], FromWork], done: Future[None]) -> None:
        """Turn whatever ended the work early into one message; runs on the work's own thread."""
        try:
            error = done.exception()
        except CancelledError:
            return
        if error is not None:
            self._post(failed(work.id, in_the_tree(error)))

    def _post(self, message: FromWork) -> None:
        # The app may end between the question and the post: then its event loop is closed.
        with suppress(RuntimeError):
            if self._open:
                self._receiver.post_message(message)


def in_the_tree(error: BaseException) -> VlmchatError:
    """Return ``error`` as one of ours; what nobody foresaw goes to the log and is named in one sentence."""
    if isinstance(error, VlmchatError):
        return error
    log = places().state / "app.log"
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.writelines(["\n", time.strftime("%Y-%m-%d %H:%M:%S\n"), *traceback.format_exception(error)])
    return VlmchatError(
        say("error.unforeseen", kind=type(error).__name__, problem=error), say("error.unforeseen.hint", log=log)
    )
