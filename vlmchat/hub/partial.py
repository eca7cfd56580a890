"""One file on its way: written in pieces at their places, hashed from the front while it comes.

Beside ``<hash>.part`` lies ``<hash>.done``: a head of three numbers (a mark, the file's bytes, the
bytes of a piece) and one number per piece, how many of its bytes are written. The count is written
after the bytes it counts, at once, so a process that is killed loses next to nothing, and what the
count says is there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from vlmchat.hub.hashing import Digest, Stopped
from vlmchat.hub.source import RemoteFile

_HEAD = struct.Struct("<8sQQ")
_COUNT = struct.Struct("<Q")
_MARK = b"vlmpart1"
_BLOCK = 1024**2
"""Bytes read at once while hashing what is on disk: how soon a stop is seen, about a millisecond."""


@dataclass(slots=True)
class Piece:
    """A run of bytes that one stream fetches."""

    index: int
    start: int
    end: int
    done: int = 0
    """Bytes of it on disk, from its start."""

    @property
    def offset(self) -> int:
        """Where its next byte goes."""
        return self.start + self.done

    @property
    def whole(self) -> bool:
        """Whether all of it is on disk."""
        return self.offset == self.end


class Part:
    """The partial file and its count. Any thread may write its own piece.

    Args:
        folder: where it lies; it must exist.
        file: what it is to become.
        piece_bytes: of a new file; one that was begun keeps its own.

    Raises:
        OSError: it cannot be opened or written.
    """

    def __init__(self, folder: Path, file: RemoteFile, piece_bytes: int) -> None:
        self.file = file
        self.path, self._count_path = part_paths(folder, file)
        self._lock = Lock()
        self._closed = False
        self._data = _open(self.path)
        try:
            self._counts = _open(self._count_path)
        except OSError:
            self._data.close()
            raise
        self.pieces = self._load() or self._begin(piece_bytes)
        self._digest = Digest(file)

    @property
    def hashed(self) -> int:
        """Bytes hashed so far."""
        return self._digest.position

    @property
    def done(self) -> int:
        """Bytes on disk."""
        return sum(piece.done for piece in self.pieces)

    @property
    def whole(self) -> bool:
        """Whether all bytes are on disk; they need not be the right ones."""
        return all(piece.whole for piece in self.pieces)

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes hashed so far."""
        return self._digest.sha256.hexdigest()

    def write(self, piece: Piece, data: memoryview) -> None:
        """Append ``data`` to ``piece``, then hash as far as the file is there from its front.

        Raises:
            Stopped: the part was closed; nothing was written.
            OSError: the disk refused.
        """
        offset = piece.offset
        with self._lock:
            if self._closed:
                raise Stopped
            _write(self._data, data, offset)
            piece.done += len(data)
            _write(self._counts, _COUNT.pack(piece.done), _HEAD.size + _COUNT.size * piece.index)
        self._digest.feed(offset, data, self._front, self._read)

    def catch_up(self, told: Callable[[int], None]) -> None:
        """Hash what is on disk from the front and was not hashed yet; ``told`` gets the bytes hashed so far.

        Raises:
            Stopped: the part was closed meanwhile.
            OSError: it cannot be read.
        """
        self._digest.catch_up(self._front, self._read, told)

    def is_right(self) -> bool:
        """Say, of a file that is whole and hashed, whether it is what its hub lists."""
        return self._digest.matches()

    def restart(self) -> int:
        """Drop all bytes and return how many; the pieces stay as they are cut.

        Raises:
            Stopped: the part was closed.
            OSError: the disk refused.
        """
        with self._lock:
            if self._closed:
                raise Stopped
            dropped = self.done
            for piece in self.pieces:
                piece.done = 0
            self._save()
            self._data.truncate(0)
            self._digest = Digest(self.file)
        return dropped

    def close(self) -> None:
        """Let no byte be written any more, by whatever thread. Safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._data.close()
                self._counts.close()

    def discard(self) -> None:
        """Close it and remove it."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._count_path.unlink(missing_ok=True)

    def move_to(self, target: Path) -> None:
        """Close it and put the whole file in its place, in one step.

        Raises:
            OSError: the disk refused.
        """
        self.close()
        self.path.replace(target)
        self._count_path.unlink(missing_ok=True)

    def _front(self) -> int:
        """Return up to where the file is there without a gap."""
        for piece in self.pieces[self._digest.position // self._piece_bytes :]:
            if not piece.whole:
                return piece.offset
        return self.file.bytes

    def _read(self, offset: int, count: int) -> bytes:
        with self._lock:
            if self._closed:
                raise Stopped
            self._data.seek(offset)
            return self._data.read(min(count, _BLOCK)) or b""

    def _load(self) -> list[Piece]:
        """Return the pieces of an earlier run; none where its count says what cannot be."""
        counted = _read_counts(self._counts, self.file.bytes)
        if counted is None:
            return []
        piece_bytes, counts = counted
        pieces = self._cut(piece_bytes)
        for piece, count in zip(pieces, counts, strict=True):
            piece.done = count
        reach = max((piece.offset for piece in pieces if piece.done), default=0)
        fits = all(piece.offset <= piece.end for piece in pieces)
        return pieces if fits and reach <= os.fstat(self._data.fileno()).st_size else []

    def _begin(self, piece_bytes: int) -> list[Piece]:
        self.pieces = self._cut(piece_bytes)
        self._save()
        self._data.truncate(0)
        return self.pieces

    def _cut(self, piece_bytes: int) -> list[Piece]:
        self._piece_bytes = max(1, piece_bytes)
        size = self.file.bytes
        starts = range(0, size, self._piece_bytes)
        return [Piece(index, start, min(start + self._piece_bytes, size)) for index, start in enumerate(starts)]

    def _save(self) -> None:
        counts = b"".join(_COUNT.pack(piece.done) for piece in self.pieces)
        self._counts.truncate(0)
        _write(self._counts, _HEAD.pack(_MARK, self.file.bytes, self._piece_bytes) + counts, 0)


def part_paths(folder: Path, file: RemoteFile) -> tuple[Path, Path]:
    """Return where the partial bytes of ``file`` and their count lie below ``folder``."""
    return folder / f"{file.key}.part", folder / f"{file.key}.done"


def part_done(folder: Path, file: RemoteFile) -> int:
    """Return how many bytes an earlier run left of ``file``, by its count alone; 0 when there is none."""
    path, count_path = part_paths(folder, file)
    try:
        with count_path.open("rb") as counts:
            counted = _read_counts(counts, file.bytes)
    except OSError:
        return 0
    return min(sum(counted[1]), file.bytes) if counted and path.exists() else 0


def _read_counts(counts: BinaryIO | FileIO, size: int) -> tuple[int, list[int]] | None:
    """Return the bytes of a piece and of each piece; None where the count is not one of a file of ``size`` bytes."""
    counts.seek(0)
    content = counts.read()
    if len(content) < _HEAD.size:
        return None
    mark, total, piece_bytes = _HEAD.unpack_from(content)
    if mark != _MARK or total != size or not piece_bytes:
        return None
    body = content[_HEAD.size :]
    if len(body) != -(-size // piece_bytes) * _COUNT.size:
        return None
    return piece_bytes, [number for (number,) in _COUNT.iter_unpack(body)]


def _open(path: Path) -> FileIO:
    path.touch()
    return path.open("r+b", buffering=0)


def _write(file: FileIO, data: memoryview | bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``: without a buffer one call may write less."""
    file.seek(offset)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
