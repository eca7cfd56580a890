"""The pictures and videos of the draft, one atomic chip each, above the question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from vlmchat.conversation import Picture, Video
from vlmchat.plaintext import one_line
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.text import say

_LONGEST_NAME = 28
"""Cells of a file name on a chip; the middle of a longer one is left out."""


def label(medium: Picture | Video, tokens: int | None = None) -> Content:
    """Return ``▣ name 640x480 256 tokens`` as plain content, as much of it as is known."""
    name = one_line(medium.name)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"
    measure = f" {medium.width}x{medium.height}" if isinstance(medium, Picture) else ""
    cost = f" {say('chip.tokens', count=f'{tokens:,}')}" if tokens is not None else ""
    return Content.assemble("▣ " if isinstance(medium, Picture) else "▶ ", (name, "bold"), measure, cost)


class Chip(Static, can_focus=True):
    """One picture or video of the draft."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("chips")
    scope: ClassVar[Scope] = "chips"

    class Removed(Message):
        """The user took it off the draft."""

        def __init__(self, medium: Picture | Video) -> None:
            super().__init__()
            self.medium = medium

    class Left(Message):
        """The user wants to go on typing."""

    class Wanted(Message):
        """The user wants to ``view`` or to ``crop`` it."""

        def __init__(self, what: str, medium: Picture | Video) -> None:
            super().__init__()
            self.what, self.medium = what, medium

    def __init__(self, medium: Picture | Video, tokens: int | None = None) -> None:
        super().__init__(Content.assemble(label(medium, tokens), " x"))
        self.medium = medium

    def price(self, tokens: int | None) -> None:
        """Say what it costs."""
        self.update(Content.assemble(label(self.medium, tokens), " x"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A video cannot be cropped."""
        return isinstance(self.medium, Picture) if action == "crop" else True

    def action_remove(self) -> None:
        """Take it off the draft."""
        self.post_message(self.Removed(self.medium))

    def action_leave(self) -> None:
        """Go back to the question."""
        self.post_message(self.Left())

    def action_view(self) -> None:
        """See what the model sees."""
        self.post_message(self.Wanted("view", self.medium))

    def action_crop(self) -> None:
        """Choose a part of it."""
        self.post_message(self.Wanted("crop", self.medium))

    def on_click(self) -> None:
        """A click removes it, as its x promises."""
        self.action_remove()


class ChipRow(Horizontal):
    """The chips of a draft, hidden while there are none."""

    async def show(self, media: tuple[Picture | Video, ...]) -> None:
        """Draw one chip for each of ``media``."""
        self.display = bool(media)
        async with self.batch():
            await self.remove_children()
            await self.mount_all(Chip(medium) for medium in media)

    def price(self, costs: Mapping[str, int]) -> None:
        """Say what each costs, by digest; what is not in ``costs`` says nothing."""
        for chip in self.query(Chip):
            chip.price(costs.get(chip.medium.digest))
