"""All keys on one page, read from the action table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from vlmchat.tui.actions import SCOPES, Scope, of
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.text import say


class HelpScreen(Dialog[None]):
    """Every action by where it works: its key, its name, one sentence."""

    CSS_PATH = "panel.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,f1,q", "dismiss(None)", show=False)]

    def __init__(self, here: Sequence[Scope] = ()) -> None:
        """Show the scopes in force ``here`` first."""
        super().__init__()
        self._scopes = (*here, *(scope for scope in SCOPES if scope not in here))

    def compose(self) -> ComposeResult:
        """A heading and a list for each scope."""
        with Vertical(classes="panel help"):
            yield Static(Content(say("panel.help")), classes="title")
            with VerticalScroll():
                for scope in self._scopes:
                    yield Static(Content(say(f"scope.{scope}")), classes="scope")
                    for action in of(scope):
                        with Horizontal(classes="row"):
                            yield Static(Content(action.keys), classes="key")
                            yield Static(Content(action.label), classes="label")
                            yield Static(Content(action.tip), classes="tip")
            yield Static(Content(say("panel.help.keys")), classes="keys")
