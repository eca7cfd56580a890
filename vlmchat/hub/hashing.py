"""A file's hashes: while its pieces come in any order, or of a file that is on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from vlmchat.hub.source import RemoteFile

_BLOCK = 1024**2
"""Bytes read at once: how soon a stop is seen, about a millisecond."""


class Stopped(Exception):
    """The download was paused: nothing is written any more."""


class Digest:
    """The hashes of a file, taken from its front while its pieces come in any order."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._lock = Lock()
        self.position = 0
        """Bytes hashed."""
        self.sha256 = hashlib.sha256()
        self._git = None if file.sha256 else hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)

    def matches(self) -> bool:
        """Say whether the bytes hashed so far are the whole file that the hub lists."""
        if self.position != self._file.bytes:
            return False
        return (self._git.hexdigest() if self._git else self.sha256.hexdigest()) == self._file.key

    def feed(self, offset: int, data: memoryview, front: Callable[[], int], read: Callable[[int, int], bytes]) -> None:
        """Hash ``data`` if it is next, then what other streams wrote behind it. One thread at a time does so."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if offset == self.position:
                self.take(data)
            self._follow(front, read, lambda _: None)
        finally:
            self._lock.release()

    def catch_up(
        self, front: Callable[[], int], read: Callable[[int, int], bytes], told: Callable[[int], None]
    ) -> None:
        """Hash all that is there from the front."""
        with self._lock:
            self._follow(front, read, told)

    def _follow(self, front: Callable[[], int], read: Callable[[int, int], bytes], told: Callable[[int], None]) -> None:
        while (ahead := front() - self.position) > 0:
            block = read(self.position, ahead)
            if not block:
                return
            self.take(block)
            told(self.position)

    def take(self, data: bytes | memoryview) -> None:
        """Hash what comes next."""
        self.sha256.update(data)
        if self._git:
            self._git.update(data)
        self.position += len(data)


def hash_file(path: Path, file: RemoteFile, told: Callable[[int], None]) -> Digest:
    """Hash a file on disk; ``told`` gets the bytes hashed so far and may raise to end it.

    Raises:
        OSError: it cannot be read.
    """
    digest = Digest(file)
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.take(block)
            told(digest.position)
    return digest
