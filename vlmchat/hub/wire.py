"""The ranged read loop: one stream of bytes from a link into a piece of a file.

``requests`` brings proxies and certificates and is a dependency of ModelScope's client; its raw
response reads a socket's bytes without copying them twice: 0.37 s for 200 MB over four streams on
loopback, hashed and written, beside 0.78 s with httpx2 and 0.40 s of curl (medians of three, two cores).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from threading import Lock
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.poolmanager import ProxyManager
from urllib3.response import BaseHTTPResponse

import vlmchat
from vlmchat.hub.faults import Hiccup, reason_of, retry_after
from vlmchat.hub.hashing import Stopped
from vlmchat.hub.partial import Piece
from vlmchat.hub.source import Link

_READ = 256 * 1024
"""Bytes read and written at once at most: all that is there is written at once, and none waits in memory."""
_WINDOW = 512 * 1024
"""Bytes the system may receive ahead of us, which Linux takes twice: what a killed process or a pause loses of a
stream. Left alone it grows to 10 MB a stream on loopback. Eight streams of this carry 68 MB/s at 100 ms."""
_HOPS = 10
_PRIVATE = frozenset({"authorization", "cookie"})


class Refused(Exception):
    """The hub itself answered 401 or 403 for a file."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class Wire:
    """The connections of one worker, and a way for another thread to end them.

    Args:
        connect_s: seconds for a connection.
        read_s: seconds without a byte after which a stream is given up.
    """

    def __init__(self, connect_s: float, read_s: float) -> None:
        self._timeouts = (connect_s, read_s)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter())
        # Without this a password in ~/.netrc would be sent along.
        self._session.auth = _as_it_is
        # None is needed for bytes, and none should travel from file to file.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._lock = Lock()
        self._cut = False
        self._open: requests.Response | None = None

    def fetch(
        self, link: Link, piece: Piece, size: int, write: Callable[[memoryview], None], check: Callable[[int], None]
    ) -> None:
        """Read what is missing of ``piece`` and write it.

        Args:
            link: where the bytes are.
            piece: from :attr:`Piece.offset` to its end.
            size: bytes of the whole file, as listed.
            write: takes what comes next; has to count it into ``piece``.
            check: is told the bytes that were read, and may raise to end the stream.

        Raises:
            Hiccup: the stream ended badly; what was read is written.
            Refused: the hub itself does not give the file.
            Stopped: :meth:`cut` was called.
            OSError: ``write`` could not.
        """
        headers = {"Range": f"bytes={piece.offset}-{piece.end - 1}", "Accept-Encoding": "identity"}
        with self._response(link, headers) as response:
            skip = _check_answer(response, link, piece, size)
            _copy(response.raw, piece, skip, write, check)
            if response.status_code == 206 and "Content-Length" in response.headers:
                # Sees the end of the body, so that the connection serves the next piece.
                response.raw.read(1)

    def cut(self) -> None:
        """End the stream that is open, whatever it waits for, and let no other begin."""
        with self._lock:
            self._cut = True
            response = self._open
        if response is not None:
            try:
                response.raw.shutdown()
            except (ValueError, RuntimeError, OSError):
                # Read to its end already, or closed by the other side.
                return

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    @contextmanager
    def _response(self, link: Link, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        try:
            response = self._follow(link, headers)
        except (requests.RequestException, HTTPError, OSError) as problem:
            self._check_cut()
            raise Hiccup(reason_of(problem)) from None
        try:
            with self._lock:
                self._open = response
            self._check_cut()
            yield response
        except HTTPError as problem:
            self._check_cut()
            raise Hiccup(reason_of(problem)) from None
        finally:
            with self._lock:
                self._open = None
            # A connection with an unread rest cannot serve another request.
            response.close()

    def _follow(self, link: Link, headers: Mapping[str, str]) -> requests.Response:
        """Follow redirects by hand: what is meant for one host is never sent to another."""
        url = link.url
        agent = {"User-Agent": f"vlmchat/{vlmchat.__version__}"}
        for _ in range(_HOPS):
            self._check_cut()
            known = urlsplit(url)[:2] == urlsplit(link.url)[:2]
            own = {name: value for name, value in link.headers.items() if known or name.lower() not in _PRIVATE}
            response = self._session.get(
                url, headers={**agent, **headers, **own}, stream=True, allow_redirects=False, timeout=self._timeouts
            )
            if not response.is_redirect:
                return response
            url = urljoin(url, response.headers["Location"])
            response.close()
        raise requests.TooManyRedirects

    def _check_cut(self) -> None:
        if self._cut:
            raise Stopped


def _check_answer(response: requests.Response, link: Link, piece: Piece, size: int) -> int:
    """Return how many bytes of the body come before the piece's next one; refuse what is not the file."""
    status, headers = response.status_code, response.headers
    if status == 206 and not headers.get("Content-Encoding"):
        start, total = _content_range(headers.get("Content-Range", ""))
        if total not in {None, size}:
            raise Hiccup("the file has another size than listed", wrong=True)
        if start is None or start > piece.offset:
            raise Hiccup("another range came than was asked for")
        return piece.offset - start
    if status == 200:
        length = headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != size and not headers.get("Content-Encoding"):
            # Too short may be a page that asks to sign in, too long is another file.
            raise Hiccup("the answer has another size than the file", wrong=int(length) > size)
        return piece.offset
    if status in {401, 403} and link.own and response.url.startswith(link.url):
        raise Refused(status)
    if status == 416:
        raise Hiccup("the file has another size than listed", wrong=True)
    raise Hiccup(f"status {status}", retry_after(headers.get("Retry-After")))


def _content_range(value: str) -> tuple[int | None, int | None]:
    """Return start and total of ``bytes 0-9/10``; None for what it does not say."""
    unit, _, rest = value.partition(" ")
    span, _, total = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or not start.isdecimal():
        return None, None
    return int(start), int(total) if total.isdecimal() else None


def _copy(
    raw: BaseHTTPResponse,
    piece: Piece,
    skip: int,
    write: Callable[[memoryview], None],
    check: Callable[[int], None],
) -> None:
    """Write what comes as it comes, until the piece is whole."""
    decode = bool(raw.headers.get("Content-Encoding"))
    while not piece.whole:
        data = raw.read1(min(skip or piece.end - piece.offset, _READ), decode_content=decode)
        if not data:
            raise Hiccup("connection closed early")
        check(len(data))
        if skip:
            skip -= len(data)
        else:
            write(memoryview(data))


class _Adapter(HTTPAdapter):
    """Connections, through a proxy or not, that receive no more than :data:`_WINDOW` ahead."""

    _OPTIONS = (*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW))

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Set the option on direct connections."""
        super().init_poolmanager(*args, socket_options=self._OPTIONS, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> ProxyManager:
        """Set the option on connections to a proxy."""
        manager: ProxyManager = super().proxy_manager_for(proxy, socket_options=self._OPTIONS, **options)
        return manager


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
