"""A copy of all chats that is whole, even while other programs write to them.

SQLite copies the database as of one moment. The pictures its rows name are copied after it:
a picture is on disk before any row names it, so none is missed. The copy appears under its name when it is
complete, and is laid out as a home of its own: ``VLMCHAT_HOME=FOLDER vlmchat`` opens it.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vlmchat.errors import DiskFull, InputError, UsageError
from vlmchat.store.schema import connect, typed_errors


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied."""

    chats: int
    pictures: int
    bytes: int
    missing: int
    """Pictures that chats name and that are not on disk."""


def back_up(database: Path, pictures: Path, folder: Path, told: Callable[[int, int], None]) -> Backup:
    """Copy the chats in ``database`` and their ``pictures`` into the new ``folder``.

    Args:
        database: of the running store.
        pictures: its folder of blobs.
        folder: must not exist, or be empty.
        told: called with the pictures that are copied and those there are.

    Raises:
        UsageError: ``folder`` holds something.
        InputError: there are no chats, or ``folder`` cannot be written.
        DiskFull, StoreError: no room; the database is damaged or locked.
    """
    if not database.exists():
        raise InputError("There are no chats yet.", "Ask something first.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and holds something.", "Name a new folder.")
    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / "data" / "blobs").mkdir(mode=0o700, parents=True)
        part.chmod(0o700)
        done = _copy(database, pictures, part / "data", told)
        part.replace(folder)
    except OSError as problem:
        raise _unwritable(folder, problem) from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return done


def _copy(database: Path, pictures: Path, data: Path, told: Callable[[int, int], None]) -> Backup:
    target = data / database.name
    with typed_errors(database), closing(connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        # In one step: in several, each write by somebody else would make it begin again.
        source.backup(copy)
        target.chmod(0o600)
        chats = int(copy.execute("SELECT count(*) FROM chats WHERE deleted IS NULL").fetchone()[0])
        wanted = [str(row[0]) for row in copy.execute("SELECT DISTINCT digest FROM pictures")]
    held = target.stat().st_size
    missing = 0
    for number, digest in enumerate(wanted, 1):
        try:
            shutil.copyfile(pictures / digest, data / "blobs" / digest)
            held += (data / "blobs" / digest).stat().st_size
        except FileNotFoundError:
            missing += 1
        told(number, len(wanted))
    return Backup(chats, len(wanted) - missing, held, missing)


def _unwritable(folder: Path, problem: OSError) -> DiskFull | InputError:
    reason = problem.strerror or str(problem)
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(f"There is no room on disk for {folder}.", "Free some space, or name another disk.")
    return InputError(f"{folder} cannot be written: {reason}.", "Name another folder.")
