"""All keys on one page, read from the action table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget
from textual.widgets import Static

from vlmchat.tui.actions import SCOPES, Action, Scope, of
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.text import say

KEY_CELLS, LABEL_CELLS = 12, 20
"""Width of the first two columns; the third has the rest."""


class KeyTable(Widget):
    """Keys, names and sentences in three columns, as one widget.

    One for each cell made 385 widgets: opening the page took 0.6 s of CPU, and 0.12 with one for each scope.
    """

    def __init__(self, actions: Sequence[Action]) -> None:
        super().__init__()
        self._actions = actions

    def render(self) -> Content:
        """Draw all rows."""
        return self._rows(self.content_size.width)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return how many lines they take."""
        return self._rows(width).plain.count("\n") + 1

    def _rows(self, width: int) -> Content:
        lines = []
        for action in self._actions:
            cells = (
                Content.styled(action.keys, "bold $primary").wrap(KEY_CELLS),
                Content.styled(action.label, "bold").wrap(LABEL_CELLS),
                Content.styled(action.tip, "$quiet").wrap(max(1, width - KEY_CELLS - LABEL_CELLS)),
            )
            lines += [_line(*line) for line in zip_longest(*cells, fillvalue=Content(""))]
        return Content("\n").join(lines)


def _line(key: Content, label: Content, tip: Content) -> Content:
    key = key.pad_right(KEY_CELLS - key.cell_length)
    return Content.assemble(key, label.pad_right(LABEL_CELLS - label.cell_length), tip)


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
                    yield KeyTable(of(scope))
            yield Static(Content(say("panel.help.keys")), classes="keys")
