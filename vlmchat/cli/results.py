"""Where the lines of ``pipe`` go: stdout, or a file that can be gone on with after any end."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from tempfile import mkstemp
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

    def __init__(self, path: Path, resume: bool, retry_failed: bool = False) -> None:
        """Open ``path``; with ``resume`` what it holds counts as done.

        Args:
            path: made where it is not there.
            resume: go on with what it holds.
            retry_failed: take the lines of failed inputs out first, in one step, so that these are asked again;
                their new results stand at the end.

        Raises:
            UsageError: it holds something and ``resume`` was not given, or another process writes it.
            InputError: it cannot be opened, or holds lines that are no results.
            DiskFull: no room for the file without the failed lines; the file is as it was.
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
                failed = self._read(resume)
                if failed and retry_failed:
                    self._take_out(failed)
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

    def _read(self, resume: bool) -> Counter[str]:
        """Count what is answered, take away a part of a line, and return how many results of each key are errors."""
        if not resume:
            raise UsageError(
                f"{self._path} holds results already.", "Go on with them with --resume, or name another file."
            )
        whole = 0
        failed: Counter[str] = Counter()
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                key, is_error = self._parse(line, number)
                self._done[key] += 1
                failed[key] += is_error
                whole += len(line)
        os.ftruncate(self._file, whole)
        return +failed

    def _take_out(self, failed: Counter[str]) -> None:
        """Put a file without the errors in the place of this one: a reader sees the one or the other, whole."""
        target, old = self._path.resolve(), self._file
        part = None
        try:
            handle, name = mkstemp(".part", f".{target.name}.", target.parent)
            part = Path(name)
            with os.fdopen(os.dup(old), "rb") as file, os.fdopen(handle, "wb") as rest:
                file.seek(0)
                rest.writelines(line for number, line in enumerate(file, 1) if not self._parse(line, number)[1])
                rest.flush()
                os.fsync(rest.fileno())
            part.chmod(stat.S_IMODE(os.fstat(old).st_mode))
            self._file = os.open(part, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
            self._lock()
            part.replace(target)
        except OSError as problem:
            if part is not None:
                part.unlink(missing_ok=True)
            raise DiskFull(
                f"There is no room beside {self._path} for a copy without its errors ({problem.strerror}).",
                "Free some space, or go on without --retry-failed.",
            ) from problem
        finally:
            if self._file != old:
                os.close(old)
        self._done -= failed

    def _parse(self, line: bytes, number: int) -> tuple[str, bool]:
        """Return the key of a result, and whether it says what went wrong."""
        try:
            found = json.loads(line)
            return str(found["key"]), "error" in found
        except (ValueError, KeyError, TypeError) as problem:
            raise InputError(
                f"Line {number} of {self._path} is no result of `vlmchat pipe --output`.", "Name another file."
            ) from problem
