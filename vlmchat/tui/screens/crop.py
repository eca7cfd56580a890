"""Choose a part of a picture, with the mouse or with keys; it becomes a picture of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.events import MouseDown, MouseMove, MouseUp, Resize
from textual.message import Message
from textual.widgets import Static

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError
from vlmchat.plaintext import one_line
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.graphics import cells_for, pixels_of
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.telling import complain
from vlmchat.tui.text import say
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.preview import Canvas, drawing_of, reduced

if TYPE_CHECKING:
    from PIL.Image import Image

_DARKER = 0.35
"""Brightness of what is left out."""
_FALLBACK = (40, 12)
"""Cells of an empty field to draw the box in when pictures are switched off."""


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture of ``width`` x ``height`` pixels; always inside it and never empty."""

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def between(cls, size: tuple[int, int], one: tuple[int, int], other: tuple[int, int]) -> Box:
        """Return the box with two opposite corners, whichever they are, cut at the picture's edges."""
        (left, right), (top, bottom) = sorted((one[0], other[0])), sorted((one[1], other[1]))
        left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
        return cls(*size, left, top, max(left + 1, min(right, size[0])), max(top + 1, min(bottom, size[1])))

    @classmethod
    def middle(cls, size: tuple[int, int]) -> Box:
        """Return the middle of a picture, half as wide and half as high."""
        return cls.between(size, (size[0] // 4, size[1] // 4), (size[0] * 3 // 4, size[1] * 3 // 4))

    def moved(self, across: int, down: int) -> Box:
        """Return the box moved by pixels, as far as the picture reaches."""
        across = min(max(across, -self.left), self.width - self.right)
        down = min(max(down, -self.top), self.height - self.bottom)
        size, corner = (self.width, self.height), (self.left + across, self.top + down)
        return Box.between(size, corner, (self.right + across, self.bottom + down))

    def stretched(self, across: int, down: int) -> Box:
        """Return the box with its lower right corner moved by pixels; its other corner stays."""
        far = (max(self.left + 1, self.right + across), max(self.top + 1, self.bottom + down))
        return Box.between((self.width, self.height), (self.left, self.top), far)

    @property
    def text(self) -> str:
        """As it is written behind a path."""
        return f"[{self.left},{self.top},{self.right - self.left},{self.bottom - self.top}]"


class CropField(Canvas):
    """The picture with the box in it, and the mouse over it."""

    class Dragged(Message):
        """The mouse drew a box between two cells, both of them inside it."""

        def __init__(self, start: tuple[int, int], end: tuple[int, int]) -> None:
            super().__init__()
            self.start, self.end = start, end

        def can_replace(self, message: Message) -> bool:
            """Only where the mouse is now matters."""
            return isinstance(message, CropField.Dragged) and message.start == self.start

    def __init__(self) -> None:
        super().__init__("field")
        self._start: tuple[int, int] | None = None

    def on_mouse_down(self, event: MouseDown) -> None:
        """Begin a box."""
        self._start = (event.x, event.y)
        self.capture_mouse()
        event.stop()

    def on_mouse_move(self, event: MouseMove) -> None:
        """Draw the box to here."""
        if self._start is not None:
            self.post_message(self.Dragged(self._start, (event.x, event.y)))

    def on_mouse_up(self, event: MouseUp) -> None:
        """End the box."""
        if self._start is not None:
            self.post_message(self.Dragged(self._start, (event.x, event.y)))
            self._start = None
            self.release_mouse()


class CropScreen(Dialog[Picture | None]):
    """A box over a picture; dismissed with what is in it, as a picture of its own, or with None."""

    CSS_PATH = "crop.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings("crop")
    scope: ClassVar[Scope] = "crop"

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self._picture = picture
        self.box = Box.middle((picture.width, picture.height))
        self._fine = False
        self._base: Image | None = None
        self._cells = _FALLBACK

    def compose(self) -> ComposeResult:
        """The picture, what is chosen, keys."""
        with Vertical(classes="crop") as box:
            box.border_title = say("crop.title")
            with Container(classes="place"):
                yield CropField()
            yield Static(classes="chosen")
            yield KeyHints()

    @property
    def field(self) -> CropField:
        """The picture on the screen."""
        return self.query_one(CropField)

    def on_resize(self, _event: Resize) -> None:
        """Draw the picture as large as it can be."""
        self.call_after_refresh(self._fit)

    def action_move(self, across: int, down: int) -> None:
        """Move the box by cells of the screen, or by pixels."""
        self._choose(self.box.moved(*self._steps(across, down)))

    def action_stretch(self, across: int, down: int) -> None:
        """Move the lower right corner."""
        self._choose(self.box.stretched(*self._steps(across, down)))

    def action_fine(self) -> None:
        """Go pixel by pixel, or no longer."""
        self._fine = not self._fine
        self._tell()

    def action_take(self) -> None:
        """Cut it out."""
        self._cut()

    def action_close(self) -> None:
        """Leave the picture whole."""
        self.dismiss(None)

    @on(CropField.Dragged)
    def _dragged(self, event: CropField.Dragged) -> None:
        near = [min(pair) for pair in zip(event.start, event.end, strict=True)]
        far = [max(pair) + 1 for pair in zip(event.start, event.end, strict=True)]
        size = (self.box.width, self.box.height)
        one = (size[0] * near[0] // self._cells[0], size[1] * near[1] // self._cells[1])
        other = (-(-size[0] * far[0] // self._cells[0]), -(-size[1] * far[1] // self._cells[1]))
        self._choose(Box.between(size, one, other))

    def _steps(self, across: int, down: int) -> tuple[int, int]:
        if self._fine:
            return across, down
        return (
            across * max(1, self.box.width // self._cells[0]),
            down * max(1, self.box.height // self._cells[1]),
        )  # fmt: skip

    def _choose(self, box: Box) -> None:
        self.box = box
        self._tell()
        self._draw()

    def _tell(self) -> None:
        width, height = self.box.right - self.box.left, self.box.bottom - self.box.top
        mode = say("crop.fine" if self._fine else "crop.coarse")
        words = say("crop.chosen", name=one_line(self._picture.name), box=self.box.text, width=width, height=height)
        self.query_one(".chosen", Static).update(Content(f"{words} · {mode}"))

    @work(exclusive=True, group="draw")
    async def _fit(self) -> None:
        """Scale the picture to the room there is; decoding takes a thread."""
        kind = drawing_of(self)
        room = self.query_one(".place").content_size
        shown_as = "half-block" if kind == "off" else kind
        self._cells = cells_for(
            (self._picture.width, self._picture.height), (room.width, max(2, room.height)), shown_as
        )
        self.field.styles.width, self.field.styles.height = self._cells
        try:
            self._base = await asyncio.to_thread(reduced, self._picture, pixels_of(self._cells, shown_as))
        except ImageError as error:
            complain(self, error)
            self.dismiss(None)
            return
        self._choose(self.box)

    @work(exclusive=True, group="draw")
    async def _draw(self) -> None:
        if self._base is not None:
            await self.field.draw(marked(self._base, self.box), self._cells)

    @work(exclusive=True, group="cut")
    async def _cut(self) -> None:
        try:
            self.dismiss(await asyncio.to_thread(cut_out, self._picture, self.box))
        except ImageError as error:
            complain(self, error)


def marked(base: Image, box: Box) -> Image:
    """Return ``base``, a reduced picture, with everything outside ``box`` darkened."""
    across, down = base.width / box.width, base.height / box.height
    left, top = min(int(box.left * across), base.width - 1), min(int(box.top * down), base.height - 1)
    right = max(left + 1, -int(-box.right * across // 1))
    bottom = max(top + 1, -int(-box.bottom * down // 1))
    image = base.point([round(level * _DARKER) for level in range(256)] * 3)
    image.paste(base.crop((left, top, right, bottom)), (left, top))
    return image


def cut_out(picture: Picture, box: Box) -> Picture:
    """Return the part of ``picture`` in ``box``, named ``photo.png[x,y,w,h]``; for a thread.

    Raises:
        ImageError: the picture cannot be read any more.
    """
    from vlmchat.media.crop import Crop, cropped

    numbers = (box.left, box.top, box.right - box.left, box.bottom - box.top)
    return cropped(picture, Crop(box.text, numbers, is_fraction=False))
