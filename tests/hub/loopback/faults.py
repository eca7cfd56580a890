"""Faults by repository, file and stage of a download, each for a number of answers or for ever."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["listing", "resolve", "content"]
"""``listing``: info, tree, file list. ``resolve``: the hub's answer for one file, a link or a redirect.
``content``: whatever sends a file's bytes, a CDN or the hub itself."""
Kind: TypeAlias = Literal[
    "none",
    "cut",  # close the connection in the body, at ``after`` bytes of this answer or at offset ``at`` of the file
    "reset",  # the same with a TCP reset
    "stall",  # send nothing for ``seconds`` at that point, then go on
    "drip",  # go on at ``rate`` bytes per second from that point
    "flip",  # one wrong byte at offset ``at``, or as near to it as this answer reaches
    "status",  # answer with ``status``, ``headers`` and ``body``
    "drop",  # close without an answer
    "wait",  # answer after ``seconds``
    "ignore-range",  # 200 and the whole file, whatever was asked
    "shift-range",  # 206 that starts ``after`` bytes too early and says so
    "lie-range",  # 206 that says what was asked and sends what lies ``after`` bytes before it
    "short-length",  # Content-Length says ``after`` bytes, and so many come
    "extra",  # ``after`` more bytes than the file has, announced as such
    "chunked",  # no Content-Length
    "gzip",  # compressed although identity was asked for
    "loop",  # a redirect to itself
    "headers",  # the ordinary answer with ``headers`` changed; an empty value takes one away
    "close",  # the ordinary answer, then the connection is closed
]
FOREVER = 1_000_000
HTML = b"<!doctype html><html><title>Sign in</title><body>This network needs you to sign in.</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one answer."""

    kind: Kind = "none"
    after: int | None = None
    at: int | None = None
    seconds: float = 0.0
    rate: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def point(self, start: int) -> int | None:
        """Return the file offset where it strikes in an answer that begins at ``start``; None for nowhere."""
        if self.after is not None:
            return start + self.after
        return max(start, self.at) if self.at is not None else None


NO_FAULT = Fault()


def status(code: int, retry_after: str = "", body: bytes = b"") -> Fault:
    """Answer with an error and, where given, the time after which to come again."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    return Fault("status", status=code, headers=headers, body=body)


def sign_in_page() -> Fault:
    """Answer 200 with a page of HTML, as a hotel's network does."""
    return Fault("status", status=200, headers={"Content-Type": "text/html"}, body=HTML)


@dataclass(slots=True)
class _Rule:
    stage: Stage
    file: str
    fault: Fault
    left: int
    repository: str


@dataclass(slots=True)
class Faults:
    """The script of one hub: the first rule that fits an answer is spent on it."""

    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    struck: int = 0
    """How many answers were spoilt: a test that meant one can see that it came."""

    def add(self, stage: Stage, file: str, fault: Fault, times: int = FOREVER, repository: str = "*") -> None:
        """Spoil the next ``times`` answers of ``stage`` for files that fit the pattern ``file``."""
        with self._lock:
            self._rules.append(_Rule(stage, file, fault, times, repository))

    def clear(self) -> None:
        """Be well again."""
        with self._lock:
            self._rules.clear()

    def take(self, stage: Stage, repository: str, file: str) -> Fault:
        """Return the fault for this answer and count it as used."""
        with self._lock:
            for rule in self._rules:
                fits = rule.stage == stage and fnmatch(file, rule.file) and fnmatch(repository, rule.repository)
                if fits and rule.left > 0:
                    rule.left -= 1
                    self.struck += 1
                    return rule.fault
        return NO_FAULT
