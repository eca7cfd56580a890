"""Where the lines of ``pipe`` go: stdout, or a file that can be gone on with after any end."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Protocol

from vlmchat.cli.output import json_line, write
from vlmchat.errors import DiskFull, InputError, UsageError

if os.name == "posix":
    import fcntl


class Results(Protocol):
    """Takes one result after the other."""

    def has(self, key: str) -> bool:
        """Say whether the input ``key`` is answered already; to be asked once per line of input, in order."""

    def add(self, key: str, value: dict[str, object]) -> None:
        """Write one result."""

    def close(self) -> None:
        """Let go of the file."""


class StdoutResults:
    """One JSON object per line on stdout."""

    def has(self, key: str) -> bool:
        """Say no: what a pipe was given before is not known."""
        del key
        return False

    def add(self, key: str, value: dict[str, object]) -> None:
        """Write ``value`` and flush.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        del key
        write(json_line(value))

    def close(self) -> None:
        """Leave stdout open."""


class FileResults:
    """One JSON object per line in a file, each with the key of its input, each written whole or not at all.

    A line goes out with one write, its end of line included. A process that was killed in the middle of it
    leaves a part without an end of line, which the next run takes away: what is in the file is whole, and
    each input is in it once. Several inputs may share a key; the file tells how many of them are answered.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        """Open ``path``; with ``resume`` what it holds counts as done.

        Raises:
            UsageError: it holds something and ``resume`` was not given, or another process writes it.
            InputError: it cannot be opened, or holds lines that are no results.
        """
        self._path = path
        self._done: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as problem:
            raise InputError(f"{path} cannot be written: {problem.strerror}.", "Name another file.") from problem
        try:
            self._lock()
            if os.fstat(self._file).st_size:
                self._read(resume)
        except BaseException:
            os.close(self._file)
            raise

    def has(self, key: str) -> bool:
        """Say whether the file answers this line; the n-th line of one key is answered by its n-th result."""
        self._seen[key] += 1
        return self._seen[key] <= self._done[key]

    def add(self, key: str, value: dict[str, object]) -> None:
        """Append ``value`` with its key.

        Raises:
            DiskFull: there is no room; the file ends with the last whole line.
        """
        data = json_line({**value, "key": key}).encode()
        end = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written < len(data):
                os.write(self._file, data[written:])
        except OSError as problem:
            os.ftruncate(self._file, end)
            raise DiskFull(
                f"There is no room for the results in {self._path} ({problem.strerror}).",
                "Free some space, then go on with --resume.",
            ) from problem

    def close(self) -> None:
        """Close the file; its lock goes with it."""
        os.close(self._file)

    def _lock(self) -> None:
        if os.name == "posix":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as problem:
                raise UsageError(
                    f"Another process is writing {self._path}.", "Wait for it, or name another file."
                ) from problem

    def _read(self, resume: bool) -> None:
        if not resume:
            raise UsageError(
                f"{self._path} holds results already.", "Go on with them with --resume, or name another file."
            )
        whole = 0
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                self._done[self._key_of(line, number)] += 1
                whole += len(line)
        os.ftruncate(self._file, whole)

    def _key_of(self, line: bytes, number: int) -> str:
        try:
            key = json.loads(line)["key"]
        except (ValueError, KeyError, TypeError) as problem:
            raise InputError(
                f"Line {number} of {self._path} is no result of `vlmchat pipe --output`.", "Name another file."
            ) from problem
        return str(key)
