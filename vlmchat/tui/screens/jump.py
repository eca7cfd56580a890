"""Jump: a letter on everything that can be gone to; the letter goes there."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Key
from textual.geometry import Offset
from textual.widget import Widget
from textual.widgets import Static

from vlmchat.tui.screens.dialog import Dialog

LETTERS = ascii_lowercase.replace("q", "")
"""One for each place, in the order of reading."""


class JumpScreen(Dialog["Widget | None"]):
    """Lies over the chat; dismissed with the widget that was chosen."""

    CSS_PATH = "jump.tcss"

    def __init__(self, places: Sequence[Widget]) -> None:
        super().__init__()
        self._places = dict(zip(LETTERS, places, strict=False))

    def compose(self) -> ComposeResult:
        """A letter at the corner of each place."""
        for letter, place in self._places.items():
            label = Static(Content(f" {letter} "), classes="letter")
            x, y, *_ = place.region
            label.absolute_offset = Offset(max(0, x), max(0, y))
            yield label

    def on_key(self, event: Key) -> None:
        """Go to the place of the letter; any other key, Esc too, goes back."""
        event.stop()
        self.dismiss(self._places.get(event.key))
