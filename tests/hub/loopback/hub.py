"""A hub on 127.0.0.1 with its CDN on a second port, in threads of this process."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode

from tests.hub.loopback.contents import HubFile, Repository, by_hash
from tests.hub.loopback.faults import Faults
from tests.hub.loopback.record import Record, Role
from tests.hub.loopback.wire import Answerer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client that hung up be; anything else is shown by the default."""
        import sys

        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)


@dataclass
class Link:
    """A signed link to a stored object, good for a time and for a number of answers."""

    sha256: str
    path: str
    ends: float
    uses: int


@dataclass
class Hub:
    """One hub: what it holds, how it fares, and what it was asked; a context manager that serves meanwhile."""

    protocol: type[Answerer]
    branch: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    record: Record = field(default_factory=Record)
    users: dict[str, str] = field(default_factory=dict)
    """User names by token."""
    rate: int = 0
    """Bytes per second of each stream; 0 for no limit."""
    clock_skew: float = 0.0
    """Seconds by which this hub's clock is ahead."""
    send_buffer: int = 64 * 1024
    """Bytes the kernel may hold for each connection."""
    link_seconds: float = 3600.0
    link_uses: int = 1_000_000
    page_size: int = 1000
    """Files in one page of a listing."""
    closing: threading.Event = field(default_factory=threading.Event)
    connections: set[socket.socket] = field(default_factory=set)
    links: dict[str, Link] = field(default_factory=dict)
    _servers: list[_Server] = field(default_factory=list)

    def __enter__(self) -> Hub:
        for handler, host in ((self.protocol, "127.0.0.1"), (CDN, "127.0.0.1")):
            self._servers.append(_Server((host, 0), type("Bound", (handler,), {"hub": self})))
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: end every connection and refuse new ones."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        """The CDN has a host name of its own: cookies know hosts, not ports."""
        return f"http://localhost:{self._servers[1].server_port}"

    def publish(self, repository: str, files: Mapping[str, HubFile], **properties: Any) -> Repository:
        """Make a repository with one commit."""
        made = Repository(repository, self.branch, **properties)
        made.commit(files)
        self.repositories[repository] = made
        return made

    def user(self, token: str) -> str:
        """Return whose token it is; empty for nobody's."""
        return self.users.get(token, "")

    def link(self, file: HubFile) -> str:
        """Sign a link to a file's bytes."""
        signature = secrets.token_hex(16)
        self.links[signature] = Link(file.sha256, file.path, time.monotonic() + self.link_seconds, self.link_uses)
        stamp = hashlib.sha256(signature.encode()).hexdigest()
        query = urlencode({"response-content-disposition": f'filename="{file.path}"', "Signature": signature})
        return f"{self.cdn}/{stamp[:8]}/{file.sha256}?{query}"

    def stored(self, sha256: str) -> HubFile | None:
        return by_hash(self.repositories, sha256)


_XML = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%b</Code></Error>'


class CDN(Answerer):
    """The storage that signed links lead to; like the real one it refuses two kinds of credentials at once."""

    role: Role = "cdn"
    _requests = itertools.count()

    def route(self) -> None:
        link = self.hub.links.get(self.query.get("Signature", ""))
        if link is None:
            self._refuse(403, b"SignatureDoesNotMatch")
            return
        self.exchange.file = link.path
        if "authorization" in self.exchange.headers:
            self._refuse(400, b"InvalidArgument")
            return
        fault = self.hub.faults.take("content", "*", link.path)
        if self.spoilt(fault):
            return
        if link.uses <= 0 or time.monotonic() > link.ends:
            self._refuse(403, b"RequestExpired")
            return
        link.uses -= 1
        file = self.hub.stored(link.sha256)
        if file is None:
            self._refuse(404, b"NoSuchKey")
            return
        headers = {"ETag": f'"{file.sha256[:32]}"', "Content-Type": "application/octet-stream"}
        self.file(file, headers, fault)

    def _refuse(self, status: int, code: bytes) -> None:
        self.whole(status, _XML % code, {"Content-Type": "application/xml"})
