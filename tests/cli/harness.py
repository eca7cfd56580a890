"""Running the command line: in this process, as a process, and on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vlmchat.cli.main import main


@dataclass(frozen=True)
class Result:
    """What one run left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def call(*arguments: str, stdin: bytes = b"") -> Result:
    """Run one command line in this process."""
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    sys.stdout, sys.stderr = out, err
    try:
        code = main(arguments)
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    texts = []
    for stream in (out, err):
        stream.flush()
        raw = stream.buffer
        assert isinstance(raw, io.BytesIO)
        texts.append(raw.getvalue().decode("utf-8"))
    return Result(int(code), *texts)


def command(script: Mapping[str, Any] | None, *arguments: str) -> list[str]:
    """Return the words that run the real command line, or the one over a scripted engine."""
    if script is None:
        return [sys.executable, "-m", "vlmchat", *arguments]
    return [sys.executable, "-m", "tests.cli.scripted", json.dumps(script), *arguments]


def process(script: Mapping[str, Any] | None, *arguments: str, stdin: bytes = b"") -> Result:
    """Run one command line as a process of its own."""
    finished = subprocess.run(command(script, *arguments), input=stdin, capture_output=True, check=False, timeout=60)
    return Result(finished.returncode, finished.stdout.decode(), finished.stderr.decode())


@contextmanager
def started(script: Mapping[str, Any] | None, *arguments: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start one command line and see that it ends."""
    running = subprocess.Popen(
        command(script, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **streams
    )
    with running:
        yield running
        running.kill() if running.poll() is None else None


def on_terminal(script: Mapping[str, Any] | None, *arguments: str, kind: str = "dumb") -> tuple[int, str]:
    """Run one command line with a terminal for all three streams; return its status and all it wrote.

    ``kind`` is the terminal's name; a ``dumb`` one cannot be drawn on.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": kind, "COLUMNS": "60", "LINES": "12"}
    running = subprocess.Popen(
        command(script, *arguments), stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True, env=environment
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    return running.wait(60), written.decode()
