"""An answer in the transcript: streamed Markdown, and under it what it cost.

What a model writes is data. It passes :func:`vlmchat.plaintext.printable`, is parsed as Markdown
only (HTML stays text, pictures stay links), never as Textual markup, and a link shows where it
leads before anything is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from markdown_it import MarkdownIt
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from vlmchat.plaintext import printable
from vlmchat.tui.text import model_name, say, seconds
from vlmchat.tui.widgets.bare import Bare
from vlmchat.tui.widgets.fold import Block, Fold, Grown, Window
from vlmchat.tui.widgets.maths import keep_formulas
from vlmchat.tui.widgets.turn import LinkSeen, Shown, TurnView

LONGEST_LINE = 2000
"""Characters after which a line without an end is broken: a paragraph is laid out anew with every
piece that is added to it, so one of a megabyte would stop the app."""


def parser() -> MarkdownIt:
    """Return a Markdown parser that keeps HTML as text and formulas as code, and makes no pictures."""
    return keep_formulas(MarkdownIt("gfm-like", {"html": False}).disable("image"))


class LongLines:
    """Breaks endless lines of a stream into paragraphs, for the eye only."""

    def __init__(self) -> None:
        self._length = 0

    def feed(self, piece: str) -> str:
        """Return ``piece`` with a break wherever its line has become longer than :data:`LONGEST_LINE`."""
        lines = piece.split("\n")
        done: list[str] = []
        for number, line in enumerate(lines):
            if number:
                self._length = 0
            parts: list[str] = []
            while self._length + len(line) > LONGEST_LINE:
                cut = LONGEST_LINE - self._length
                parts.append(line[:cut])
                line, self._length = line[cut:], 0
            self._length += len(line)
            done.append("\n\n".join([*parts, line]))
        return "\n".join(done)


class AnswerText(Bare, Markdown, Grown):
    """Markdown of a model; a click on a link is passed on instead of followed."""

    BLOCKS = {  # noqa: RUF012 - as Textual declares it
        kind: type(block.__name__, (block, Block), {}) for kind, block in Markdown.BLOCKS.items()
    }

    def __init__(self, text: str = "") -> None:
        # One parser for all its pieces: making one takes 0.4 ms, a tenth of what a piece costs.
        super().__init__(text, parser_factory=cache(parser), open_links=False)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """Ask the screen to show the target."""
        event.stop()
        self.post_message(LinkSeen(event.href))


class AnswerView(TurnView):
    """One answer, growing or finished."""

    def __init__(self, stats: str = "", shown: Shown | None = None) -> None:
        super().__init__()
        self.shown = shown
        self.text = "" if shown is None else shown.turn.message.text
        """As the model wrote it, for the clipboard."""
        self._stats = stats if shown is None else stats_of(shown)
        self._lines = LongLines()
        self._stream: MarkdownStream | None = None
        # Here and not in compose: the column may be tended before that.
        self._body = AnswerText(self._lines.feed(printable(self.text)))
        self._fold = Fold()

    @property
    def plain(self) -> str:
        """The answer as the model wrote it."""
        return self.text

    @property
    def fences(self) -> list[str]:
        """The code blocks of the answer, in their order."""
        return [token.content for token in parser().parse(self.text) if token.type == "fence"]

    def deeds(self) -> set[str]:
        """An answer can be continued, its code copied, and what made it looked up."""
        found = super().deeds()
        if self.shown is None:
            return found
        if self.shown.turn.status != "complete":
            found.add("continue")
        if "```" in self.text or "~~~" in self.text:
            found.add("code")
        return found | {"info"}

    def compose(self) -> ComposeResult:
        """Text above, figures below."""
        yield self._body
        yield Static(Content(self._stats), classes="stats")

    def on_mount(self) -> None:
        """Hide the figures while there are none."""
        self.show_stats(self._stats, stopped=_is_cut(self.shown))

    @property
    def settled(self) -> bool:
        """Stored, and no longer growing."""
        return super().settled and self._stream is None

    def tend(self, window: Window, may: Callable[[Widget], bool]) -> None:
        """Lay out only the blocks near ``window``, and the last one while it grows."""
        blocks = self._body.children
        growing = blocks[-1] if self._stream is not None and blocks else None
        self._fold.tend(self._body, window, lambda block: block is not growing and may(block))

    def unfold(self) -> None:
        """Lay all blocks out."""
        self._fold.open(self._body)

    async def write(self, text: str) -> None:
        """Add what the model wrote."""
        if not text:
            return
        if self._stream is None:
            self._stream = Markdown.get_stream(self._body)
            self.show_stats("")
        self.text += text
        await self._stream.write(self._lines.feed(printable(text)))

    async def settle(self, shown: Shown) -> None:
        """End the stream and show what was stored: the text, and what it cost."""
        await super().settle(shown)
        await self.end_stream()
        streamed, self.text = self.text, shown.turn.message.text
        if streamed.strip() != self.text.strip():
            # Held-back characters, or blanks that the family strips: the stored text is the truth.
            self._lines = LongLines()
            self.unfold()
            await self._body.update(self._lines.feed(printable(self.text)))
        self.show_stats(stats_of(shown), stopped=_is_cut(shown))

    async def end_stream(self) -> None:
        """Stop the stream; Textual leaves its task pending otherwise."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.stop()

    async def on_unmount(self) -> None:
        """Leave no stream behind when the chat is left in mid-answer."""
        await self.end_stream()

    def show_stats(self, text: str, stopped: bool = False) -> None:
        """Write ``text`` under the answer."""
        line = self.query_one(".stats", Static)
        line.update(Content(text))
        line.display = bool(text)
        line.set_class(stopped, "-stopped")


def _is_cut(shown: Shown | None) -> bool:
    return shown is not None and shown.turn.status != "complete"


def stats_of(shown: Shown) -> str:
    """Return the line under a stored answer: version, time to first token, rate, tokens, end, model."""
    turn = shown.turn
    reason = say(f"stats.reason.{turn.status}")
    made = turn.provenance
    if made is None:
        return " · ".join(filter(None, (shown.version, reason)))
    tokens = made.completion_tokens
    held = f" ({made.quantization})" if made.quantization not in {"", "none"} else ""
    figures = (
        shown.version,
        say("stats.first", seconds=seconds(made.first_token_s)) if tokens and made.first_token_s else "",
        say("stats.rate", rate=f"{made.decode_tokens_per_s:.1f}") if made.decode_tokens_per_s else "",
        say("stats.token" if tokens == 1 else "stats.tokens", count=tokens),
        reason,
        model_name(made.model) + held,
    )
    return " · ".join(filter(None, figures))
