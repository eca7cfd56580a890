"""The kept engine: one model, many clients one after the other, gone by itself when nobody comes.

``python -m vlmchat.engine.server FD PATH BYTES`` is how :mod:`vlmchat.engine.keeping` starts it. Load, answers and
batches take turns in the order they came; a client that waits is told so by ``Loading("waiting")``. The model
is swapped for a newcomer only while nobody else uses the one there is.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from vlmchat.engine import wire
from vlmchat.engine.api import Engine, Request
from vlmchat.engine.events import Finished, Loading, Timing, Usage
from vlmchat.engine.keeping import log_path, peer_uid, stamp
from vlmchat.engine.wire import Line
from vlmchat.errors import VlmchatError
from vlmchat.options import LoadOptions

FIRST_S = 60.0
"""How long a new server waits for its first client."""
_LOOK_S = 0.5
"""Seconds between two looks at the clock and at the socket's file."""
_PATIENCE_S = 0.05
"""Seconds between two looks at a stop, while a call waits for its turn or a request."""


class _Broke(Exception):
    """The client's requests ended with an error, which it keeps itself."""


class Turns:
    """Who works with the engine now, and who comes next."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def taken(self) -> bool:
        """Somebody is at work or waits."""
        return bool(self._line)

    @contextmanager
    def turn(self, stopped: Callable[[], bool]) -> Iterator[bool]:
        """Wait; yields False where ``stopped`` came first."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            with self._changed:
                while not (mine := self._line[0] is ticket) and not stopped():
                    self._changed.wait(_PATIENCE_S)
            yield mine
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()


@dataclass(eq=False)
class _Call:
    """One call under way."""

    cancel: threading.Event = field(default_factory=threading.Event)
    inbox: queue.SimpleQueue[wire.More] = field(default_factory=queue.SimpleQueue)


@dataclass(frozen=True)
class _Held:
    """What is in memory, or on its way there."""

    folder: Path
    options: LoadOptions
    files: tuple[tuple[str, int, int], ...]
    """Name, bytes and time of each file: a checkpoint that was trained on is another one."""

    @classmethod
    def now(cls, folder: Path, options: LoadOptions) -> _Held:
        files = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
        return cls(folder, options, tuple((name, about.st_size, about.st_mtime_ns) for name, about in files))


class Server:
    """An engine behind a listening socket."""

    def __init__(
        self, listener: socket.socket, path: Path, engine: Engine, mark: str | None = None, uid: int | None = None
    ) -> None:
        """Serve ``engine``.

        Args:
            listener: bound to ``path`` and listening.
            path: taken away when the server leaves.
            engine: nothing loaded yet.
            mark: of this code, see :func:`vlmchat.engine.keeping.stamp`.
            uid: the only user who may come in; None: the one who runs this.
        """
        self.engine = engine
        self.turns = Turns()
        self.mark = mark or stamp()
        self.uid = os.geteuid() if uid is None else uid
        self.clients: list[Client] = []
        self.held: _Held | None = None
        self.piping: Client | None = None
        """Who runs a batch of requests, which may take hours."""
        self.lock = threading.Lock()
        self._listener, self._path = listener, path
        self._inode = path.stat().st_ino
        self._deadline = time.monotonic() + FIRST_S
        self._leaving = threading.Event()

    def run(self) -> None:
        """Serve until nobody has come for a while; the socket's file is gone before the last connection is."""
        self._listener.settimeout(_LOOK_S)
        while not self._leaving.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(None)
                threading.Thread(target=self._meet, args=(connection,), daemon=True).start()
            with self.lock:
                if not self.clients and (self._left_s <= 0 or not self._is_ours()):
                    self._leaving.set()
        self._withdraw()
        self._listener.close()
        while self.clients:
            time.sleep(_PATIENCE_S)

    def leave(self) -> None:
        """Let nobody in any more, and end when the last client has left."""
        self._withdraw()
        self._leaving.set()

    def about(self, asked: wire.Ask) -> wire.Running:
        """Say what this server is and does."""
        holds = asked.folder is not None and asked.options is not None and self.has(asked.folder, asked.options)
        return wire.Running(os.getpid(), self.engine.loaded, len(self.clients), max(0.0, self._left_s), holds)

    def has(self, folder: Path, options: LoadOptions) -> bool:
        """Say whether just this is in memory."""
        try:
            return self.engine.loaded is not None and self.held == _Held.now(folder, options)
        except OSError:
            return False

    def forget(self, client: Client, keep_s: float) -> None:
        """Take note that ``client`` has left."""
        with self.lock:
            self.clients.remove(client)
            self._deadline = time.monotonic() + (keep_s if self.engine.loaded is not None else 0.0)

    @property
    def _left_s(self) -> float:
        return self._deadline - time.monotonic()

    def _is_ours(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _withdraw(self) -> None:
        if self._is_ours():
            self._path.unlink(missing_ok=True)

    def _meet(self, connection: socket.socket) -> None:
        line = Line(connection)
        with suppress(OSError, EOFError, ValueError):
            number, first = line.receive()
            if peer_uid(connection) not in {None, self.uid}:
                line.send(number, wire.Refused("user", "This engine is another user's."))
            else:
                self._greet(line, number, first)
        line.close()

    def _greet(self, line: Line, number: int, first: object) -> None:
        if isinstance(first, wire.Ask):
            line.send(number, self.about(first))
            if first.leave:
                self.leave()
        elif isinstance(first, wire.Hello):
            if first.stamp != self.mark:
                self.leave()
                line.send(number, wire.Refused("outdated", "This engine runs other code."))
                return
            client = Client(self, line)
            with self.lock:
                if self._leaving.is_set():
                    return
                self.clients.append(client)
            try:
                line.send(number, wire.Welcome(os.getpid()))
                client.serve()
            finally:
                self.forget(client, first.keep_s)


class Client:
    """One connected program and its calls."""

    def __init__(self, server: Server, line: Line) -> None:
        self._server, self._line = server, line
        self._calls: dict[int, _Call] = {}

    def serve(self) -> None:
        """Take calls until the program is gone; then whatever it asked for ends."""
        try:
            while True:
                number, message = self._line.receive()
                call = self._calls.get(number)
                if isinstance(message, wire.Cancel | wire.More):
                    if call is not None and isinstance(message, wire.More):
                        call.inbox.put(message)
                    elif call is not None:
                        call.cancel.set()
                else:
                    call = self._calls[number] = _Call()
                    threading.Thread(target=self._answer, args=(number, message, call), daemon=True).start()
        finally:
            for call in list(self._calls.values()):
                call.cancel.set()

    def _answer(self, number: int, message: object, call: _Call) -> None:
        try:
            end: object = self._do(number, message, call)
        except _Broke:
            end = wire.Done(broke=True)
        except VlmchatError as problem:
            end = problem
        except OSError:
            return
        except Exception as problem:  # noqa: BLE001 - the client's user has to be told, every kind
            traceback.print_exc()
            end = VlmchatError(
                f"The kept engine met an error it does not know: {type(problem).__name__}: {problem}.",
                f"{log_path()} says more; --cold does without it.",
            )
        finally:
            self._calls.pop(number, None)
        with suppress(OSError):
            self._line.send(number, end)

    def _do(self, number: int, message: object, call: _Call) -> object:
        """Do one call, its events sent, and return what ends it."""
        engine = self._server.engine
        match message:
            case wire.Measure(request):
                return wire.Done(engine.measure(request))
            case wire.View(request, draw):
                return wire.Done(engine.view(request, draw))
            case wire.Load(folder, options):
                return self._load(number, _Held.now(folder, options), call)
            case wire.Generate(request):
                with self._server.turns.turn(call.cancel.is_set) as mine:
                    events = engine.generate(request, call.cancel) if mine else iter([self._not_begun(request)])
                    for event in events:
                        self._line.send(number, event)
            case wire.GenerateMany(width):
                self._pipe(number, width, call)
        return wire.Done()

    def _load(self, number: int, wanted: _Held, call: _Call) -> object:
        server = self._server
        if server.turns.taken:
            if server.piping not in {None, self}:
                return wire.Refused("busy", "The kept engine is at work on a pipe.")
            self._line.send(number, Loading("waiting"))
        with server.turns.turn(call.cancel.is_set) as mine:
            if not mine:
                return wire.Done()
            if server.engine.loaded is not None and server.held == wanted:
                self._line.send(number, Loading("ready"))
                return wire.Done(server.engine.loaded)
            with server.lock:
                if server.engine.loaded is not None and any(client is not self for client in server.clients):
                    return wire.Refused("busy", "Another program uses the kept engine with another model.")
            if server.held is not None and server.held != wanted:
                server.engine.unload()
            server.held = wanted
            for event in server.engine.load(wanted.folder, wanted.options, call.cancel):
                self._line.send(number, event)
            return wire.Done(server.engine.loaded)

    def _pipe(self, number: int, width: int, call: _Call) -> None:
        with self._server.turns.turn(call.cancel.is_set) as mine:
            if not mine:
                return
            self._server.piping = self
            try:
                requests = self._requests(number, call)
                for row, event in self._server.engine.generate_many(requests, width, call.cancel):
                    self._line.send(number, wire.Row(row, event))
            finally:
                self._server.piping = None

    def _requests(self, number: int, call: _Call) -> Iterator[Request]:
        """Yield what the client sends, asking for each."""
        while not call.cancel.is_set():
            self._line.send(number, wire.Next())
            more = None
            while more is None and not call.cancel.is_set():
                with suppress(queue.Empty):
                    more = call.inbox.get(timeout=_PATIENCE_S)
            if more is None:
                return
            if more.broke:
                raise _Broke
            if more.request is None:
                return
            yield more.request

    def _not_begun(self, request: Request) -> Finished:
        """Return the end of an answer that was stopped while it waited for its turn."""
        size = self._server.engine.measure(request)
        usage = Usage(size.prompt_tokens, size.image_tokens, 0)
        return Finished("interrupted", "", (), usage, Timing(0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def main() -> None:
    """Serve on the socket that was handed over, and end."""
    from vlmchat.engine.torch_engine import TorchEngine

    server = Server(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]), TorchEngine(False, int(sys.argv[3])))
    signal.signal(signal.SIGTERM, lambda number, frame: server.leave())
    server.run()
    # A library's import cannot be interrupted, and nothing here has to be kept.
    os._exit(0)


if __name__ == "__main__":
    main()
