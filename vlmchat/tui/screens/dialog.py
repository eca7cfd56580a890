"""What every screen over the chat is: left once, whatever is pressed after that."""

from __future__ import annotations

from textual.app import ScreenStackError
from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, ScreenResultType

LASTING = "write"
"""Group of workers that go on when their dialog is left: they change what is stored."""


class Dialog(ModalScreen[ScreenResultType]):
    """A screen over the chat; dismissed with what was chosen."""

    @property
    def left(self) -> bool:
        """Whether it has been left; its widgets may be gone already."""
        return self not in self.app.screen_stack

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Leave with ``result``; a second time does nothing.

        Keys pressed in a burst, on a slow machine, reach a screen that has been left already; Textual would take the
        next screen off the stack for each of them, the chat at last.
        """
        try:
            on_top = self.app.screen is self
        except ScreenStackError:
            on_top = False
        if not on_top:
            return AwaitComplete()
        # Textual takes the widgets away first and ends the workers after that, which would draw on what is gone.
        for worker in list(self.workers):
            if worker.node is self and worker.group != LASTING:
                worker.cancel()
        return super().dismiss(result)
