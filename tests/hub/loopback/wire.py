"""Answers on the wire: heads, ranges and bodies, and every way in which they can go wrong."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.hub.loopback.contents import HubFile
from tests.hub.loopback.faults import NO_FAULT, Fault
from tests.hub.loopback.record import Exchange, Role

if TYPE_CHECKING:
    from tests.hub.loopback.hub import Hub

_PIECE = 1024 * 1024
_SMALL = 64 * 1024
_SIOCOUTQNSD = 0x894B
"""Linux: ask a TCP socket how much it still has to send."""
_TICKS = 200
"""Pieces per second of a throttled body; one that comes late is not made up for, so that there are no bursts."""


class Gone(Exception):
    """The connection was ended on purpose."""


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of a file that an answer carries: ``start`` up to but not including ``stop``."""

    start: int
    stop: int


class Answerer(BaseHTTPRequestHandler):
    """One connection to a hub or to its CDN."""

    protocol_version = "HTTP/1.1"
    role: Role = "hub"
    hub: Hub
    exchange: Exchange

    def setup(self) -> None:
        """Keep little in the kernel's hands, so that what counts as sent is what arrived."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.hub.send_buffer)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the record holds it all."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.exchange = Exchange(self.role, self.command, self.path, headers)
        self.hub.record.began(self.exchange)
        try:
            self.route()
        except (Gone, ConnectionError, TimeoutError):
            self.close_connection = True

    def route(self) -> None:
        """Answer the request in ``self.exchange``."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        return urlsplit(self.path).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))

    # Heads

    def head(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        """Send the head of an answer; without a length the body is chunked."""
        self.exchange.status = status
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string(round(time.time() + self.hub.clock_skew)))
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        lengths = {name.lower() for name in headers} & {"content-length", "transfer-encoding"}
        if not lengths:
            self.send_header(
                *(("Content-Length", str(length)) if length is not None else ("Transfer-Encoding", "chunked"))
            )
        self.end_headers()

    def whole(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a small answer that is not a file."""
        self.head(status, headers or {}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, status: int, data: Any, headers: Mapping[str, str] | None = None, fault: Fault = NO_FAULT) -> None:
        """Send JSON; a cut leaves it broken in the middle, its length saying that it is whole."""
        body = json.dumps(data).encode()
        if fault.kind == "cut":
            body = body[: len(body) // 2]
        self.whole(status, body, {"Content-Type": "application/json", **(headers or {}), **fault.headers})

    def spoilt(self, fault: Fault) -> bool:
        """Do what goes wrong before an answer begins; True when there is nothing more to say."""
        if fault.kind == "drop":
            raise Gone
        if fault.kind == "wait":
            self.pause(fault.seconds)
        elif fault.kind == "status":
            self.whole(fault.status, fault.body, fault.headers)
            return True
        elif fault.kind == "loop":
            self.whole(302, b"", {"Location": self.path})
            return True
        return False

    def pause(self, seconds: float) -> None:
        """Send nothing for a while; over at once when the hub is closed or the other side has left."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.hub.closing.wait(min(left, 0.05)) or self._left_alone():
                raise Gone

    def _left_alone(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    # Bodies

    def asked(self, size: int) -> Span | None:
        """Return the range that was asked for, None where none was; one outside the file is empty."""
        text = self.headers.get("Range", "")
        if not text.startswith("bytes="):
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        start = int(first or 0)
        return Span(start, max(start, min(size, int(last) + 1 if last else size)))

    def file(self, file: HubFile, headers: Mapping[str, str], fault: Fault = NO_FAULT, ranges: bool = True) -> None:
        """Send a file or the part of it that was asked for."""
        size = file.location.stat().st_size
        span = self.asked(size) if ranges and fault.kind not in {"ignore-range", "gzip"} else None
        if span is not None and span.start >= size:
            self.whole(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        extra = dict(headers)
        if ranges:
            extra["Accept-Ranges"] = "bytes"
        sent = span or Span(0, size)
        if span is not None:
            sent = self._shifted(sent, fault)
            said = span if fault.kind == "lie-range" else sent
            extra["Content-Range"] = f"bytes {said.start}-{said.stop - 1}/{size}"
        extra |= fault.headers
        if fault.kind == "gzip":
            self._compressed(file, extra)
            return
        self._body(file, sent, 206 if span is not None else 200, extra, fault)

    @staticmethod
    def _shifted(span: Span, fault: Fault) -> Span:
        if fault.kind not in {"shift-range", "lie-range"}:
            return span
        back = min(span.start, fault.after or 0)
        return Span(span.start - back, span.stop - (back if fault.kind == "lie-range" else 0))

    def _compressed(self, file: HubFile, headers: dict[str, str]) -> None:
        body = gzip.compress(file.location.read_bytes(), 1)
        self.head(200, {**headers, "Content-Encoding": "gzip"}, len(body))
        for start in range(0, 0 if self.command == "HEAD" else len(body), _SMALL):
            piece = body[start : start + _SMALL]
            self.wfile.write(piece)
            self.hub.record.sent(self.exchange, len(piece))  # as it goes: a client may leave in the middle

    def _body(self, file: HubFile, span: Span, status: int, headers: dict[str, str], fault: Fault) -> None:
        length: int | None = span.stop - span.start
        if fault.kind == "short-length":
            span = Span(span.start, min(span.stop, span.start + (fault.after or 0)))
            length = span.stop - span.start
        elif fault.kind == "extra":
            length = span.stop - span.start + (fault.after or 0)
        elif fault.kind == "chunked":
            length = None
        elif fault.kind == "close":
            headers["Connection"] = "close"
            self.close_connection = True
        self.head(status, headers, length)
        if self.command == "HEAD":
            return
        self.exchange.start = span.start
        self.hub.record.opened(1)
        try:
            self._stream(file, span, fault)
        finally:
            self.hub.record.opened(-1)

    def _stream(self, file: HubFile, span: Span, fault: Fault) -> None:
        point = fault.point(span.start)
        descriptor = os.open(file.location, os.O_RDONLY)
        try:
            if fault.kind in {"cut", "reset", "stall", "drip"} and point is not None and point < span.stop:
                self._send(descriptor, Span(span.start, point))
                self._interrupt(fault)
                self._send(descriptor, Span(point, span.stop), fault.rate)
            elif fault.kind == "flip" and point is not None and span.start < span.stop:
                # Streams come in any order: an answer that does not reach ``at`` is spoilt where it is nearest to it.
                wrong = min(point, span.stop - 1)
                self._send(descriptor, Span(span.start, wrong))
                self._raw(bytes([os.pread(descriptor, 1, wrong)[0] ^ 1]))
                self._send(descriptor, Span(wrong + 1, span.stop))
            elif fault.kind == "chunked":
                self._chunks(descriptor, span)
            else:
                self._send(descriptor, span)
                self._raw(b"x" * (fault.after or 0) if fault.kind == "extra" else b"")
        finally:
            os.close(descriptor)

    def _interrupt(self, fault: Fault) -> None:
        if fault.kind == "stall":
            self.pause(fault.seconds)
        elif fault.kind == "cut":
            raise Gone
        elif fault.kind == "reset":
            # What the kernel still holds is thrown away by a reset: it was never sent.
            self.hub.record.sent(self.exchange, -self._unsent())
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            raise Gone

    def _unsent(self) -> int:
        """Bytes that were handed to the kernel and have not left it; 0 where it does not tell."""
        try:
            return int(struct.unpack("i", fcntl.ioctl(self.connection, _SIOCOUTQNSD, b"\0" * 4))[0])
        except OSError:
            return 0

    def _send(self, descriptor: int, span: Span, rate: int = 0) -> None:
        """Send a part of a file as fast as the hub's rate, or ``rate``, allows."""
        rate = rate or self.hub.rate
        piece = max(1, min(_PIECE, rate // _TICKS)) if rate else _PIECE
        offset = span.start
        while offset < span.stop:
            sent = os.sendfile(self.connection.fileno(), descriptor, offset, min(piece, span.stop - offset))
            if not sent:
                raise Gone
            offset += sent
            self.hub.record.sent(self.exchange, sent)
            if rate:
                self.pause(sent / rate)

    def _raw(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.hub.record.sent(self.exchange, len(data))

    def _chunks(self, descriptor: int, span: Span) -> None:
        for offset in range(span.start, span.stop, _PIECE):
            data = os.pread(descriptor, min(_PIECE, span.stop - offset), offset)
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
            self.hub.record.sent(self.exchange, len(data))
        self.connection.sendall(b"0\r\n\r\n")
