"""A program in a terminal of its own, seen from outside: what it writes, and what it has cost when it first draws.

Linux only: the kernel's account of another process is read from ``/proc``.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\)|.)|[\x00-\x20]", re.DOTALL)
"""Escape sequences, control characters and blanks: what is left of the output was drawn."""
SCREEN = b"\x1b[?1049h"
"""Begins a screen: elia prints lines before it."""
DRAWN = 40
"""Characters on the screen that make a first frame: more than a prompt or a title, fewer than any app draws."""
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has cost so far, all its threads together, its children apart."""

    cpu_s: float
    peak_bytes: int
    """Of resident memory."""


class Terminal:
    """A program on a pseudo-terminal of 120 x 40 cells."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.pid, self._ours = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment})
            with suppress(OSError):
                os.execvp(command[0], list(command))
            os._exit(127)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.output = b""

    def read(self, seconds: float) -> bool:
        """Take in what is written within ``seconds``, returning with the first of it; False when the program ended."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:
            return False
        self.output += data
        return bool(data)

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
        """Take in output until ``condition`` holds; False when the program ended or the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if not self.read(0.05) or time.monotonic() > end:
                return False
        return True

    def first_frame(self) -> Cost | None:
        """Wait for the first frame, hold the program there and return its cost; None when it never drew."""
        if not self.until(lambda: len(CONTROL.sub(b"", self.output.partition(SCREEN)[2])) >= DRAWN):
            return None
        os.kill(self.pid, signal.SIGSTOP)
        return cost_of(self.pid)

    def go_on(self) -> None:
        """Let a program go on that is held at its first frame."""
        os.kill(self.pid, signal.SIGCONT)

    def type(self, keys: str) -> None:
        """Press ``keys``."""
        os.write(self._ours, keys.encode())

    def kill(self) -> None:
        """End the program, whatever it does."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._ours)


def cost_of(pid: int) -> Cost:
    """Return what process ``pid`` has cost so far."""
    # The name in brackets may hold blanks; user and system time are the 14th and 15th field of all.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    status = Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return Cost(ticks / os.sysconf("SC_CLK_TCK"), int(peak[1]) * 1024 if peak else 0)
