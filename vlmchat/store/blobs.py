"""Pictures and videos of saved chats: one file each, named by the sha256 of its bytes, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from vlmchat.conversation import Picture, Video
from vlmchat.errors import DiskFull, ImageError, StoreError

MAX_VIDEO = 200_000_000
"""Bytes of the largest video file a chat keeps its own copy of; of a larger one it keeps the path."""
_SETTLED_S = 24 * 3600
"""Age from which a blob that no chat names is litter: a younger one may belong to a question being asked."""


def keep(folder: Path, picture: Picture) -> Picture:
    """Return ``picture`` with its bytes in ``folder`` in place of memory; a copy already there serves.

    A copy that is used again is marked as young, so :func:`sweep` leaves it.

    Raises:
        DiskFull: no room for the copy.
        StoreError: the copy cannot be written for another reason.
        ImageError: the picture's own bytes are gone.
    """
    target = folder / picture.digest
    try:
        data = picture.read()
    except OSError as problem:
        raise ImageError(f"The picture {picture.name} is no longer there.", "Attach it again.") from problem
    try:
        if target.is_file() and target.stat().st_size == len(data):
            os.utime(target)
        else:
            _write_whole(target, data)
    except OSError as problem:
        raise _unwritten(folder, picture.name, problem) from problem
    return replace(picture, data=None, path=target)


def keep_video(folder: Path, video: Video) -> Video:
    """Return ``video`` with a copy of its file in ``folder``; unchanged where the chat keeps only the path.

    That is one of more than :data:`MAX_VIDEO` bytes, one whose file is gone or is no longer what was attached,
    and one given frame by frame.

    Raises:
        DiskFull: no room for the copy.
        StoreError: the copy cannot be written for another reason.
    """
    target = folder / video.digest
    try:
        if video.path is None or video.path.stat().st_size > MAX_VIDEO:
            return video
        data = b"" if target.is_file() else video.path.read_bytes()
    except OSError:
        return video
    if data and hashlib.sha256(data).hexdigest() != video.digest:
        return video
    try:
        if data:
            _write_whole(target, data)
        else:
            os.utime(target)
    except OSError as problem:
        raise _unwritten(folder, video.name, problem) from problem
    return replace(video, path=target)


def sweep(folder: Path, known: Collection[str]) -> int:
    """Delete the files in ``folder`` that are not ``known`` and a day old; return how many went."""
    if not folder.is_dir():
        return 0
    gone = 0
    oldest = time.time() - _SETTLED_S
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.name not in known and path.stat().st_mtime < oldest:
                path.unlink()
                gone += 1
    return gone


def _unwritten(folder: Path, name: str, problem: OSError) -> DiskFull | StoreError:
    if problem.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return DiskFull(f"There is no room on disk to keep {name}.", "Free some space and try again.")
    return StoreError(
        f"{name} cannot be kept in {folder}: {problem.strerror or problem}.",
        "Check the folder's permissions, or ask with --no-save.",
    )


def _write_whole(target: Path, data: bytes) -> None:
    """Write beside the target and rename: a reader sees nothing or all of it, a crash leaves a ``.part``."""
    for folder in (target.parent.parent, target.parent):
        # One by one: ``parents`` gives the folders above the umask's mode, and these are private.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Late: 5 ms of CPU that a list of chats has no use for.
    from tempfile import mkstemp

    handle, name = mkstemp(dir=target.parent, prefix=target.name[:16] + ".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
