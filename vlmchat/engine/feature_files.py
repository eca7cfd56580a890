"""Files of computed picture features: checked, bounded, private, shared by processes. No torch here.

A file's name is the identity of what it holds, its first 32 bytes are the sha256 over name and content. A file
that is cut short, altered or renamed is therefore never taken for what it is not: it is removed and counts as
absent. Nothing here raises for what the disk does; without a file the features are computed again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

_SUFFIX, _UNFINISHED = ".features", ".part"
_CHECKSUM = hashlib.sha256().digest_size
LEAST_FREE = 500 * 10**6
"""Bytes of free disk below which nothing is written: chats need the rest."""
FILES_A_LOOK = 64
"""Of so many files one may be written before all are looked at again: each write then costs a look at so many."""


class FeatureFiles:
    """A folder of files that may be deleted at any moment, by anyone."""

    def __init__(self, folder: Path, capacity: int) -> None:
        """Name the folder; it is made with the first file, for its owner only.

        Args:
            folder: may be in use by other processes.
            capacity: bytes of all files; those used longest ago leave first.
        """
        self.folder = folder
        self._capacity = capacity
        self._files_left = self._bytes_left = 0

    def read(self, name: str, touch: bool = True) -> bytes | None:
        """Return the content of ``name``, or None.

        Args:
            name: hexadecimal digits.
            touch: count it as used now.
        """
        path = self._path(name)
        try:
            found = path.read_bytes()
        except OSError:
            return None
        content = found[_CHECKSUM:]
        if found[:_CHECKSUM] != _checksum(name, content):
            with suppress(OSError):
                path.unlink()
            return None
        if touch:
            with suppress(OSError):
                os.utime(path)
        return content

    def write(self, name: str, content: bytes) -> bool:
        """Keep ``content``, whole or not at all; says whether it is kept."""
        if _CHECKSUM + len(content) > self._capacity:
            return False
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free - len(content) < LEAST_FREE:
                return False
            self._put(name, content)
            self._bound(_CHECKSUM + len(content))
        except OSError:
            return False
        return True

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def _put(self, name: str, content: bytes) -> None:
        """Write beside the place and move there in one step: a reader sees all of it or nothing."""
        handle, name_now = mkstemp(_UNFINISHED, dir=self.folder)  # for its owner only
        part = Path(name_now)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(name, content))
                file.write(content)
            part.replace(self._path(name))
        finally:
            part.unlink(missing_ok=True)

    def _bound(self, size: int) -> None:
        """Count a new file; look at the folder when what the last look allowed is used up."""
        self._files_left -= 1
        self._bytes_left -= size
        if self._files_left < 0 or self._bytes_left < 0:
            self._trim()

    def _trim(self) -> None:
        """Remove the files used longest ago, what a killed process left unfinished among them.

        With many files some are removed beforehand, and so many come before the next look: one took 90 ms at 10,000
        files, more than the answer whose picture was written.
        """
        found = sorted(_files(self.folder), key=lambda file: file[1].st_mtime_ns)
        held = sum(status.st_size for _, status in found)
        self._files_left = len(found) // FILES_A_LOOK
        aim = self._capacity - (held * self._files_left // len(found) if found else 0)
        for path, status in found:
            if held <= aim:
                break
            with suppress(OSError):
                path.unlink()
            held -= status.st_size
        self._bytes_left = self._capacity - held


def held_bytes(folder: Path) -> int:
    """Return what the files in ``folder`` take."""
    return sum(status.st_size for _, status in _files(folder))


def _checksum(name: str, content: bytes) -> bytes:
    digest = hashlib.sha256(name.encode())
    digest.update(content)
    return digest.digest()


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        # Another process may have removed it by now.
        with suppress(OSError):
            if entry.name.endswith((_SUFFIX, _UNFINISHED)) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path), entry.stat(follow_symlinks=False)
