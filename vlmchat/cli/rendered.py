"""An answer as Markdown on a terminal, while it comes.

A block (a paragraph, a list, a fenced program) is printed once it is whole; the one that still grows is
drawn again in place. So what scrolled away is never touched, and a long answer costs no more per piece
than a short one. The model's text is data: no console markup, no HTML, no links a terminal would follow.
"""

from __future__ import annotations

import sys
import time

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleRenderable
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import SegmentLines

from vlmchat.plaintext import printable

_DRAW_S = 0.08
"""Seconds between two drawings of the block that grows."""
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
"""HTML stays the text it is: rich would drop it."""


class RenderedAnswer:
    """Takes the pieces of an answer and draws them; the same steps as ``output.AnswerWriter``."""

    def __init__(self) -> None:
        """Begin on stdout, which has to be a terminal."""
        self._console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._growing = ""
        self._printed = False
        self._drawn = 0.0

    def add(self, text: str) -> None:
        """Take in the next piece; draw when the last drawing is a moment ago."""
        self._growing += printable(text)
        if time.monotonic() - self._drawn < _DRAW_S or not self._growing.strip():
            return
        if not self._live.is_started:
            self._live.start()
        whole, self._growing = whole_blocks(self._growing)
        # In this order both appear in one drawing.
        self._live.update(self._end_of(rendered(self._growing)), refresh=not whole)
        self._print(whole)
        self._drawn = time.monotonic()

    def end(self) -> None:
        """Print what is left and give the terminal back."""
        self._live.stop()
        self._print(self._growing)
        self._growing = ""

    def _print(self, blocks: str) -> None:
        if blocks.strip():
            if self._printed:
                self._console.print()
            self._console.print(rendered(blocks))
            self._printed = True

    def _end_of(self, block: ConsoleRenderable) -> ConsoleRenderable:
        """Return the last lines of a block, as many as a screen holds."""
        lines = self._console.render_lines(block, pad=False)
        return SegmentLines(lines[-max(1, self._console.height - 2) :], new_lines=True)


def rendered(text: str) -> Markdown:
    """Return ``text``, already printable, as rich draws it."""
    drawing = Markdown("", code_theme="ansi_dark", hyperlinks=False)
    drawing.parsed = _PARSER.parse(text)
    return drawing


def whole_blocks(text: str) -> tuple[str, str]:
    """Cut ``text`` in front of its last block: what stands before it cannot change any more."""
    starts = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map is not None]
    lines = text.split("\n")
    last = starts[-1] if starts else 0
    whole = "".join(line + "\n" for line in lines[:last])
    return whole, text[len(whole) :]
