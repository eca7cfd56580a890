"""A question in the transcript: its text as typed, and the pictures it was asked about."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from vlmchat.plaintext import printable
from vlmchat.tui.memory import Draft
from vlmchat.tui.widgets.chips import label


class LinkSeen(Message):
    """The user clicked a link of an answer, which leads to ``target``; nothing is opened yet."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target


class QuestionView(Vertical):
    """One question; never markup, never Markdown: it is shown as it was typed."""

    def __init__(self, question: Draft, note: str = "") -> None:
        super().__init__()
        self.question = question
        self._note = note

    def compose(self) -> ComposeResult:
        """Pictures above the text, as they were given."""
        if self.question.pictures:
            with Horizontal(classes="pictures"):
                for picture in self.question.pictures:
                    yield Static(label(picture), classes="picture")
        yield Static(Content(printable(self.question.text.strip())), classes="text")
        yield Static(Content(self._note), classes="note")

    def on_mount(self) -> None:
        """Hide the note while there is none."""
        self.note(self._note)

    def note(self, text: str) -> None:
        """Write ``text`` under the question, or nothing."""
        line = self.query_one(".note", Static)
        line.update(Content(text))
        line.display = bool(text)
