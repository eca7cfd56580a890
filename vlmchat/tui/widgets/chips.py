"""The pictures of the draft, one atomic chip each, above the question."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from vlmchat.conversation import Picture
from vlmchat.plaintext import one_line
from vlmchat.tui.actions import Scope, bindings

_LONGEST_NAME = 28
"""Cells of a file name on a chip; the middle of a longer one is left out."""


def label(picture: Picture) -> Content:
    """Return ``▣ name 640x480`` as plain content."""
    name = one_line(picture.name)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"
    return Content.assemble("▣ ", (name, "bold"), f" {picture.width}x{picture.height}")


class Chip(Static, can_focus=True):
    """One picture of the draft."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("chips")
    scope: ClassVar[Scope] = "chips"

    class Removed(Message):
        """The user took the picture off the draft."""

        def __init__(self, picture: Picture) -> None:
            super().__init__()
            self.picture = picture

    class Left(Message):
        """The user wants to go on typing."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(Content.assemble(label(picture), " x"))
        self.picture = picture

    def action_remove(self) -> None:
        """Take this picture off the draft."""
        self.post_message(self.Removed(self.picture))

    def action_leave(self) -> None:
        """Go back to the question."""
        self.post_message(self.Left())

    def on_click(self) -> None:
        """A click removes it, as its x promises."""
        self.action_remove()


class ChipRow(Horizontal):
    """The chips of a draft, hidden while there are none."""

    async def show(self, pictures: tuple[Picture, ...]) -> None:
        """Draw one chip for each of ``pictures``."""
        self.display = bool(pictures)
        async with self.batch():
            await self.remove_children()
            await self.mount_all(Chip(picture) for picture in pictures)
