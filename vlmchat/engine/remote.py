"""The client of a kept engine: another implementation of :class:`vlmchat.engine.api.Engine`. No torch here.

One connection carries all calls of a program. Where no engine can be kept, or the kept one is busy, the same
calls go to an engine in this process, and ``notice`` is told why in one sentence.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event as CancelEvent
from typing import Any

from vlmchat.engine import wire
from vlmchat.engine.api import Engine, LoadedModel, PromptSize, Request
from vlmchat.engine.events import AnswerEvent, Delta, Loading, RowEvent
from vlmchat.engine.keeping import CannotKeep, connect, connect_or_start, stamp, wait_for_end
from vlmchat.engine.view import Sight
from vlmchat.engine.wire import Line
from vlmchat.errors import EngineLost, ModelError, VlmchatError
from vlmchat.options import LoadOptions

_PATIENCE_S = 0.03
"""Seconds between two looks at a stop while nothing comes."""
_ATTEMPTS = 3
"""A server may leave while one comes in, and another may be of another version."""
_GREETING_S = 30.0
"""How long a server may take to say welcome: it has to start Python."""


def running(folder: Path | None = None, options: LoadOptions | None = None, leave: bool = False) -> wire.Running | None:
    """Ask the kept engine, if there is one, what it is.

    Args:
        folder: a checkpoint, to know whether just that is loaded.
        options: of the load.
        leave: it should end as soon as nobody uses it.
    """
    try:
        connection = connect()
        if connection is None:
            return None
        connection.settimeout(_GREETING_S)
        line = Line(connection)
        try:
            line.send(0, wire.Ask(leave, folder, options))
            answer = line.receive()[1]
        finally:
            line.close()
    except (CannotKeep, OSError, EOFError, ValueError):
        return None
    return answer if isinstance(answer, wire.Running) else None


def end_kept() -> None:
    """End the kept engine, if nobody uses it, and wait until the system has its memory back."""
    found = running(leave=True)
    if found is not None and not found.clients:
        wait_for_end(found.pid, _GREETING_S)


class _Link:
    """A connection, and a thread that sorts what comes by call."""

    def __init__(self, connection: socket.socket, keep_s: float) -> None:
        self.line = Line(connection)
        self.alive = True
        self._boxes: dict[int, queue.SimpleQueue[object]] = {}
        self._count = 0
        connection.settimeout(_GREETING_S)
        self.line.send(0, wire.Hello(stamp(), keep_s))
        self.welcome = self.line.receive()[1]
        connection.settimeout(None)
        threading.Thread(target=self._read, name="vlmchat-kept", daemon=True).start()

    def call(
        self, message: object, cancel: CancelEvent | None = None, requests: Iterable[Request] = ()
    ) -> Iterator[object]:
        """Yield the events of a call, and what ended it as the last one.

        Raises:
            EngineLost: the server is gone.
            VlmchatError: as the call does.
        """
        self._count += 1
        number, box = self._count, queue.SimpleQueue[object]()
        self._boxes[number] = box
        feed = _Feed(self.line, number, requests)
        told = over = False
        try:
            self._send(number, message)
            while not over:
                if cancel is not None and cancel.is_set() and not told:
                    told = True
                    self._send(number, wire.Cancel())
                try:
                    event = box.get(timeout=_PATIENCE_S)
                except queue.Empty:
                    if not self.alive and box.empty():
                        raise _lost() from None
                    continue
                if isinstance(event, wire.Next):
                    feed.more()
                    continue
                over = isinstance(event, wire.Done | wire.Refused | VlmchatError)
                if isinstance(event, VlmchatError):
                    raise event
                if isinstance(event, wire.Done) and event.broke and feed.problem is not None:
                    raise feed.problem
                yield event
        finally:
            feed.stop()
            self._boxes.pop(number, None)
            if not over and not told and self.alive:
                self._send(number, wire.Cancel())

    def close(self) -> None:
        """End the connection."""
        self.alive = False
        self.line.close()

    def _send(self, number: int, message: object) -> None:
        try:
            self.line.send(number, message)
        except OSError as problem:
            self.alive = False
            raise _lost() from problem

    def _read(self) -> None:
        try:
            while True:
                number, message = self.line.receive()
                if (box := self._boxes.get(number)) is not None:
                    box.put(message)
        except (EOFError, ValueError):
            self.alive = False


class _Feed:
    """Sends requests as the server asks for them, read on a thread of its own: their source may be slow."""

    def __init__(self, line: Line, number: int, requests: Iterable[Request]) -> None:
        self._line, self._number, self._requests = line, number, requests
        self._wanted = threading.Semaphore(0)
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.problem: BaseException | None = None

    def more(self) -> None:
        """Send another one."""
        self._wanted.release()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vlmchat-requests", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        self._wanted.release()

    def _run(self) -> None:
        source = iter(self._requests)
        last = False
        while not last:
            self._wanted.acquire()
            if self._stopped:
                return
            message = wire.More(None)
            try:
                message = wire.More(next(source))
            except StopIteration:
                last = True
            except BaseException as problem:  # noqa: BLE001 - handed to the thread that asked, every kind
                last, self.problem, message = True, problem, wire.More(None, broke=True)
            try:
                self._line.send(self._number, message)
            except OSError:
                return


class KeptEngine:
    """An engine in a process of its own that stays for a while; see :class:`vlmchat.engine.api.Engine`."""

    def __init__(
        self, keep_s: float, feature_bytes: int, here: Callable[[], Engine], notice: Callable[[str], None]
    ) -> None:
        """Make a client that does nothing yet.

        Args:
            keep_s: seconds the engine stays after this program.
            feature_bytes: for a new engine: picture features it may keep on disk.
            here: makes an engine in this process, for when there can be no other.
            notice: told in one sentence why that was needed.
        """
        self._keep_s, self._feature_bytes, self._make_local, self._notice = keep_s, feature_bytes, here, notice
        self._link: _Link | None = None
        self._local: Engine | None = None
        self._about: LoadedModel | None = None
        self._chosen: tuple[Path, LoadOptions] | None = None

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in memory; before the first load what the kept engine has, if there is one."""
        if self._local is not None:
            return self._local.loaded
        if self._link is None and self._chosen is None and (found := running()) is not None:
            return found.loaded
        return self._about

    def holds(self, folder: Path, options: LoadOptions) -> bool:
        """Say whether a load would find everything in memory."""
        if self._local is not None:
            return self._local.holds(folder, options)
        found = running(folder.expanduser().resolve(), options)
        return found is not None and found.holds

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        """Let the kept engine load, or find it loaded; see the contract."""
        folder = folder.expanduser().resolve()
        self._chosen, self._about = (folder, options), None
        try:
            for event in self._greeted().call(wire.Load(folder, options), cancel):
                if isinstance(event, Loading):
                    yield event
                elif isinstance(event, wire.Refused):
                    raise CannotKeep(event.message)
                elif isinstance(event, wire.Done):
                    self._about = event.result
            self._drop_local()
        except (CannotKeep, EngineLost) as problem:
            self._notice(f"{problem} The model is loaded in this process.")
            self._drop_link()
            self._local = self._local or self._make_local()
            yield from self._local.load(folder, options, cancel)

    def measure(self, request: Request) -> PromptSize:
        """Return what ``request`` would cost; see the contract."""
        if self._local is not None:
            return self._local.measure(request)
        size: PromptSize = self._result(wire.Measure(request))
        return size

    def view(self, request: Request, draw: bool = False) -> tuple[Sight, ...]:
        """Return the pictures of ``request`` as the model gets them; see the contract."""
        if self._local is not None:
            return self._local.view(request, draw)
        sights: tuple[Sight, ...] = self._result(wire.View(request, draw))
        return sights

    def generate(self, request: Request, cancel: CancelEvent | None = None) -> Iterator[AnswerEvent]:
        """Answer ``request``; an engine that is lost before the first word is replaced, see the contract."""
        said = False
        try:
            for event in self._generate(request, cancel):
                said = said or isinstance(event, Delta)
                yield event
            return
        except EngineLost:
            if said or self._chosen is None:
                raise
        self._drop_link()
        for _ in self.load(*self._chosen, cancel):
            pass
        yield from self._generate(request, cancel)

    def generate_many(
        self, requests: Iterable[Request], width: int, cancel: CancelEvent | None = None
    ) -> Iterator[RowEvent]:
        """Answer ``requests``, ``width`` at a time; see the contract."""
        if self._local is not None:
            yield from self._local.generate_many(requests, width, cancel)
            return
        for event in self._loaded_link().call(wire.GenerateMany(width), cancel, requests):
            if isinstance(event, wire.Row):
                yield event.number, event.event

    def unload(self) -> None:
        """Let go of the model; the kept engine keeps it for its time."""
        self._drop_local()
        self._drop_link()
        self._about = None

    def close(self) -> None:
        """Leave the kept engine."""
        self.unload()

    def _greeted(self) -> _Link:
        """Return a connection to a server of this version, started where there is none.

        Raises:
            CannotKeep: there can be none.
        """
        if self._link is not None and self._link.alive:
            return self._link
        for _ in range(_ATTEMPTS):
            try:
                link = _Link(connect_or_start(self._feature_bytes), self._keep_s)
            except (OSError, EOFError, ValueError):
                continue  # it left just now
            if isinstance(link.welcome, wire.Welcome):
                self._link = link
                return link
            link.close()
            if isinstance(link.welcome, wire.Refused) and link.welcome.reason == "user":
                raise CannotKeep(link.welcome.message)
        raise CannotKeep("The kept engine could not be started.")

    def _generate(self, request: Request, cancel: CancelEvent | None) -> Iterator[AnswerEvent]:
        """Answer with the engine there is, in this process or kept."""
        if self._local is not None:
            yield from self._local.generate(request, cancel)
            return
        for event in self._loaded_link().call(wire.Generate(request), cancel):
            if not isinstance(event, wire.Done):
                yield event  # type: ignore[misc]

    def _loaded_link(self) -> _Link:
        if self._chosen is None:
            raise ModelError("No model is loaded.", "Load one first.")
        if self._link is None:
            raise _lost()
        return self._link

    def _result(self, message: object) -> Any:
        *_, last = self._loaded_link().call(message)
        return last.result if isinstance(last, wire.Done) else None

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _drop_local(self) -> None:
        if self._local is not None:
            self._local.close()
            self._local = None


def _lost() -> EngineLost:
    return EngineLost("The kept engine has ended.", "Ask again; --cold does without it.")
