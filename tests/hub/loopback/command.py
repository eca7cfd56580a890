"""``vlmchat pull`` as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.hub.loopback.pulling import REPOSITORY

GUARD_S = 60
"""No test needs that long: a process that does hangs."""


@dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The progress of ``--json``."""
        return [json.loads(line) for line in self.out.splitlines()]

    def assert_one_sentence(self) -> None:
        """See that an error is said in one sentence with a hint, and no traceback."""
        assert "Traceback" not in self.err, self.err
        assert "hint: " in self.err, self.err


def words(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vlmchat", "pull", REPOSITORY, "--json", "--yes", *arguments]


@contextmanager
def pulling(*arguments: str, first: Callable[[], None] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a download; ``first`` runs in the new process before the program does."""
    running = subprocess.Popen(
        words(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=first
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def ended(running: subprocess.Popen[str], timeout: float = GUARD_S) -> Ended:
    """Wait for the end of a process."""
    out, err = running.communicate(timeout=timeout)
    return Ended(running.returncode, out, err)


def run(*arguments: str, first: Callable[[], None] | None = None) -> Ended:
    """Download to the end, well or badly."""
    with pulling(*arguments, first=first) as running:
        return ended(running)
