"""A forward proxy for plain HTTP on 127.0.0.1 that counts what it passes on."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

_BLOCK = 256 * 1024


class Proxy:
    """A context manager; ``refuses`` makes it ask for a password that nobody has."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.passed: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Passing,), {"proxy": self}))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class _Passing(BaseHTTPRequestHandler):
    proxy: Proxy

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.proxy.refuses:
            self.send_error(407)
            return
        self.proxy.passed.append(self.path)
        wanted = urlsplit(self.path)
        there = http.client.HTTPConnection(wanted.netloc, timeout=10)
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith(("proxy-", "connection"))}
        there.request(self.command, wanted._replace(scheme="", netloc="").geturl(), headers=headers)
        answer = there.getresponse()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        self.end_headers()
        while block := answer.read(_BLOCK):
            self.wfile.write(block)
        there.close()

    do_HEAD = do_GET  # noqa: N815
