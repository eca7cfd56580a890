"""stdout is data, stderr is talk: the only module that prints.

Text that vlmchat did not write itself (answers, file names, titles) goes through
:mod:`vlmchat.plaintext` before it reaches a terminal; what goes into a pipe or a file stays as it is.
"""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vlmchat.plaintext import one_line, printable

_OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON leaves as it is and a terminal, or a reader that knows more ends of line than one, would trip over."""


@dataclass
class Talk:
    """What a command says beside its data, and how much of it the user wants."""

    quiet: bool = False
    verbose: bool = False
    given: dict[str, object] = field(default_factory=dict)
    """Shared options that were typed, by key."""
    config: Path | None = None
    """``--config``, when it was typed."""
    _line: bool = False
    """Whether a line of progress stands on the terminal."""

    def note(self, text: str) -> None:
        """Say something that is nice to know; only to a person at a terminal."""
        if not self.quiet and _is_terminal(sys.stderr):
            self._print(text)

    def warn(self, text: str) -> None:
        """Say something that a script's log should hold too."""
        if not self.quiet:
            self._print(text)

    def error(self, message: str, hint: str = "") -> None:
        """Say what went wrong and what to do; with ``verbose`` also where, if an error is being handled."""
        if self.verbose and sys.exc_info()[0] is not None:
            import traceback

            self._print(traceback.format_exc().rstrip())
        self._print(one_line(message))
        if hint:
            self._print(f"hint: {one_line(hint)}")

    def status(self, text: str) -> None:
        """Show how far something is, in one line of the terminal that goes away by itself; empty: none."""
        if not text:
            self.clear()
        elif not self.quiet and _is_terminal(sys.stderr):
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._line = True

    def clear(self) -> None:
        """Take the line of progress away."""
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._line = False

    def _print(self, text: str) -> None:
        self.clear()
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


class Writer(Protocol):
    """Takes an answer piece by piece."""

    def add(self, text: str) -> None:
        """Take in the next piece."""

    def end(self) -> None:
        """Write what is left."""


class AnswerWriter:
    """Writes an answer to stdout as it comes, and in the end exactly what it is in one piece.

    Blanks before the first word and after the last are held back: engines strip them from the whole
    answer, so a stream reads the same as ``--no-stream``.
    """

    def __init__(self) -> None:
        self._held = ""
        self._began = False

    def add(self, text: str) -> None:
        """Write as much of the next piece as is certain, and flush."""
        fresh = self._held + text if self._began else (self._held + text).lstrip()
        certain = fresh.rstrip()
        self._held = fresh[len(certain) :]
        if certain:
            self._began = True
            write(certain)

    def end(self) -> None:
        """Finish the line."""
        if self._began:
            write("\n")


def answer_writer(raw: bool) -> Writer:
    """Return what writes an answer to stdout: as Markdown on a terminal that can draw, else as it is."""
    if raw or sys.stdout is None or not _is_terminal(sys.stdout) or os.environ.get("TERM", "dumb") == "dumb":
        return AnswerWriter()
    # Late: rich costs 100 CPU-milliseconds.
    from vlmchat.cli.rendered import RenderedAnswer

    return RenderedAnswer()


def prepare_streams() -> None:
    """Make both streams speak UTF-8 whatever the locale says; halves of characters become JSON's escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def write(text: str) -> None:
    """Write to stdout and flush; to a terminal only what it would not obey.

    Raises:
        BrokenPipeError: nobody reads stdout any more, or it was never open.
    """
    if sys.stdout is None:
        raise BrokenPipeError
    sys.stdout.write(printable(text) if _is_terminal(sys.stdout) else text)
    sys.stdout.flush()


def write_line(text: str) -> None:
    """Write one line to stdout, as :func:`write` does."""
    write(text + "\n")


def write_json(value: object, indent: int | None = None) -> None:
    """Write ``value`` as JSON, letters as they are, on one line unless ``indent`` is given."""
    write(json_line(value, indent))


def json_line(value: object, indent: int | None = None) -> str:
    """Return ``value`` as JSON with an end of line, letters as they are, nothing in it that a terminal would obey."""
    # Late: --help writes none.
    import json

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _OBEYED.sub(lambda hit: f"\\u{ord(hit.group()):04x}", text) + "\n"


def counted(count: int, noun: str) -> str:
    """Return ``1 line``, ``4 lines``, ``10,000 lines``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def write_table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset(), plain: bool = False
) -> None:
    """Write rows under headers: a table on a terminal, aligned columns everywhere else.

    Args:
        headers: names of the columns.
        rows: texts; of any origin.
        right: columns to align to the right.
        plain: aligned columns on a terminal too, each row one line, for text that is meant to be copied.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not plain and sys.stdout is not None and _is_terminal(sys.stdout):
        _draw_table(headers, cells, right)
        return
    widths = [max(map(_width, column)) for column in zip(headers, *cells, strict=True)]
    for row in ([*headers], *cells):
        padded = (_pad(cell, widths[at], at in right) for at, cell in enumerate(row))
        write_line("  ".join(padded).rstrip())


def size_text(count: int | None) -> str:
    """Return a number of bytes in decimal units as hubs show them: ``1.9 GB``; a dash for None."""
    if count is None:
        return "-"
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"


def is_watched() -> bool:
    """Say whether a person sees stderr as it is written: where progress may be drawn."""
    return _is_terminal(sys.stderr)


def can_ask() -> bool:
    """Say whether a person is there to answer a question: at stdin as well as at stderr."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def ask_line(question: str) -> str:
    """Ask at the terminal and return the answer; empty at the end of the input."""
    sys.stderr.write(printable(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _is_terminal(stream: object) -> bool:
    return isinstance(stream, io.TextIOBase) and not stream.closed and stream.isatty()


def _draw_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> None:
    # Late: rich costs 50 CPU-milliseconds, and only a terminal needs it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, header in enumerate(headers):
        table.add_column(header, justify="right" if at in right else "left", no_wrap=at == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _width(text: str) -> int:
    """Columns a text takes: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _pad(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks
