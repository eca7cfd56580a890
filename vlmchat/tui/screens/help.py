"""All keys on one page, read from the action table."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from vlmchat.tui.actions import SCOPES, Scope, of
from vlmchat.tui.text import say

_KEY_WIDTH = 8


class HelpScreen(ModalScreen[None]):
    """Every action by where it works: its key, its name, one sentence."""

    CSS_PATH = "panel.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,f1,q", "dismiss(None)", show=False)]

    def compose(self) -> ComposeResult:
        """A heading and a list for each scope."""
        with Vertical(classes="panel help"):
            yield Static(Content(say("panel.help")), classes="title")
            with VerticalScroll():
                for scope in SCOPES:
                    yield Static(Content(say(f"scope.{scope}")), classes="scope")
                    yield Static(_rows(scope), classes="rows")
            yield Static(Content(say("panel.help.keys")), classes="keys")


def _rows(scope: Scope) -> Content:
    rows = [
        Content.assemble(
            (action.keys.rjust(_KEY_WIDTH), "bold $primary"), "  ", (action.label, "bold"), "  ", (action.tip, "$quiet")
        )
        for action in of(scope)
    ]
    return Content("\n").join(rows)
