"""Small panels over the chat: an error with its remedy, a link's target, a line to type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from vlmchat.plaintext import one_line, printable
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.text import say


class Panel(Dialog[str | None]):
    """A box in the middle: what it is, what it says, what to press."""

    CSS_PATH = "panel.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,escape,space", "close", show=False)]

    def __init__(self, title: str, body: str, keys: str) -> None:
        super().__init__()
        self._title, self._body, self._keys = title, body, keys

    def compose(self) -> ComposeResult:
        """Three texts, plain."""
        with Vertical(classes="panel"):
            yield Static(Content(printable(self._title)), classes="title")
            with VerticalScroll(classes="text"):
                yield Static(Content(printable(self._body)), classes="body")
            yield Static(Content(self._keys), classes="keys")

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)


class ChoicePanel(Dialog[int | None]):
    """What happened, and a numbered list of what can be done; dismissed with the place of the choice, or None."""

    CSS_PATH = "panel.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", show=False),
        *(Binding(str(number), f"take({number})", show=False) for number in range(1, 10)),
    ]

    def __init__(self, title: str, body: str, choices: Sequence[str]) -> None:
        super().__init__()
        self._title, self._body, self._choices = title, body, choices

    def compose(self) -> ComposeResult:
        """Three texts and the list."""
        with Vertical(classes="panel error"):
            yield Static(Content(printable(self._title)), classes="title")
            yield Static(Content(printable(self._body)), classes="body")
            numbered = enumerate(map(printable, self._choices), 1)
            yield OptionList(*(Option(Content(f"{at}  {words}")) for at, words in numbered), markup=False)
            yield Static(Content(say("panel.choose" if self._choices else "panel.close")), classes="keys")

    def on_mount(self) -> None:
        """Mark the first choice."""
        options = self.query_one(OptionList)
        options.display = bool(self._choices)
        options.focus()

    def action_take(self, number: int) -> None:
        """Take choice ``number``, from 1."""
        if number <= len(self._choices):
            self.dismiss(number - 1)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)


class LinkPanel(Panel):
    """Where a link of an answer leads; opened only when the user says so."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("o", "open", show=False)]

    def __init__(self, target: str) -> None:
        super().__init__(say("panel.link"), one_line(target), say("panel.link.keys"))
        self.target = target

    def action_open(self) -> None:
        """Hand the target to the system's browser."""
        self.app.open_url(self.target)
        self.dismiss(None)


class LinePanel(Panel):
    """One line to type; dismissed with it, or with None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", show=False)]

    def __init__(self, title: str, value: str, keys: str) -> None:
        super().__init__(title, "", keys)
        self._value = value

    def compose(self) -> ComposeResult:
        """A title, the line, the keys."""
        with Vertical(classes="panel"):
            yield Static(Content(self._title), classes="title")
            yield Input(self._value)
            yield Static(Content(self._keys), classes="keys")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(one_line(event.value) or None)
