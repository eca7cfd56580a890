"""Small panels over the chat: an error with its remedy, a link's target, a line to type."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line, printable
from vlmchat.tui.text import say


class Panel(ModalScreen[str | None]):
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
            yield Static(Content(printable(self._body)), classes="body")
            yield Static(Content(self._keys), classes="keys")

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)


class ErrorPanel(Panel):
    """What happened, what to do, and that nothing is lost; dismissed with ``models`` to pick another one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+l", "models", show=False)]

    def __init__(self, title: str, error: VlmchatError, *, draft_back: bool = False) -> None:
        lines = [error.message, error.hint, say("panel.draft_back") if draft_back else ""]
        super().__init__(title, "\n\n".join(filter(None, lines)), say("panel.keys"))

    def action_models(self) -> None:
        """Pick another model."""
        self.dismiss("models")


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
