"""What every screen over the chat is: left once, whatever is pressed after that."""

from __future__ import annotations

from textual.app import ScreenStackError
from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, ScreenResultType


class Dialog(ModalScreen[ScreenResultType]):
    """A screen over the chat; dismissed with what was chosen."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Leave with ``result``; a second time does nothing.

        Keys pressed in a burst, on a slow machine, reach a screen that has been left already; Textual would take the
        next screen off the stack for each of them, the chat at last.
        """
        try:
            on_top = self.app.screen is self
        except ScreenStackError:
            on_top = False
        return super().dismiss(result) if on_top else AwaitComplete()
