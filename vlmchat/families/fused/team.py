"""The threads that take a step together."""

from __future__ import annotations

import shutil
import threading
import weakref

import numpy as np
from numba.core.errors import NumbaError

from vlmchat.families.fused import table as t
from vlmchat.families.fused.machine import CODE
from vlmchat.families.fused.sharing import take_part
from vlmchat.families.fused.table import Tables, zeros
from vlmchat.families.fused.widen import widening

_DONE = "done"
"""A file beside code that is complete."""
_KEPT = 3
"""Versions of the code that stay: other installations may use older ones."""


def on_disk() -> bool:
    """Say whether all code was compiled before."""
    return (CODE / _DONE).exists()


def compile_now() -> bool:
    """Compile what is not on disk yet, some 20 CPU-seconds; say whether it worked.

    Where numba knows no way for a processor, or no folder is writable, torch's own operations are as right.
    """
    nothing = Tables(
        **{name: zeros(1, 1) for name in ("operations", "pieces", "counters", "kept")},
        **{name: zeros(1, 1, 1, dtype=np.float32) for name in ("fresh", "queries", "answers", "turning")},
        **{name: zeros(1) for name in ("ids", "sequences", "places")},
        control=zeros(t.INSIDE + 16), room=zeros(1, 1, dtype=np.float32),
        widest=1, epsilon=np.float32(0), narrow=True,
    )  # fmt: skip
    nothing.control[t.LEAVE] = 1
    try:
        take_part(nothing, 0, 0, 0)
        widening()
        if not on_disk():
            (CODE / _DONE).touch()
            _forget_old_versions()
    except (NumbaError, OSError, RuntimeError):
        return False
    return True


def _forget_old_versions() -> None:
    versions = sorted((path for path in CODE.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in versions[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)


class Team:
    """The calling thread and helpers beside it; between two answers the helpers sleep."""

    def __init__(self, tables: Tables, threads: int) -> None:
        """Share the work of ``tables`` among ``threads``; it has room for as many."""
        self._tables = tables
        self._calls = [threading.Semaphore(0) for _ in range(threads - 1)]
        for number, call in enumerate(self._calls, start=1):
            threading.Thread(target=_help, args=(tables, number, call), daemon=True, name=f"step-{number}").start()
        # Helpers hold the tables, not the team: it can go, and they leave then.
        weakref.finalize(self, _dismiss, tables, self._calls)

    def run(self, first: int, last: int) -> None:
        """Do operations ``first`` to ``last``; returns when they are done."""
        inside = self._tables.control
        for number, call in enumerate(self._calls, start=1):
            # One that leaves just now misses this step: the others take its pieces.
            if not inside[t.INSIDE + 8 * number]:
                inside[t.INSIDE + 8 * number] = 1
                call.release()
        take_part(self._tables, 0, first, last)


def _help(tables: Tables, number: int, call: threading.Semaphore) -> None:
    while True:
        call.acquire()
        if tables.control[t.LEAVE]:
            return
        take_part(tables, number, 0, 0)


def _dismiss(tables: Tables, calls: list[threading.Semaphore]) -> None:
    tables.control[t.LEAVE] = 1
    for call in calls:
        call.release()
