"""An answer in the transcript: streamed Markdown, and under it what it cost.

What a model writes is data. It passes :func:`vlmchat.plaintext.printable`, is parsed as Markdown
only (HTML stays text, pictures stay links), never as Textual markup, and a link shows where it
leads before anything is opened.
"""

from __future__ import annotations

from markdown_it import MarkdownIt
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from vlmchat.engine.events import Finished
from vlmchat.plaintext import printable
from vlmchat.store.model import Turn
from vlmchat.tui.text import model_name, say, seconds
from vlmchat.tui.widgets.turn import LinkSeen

LONGEST_LINE = 2000
"""Characters after which a line without an end is broken: a paragraph is laid out anew with every
piece that is added to it, so one of a megabyte would stop the app."""


def parser() -> MarkdownIt:
    """Return a Markdown parser that keeps HTML as text and makes no pictures."""
    return MarkdownIt("gfm-like", {"html": False}).disable("image")


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


class AnswerText(Markdown):
    """Markdown of a model; a click on a link is passed on instead of followed."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text, parser_factory=parser, open_links=False)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """Ask the screen to show the target."""
        event.stop()
        self.post_message(LinkSeen(event.href))


class AnswerView(Vertical):
    """One answer, growing or finished."""

    def __init__(self, text: str = "", stats: str = "") -> None:
        super().__init__()
        self.text = text
        """As the model wrote it, for the clipboard."""
        self._stats = stats
        self._lines = LongLines()
        self._stream: MarkdownStream | None = None

    @classmethod
    def of_turn(cls, turn: Turn) -> AnswerView:
        """Return the view of a stored answer, with the same figures as when it was new."""
        return cls(turn.message.text, _stats_of_turn(turn))

    def compose(self) -> ComposeResult:
        """Text above, figures below."""
        yield AnswerText(self._lines.feed(printable(self.text)))
        yield Static(Content(self._stats), classes="stats")

    def on_mount(self) -> None:
        """Hide the figures while there are none."""
        self.show_stats(self._stats)

    async def write(self, text: str) -> None:
        """Add what the model wrote."""
        if not text:
            return
        if self._stream is None:
            self._stream = Markdown.get_stream(self.query_one(AnswerText))
            self.show_stats("")
        self.text += text
        await self._stream.write(self._lines.feed(printable(text)))

    async def finish(self, finished: Finished, model: str) -> None:
        """End the stream and show what the answer cost."""
        await self.end_stream()
        streamed, self.text = self.text, finished.text
        if streamed.strip() != finished.text:
            # Held-back characters, or blanks that the family strips: the finished text is the truth.
            await self.query_one(AnswerText).update(LongLines().feed(printable(finished.text)))
        self.show_stats(_stats_of(finished, model), stopped=finished.reason != "stop")

    async def end_stream(self) -> None:
        """Stop the stream; Textual leaves its task pending otherwise."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None

    async def on_unmount(self) -> None:
        """Leave no stream behind when the chat is left in mid-answer."""
        await self.end_stream()

    def show_stats(self, text: str, stopped: bool = False) -> None:
        """Write ``text`` under the answer."""
        line = self.query_one(".stats", Static)
        line.update(Content(text))
        line.display = bool(text)
        line.set_class(stopped, "-stopped")


def _stats_of(finished: Finished, model: str) -> str:
    timing = finished.timing
    return _line(
        finished.reason, timing.first_token_s, timing.decode_tokens_per_s, finished.usage.completion_tokens, model
    )


def _stats_of_turn(turn: Turn) -> str:
    made = turn.provenance
    reason = "interrupted" if turn.status == "interrupted" else "length" if turn.status == "length" else "stop"
    if made is None:
        return say(f"stats.reason.{reason}")
    return _line(reason, made.first_token_s, made.decode_tokens_per_s, made.completion_tokens, made.model)


def _line(reason: str, first_token_s: float, rate: float, tokens: int, model: str) -> str:
    figures = [
        say("stats.first", seconds=seconds(first_token_s)) if tokens else "",
        say("stats.rate", rate=f"{rate:.1f}") if rate else "",
        say("stats.token" if tokens == 1 else "stats.tokens", count=tokens),
        say(f"stats.reason.{reason}"),
        model_name(model),
    ]
    return " · ".join(figure for figure in figures if figure)
