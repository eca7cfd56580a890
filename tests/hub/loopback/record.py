"""What a hub was asked and what it sent: the witness of every test about bytes and tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["hub", "cdn"]


@dataclass(slots=True)
class Exchange:
    """One request and what was sent for it."""

    role: Role
    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""
    file: str = ""
    """Path of the file in its repository, where the request was for one."""
    status: int = 0
    start: int = 0
    """Offset of the first byte of the body in the file."""
    sent: int = 0
    """Bytes of the file that reached the other side's kernel."""

    @property
    def credentials(self) -> str:
        """Everything that could carry a token, joined: to look a secret up in."""
        return " ".join([self.target, *self.headers.values()])


@dataclass(slots=True)
class Record:
    """All exchanges of one hub and its CDN, in the order they began."""

    exchanges: list[Exchange] = field(default_factory=list)
    open: int = 0
    """Bodies being sent now."""
    most_open: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def began(self, exchange: Exchange) -> None:
        with self._changed:
            self.exchanges.append(exchange)

    def opened(self, by: int) -> None:
        """Note that a body begins (1) or ends (-1)."""
        with self._changed:
            self.open += by
            self.most_open = max(self.most_open, self.open)
            self._changed.notify_all()

    def sent(self, exchange: Exchange, count: int) -> None:
        with self._changed:
            exchange.sent += count
            self._changed.notify_all()

    def bytes(self, file: str = "") -> int:
        """Bytes of files sent so far, of all or of one path."""
        with self._changed:
            return self._bytes(file)

    def _bytes(self, file: str) -> int:
        return sum(e.sent for e in self.exchanges if e.file and file in {"", e.file})

    def requests(self, role: Role | None = None, file: str = "", method: str = "") -> list[Exchange]:
        """Return the exchanges with that role, file and method."""
        with self._changed:
            return [
                e
                for e in self.exchanges
                if role in {None, e.role} and file in {"", e.file} and method in {"", e.method}
            ]

    def wait_for_bytes(self, count: int, timeout: float = 60.0, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until ``count`` bytes of files were sent; False when the time is up or ``stopped`` says so."""
        with self._changed:
            for _ in range(round(timeout / 0.05)):
                if self._bytes("") >= count:
                    return True
                if stopped():
                    return False
                self._changed.wait(0.05)
        return False
