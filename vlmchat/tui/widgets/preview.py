"""Pictures as pictures: decoded on a thread, drawn small, never in the way of the first frame."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widget import Widget

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError
from vlmchat.settings import Previews
from vlmchat.tui.graphics import Drawing, cells_for, drawing, drawn, pixels_of, show

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_CELLS = (24, 6)
"""Columns and rows of a picture in the chat at most."""


def drawing_of(widget: Widget) -> Drawing:
    """Return how the app of ``widget`` draws pictures."""
    wish: Previews = getattr(widget.app, "previews", "off")
    return drawing(wish)


class Canvas(Container):
    """A place for one picture that is made elsewhere."""

    DEFAULT_CSS = "Canvas { width: auto; height: auto; }"

    def __init__(self, classes: str = "") -> None:
        super().__init__(classes=classes)
        self._image: Widget | None = None
        self.cells = (0, 0)
        """Columns and rows that are drawn in now."""

    async def draw(self, image: Image, cells: tuple[int, int]) -> None:
        """Show ``image`` in ``cells``; nothing where pictures are switched off."""
        kind = drawing_of(self)
        if kind == "off":
            return
        if self._image is not None and cells == self.cells:
            show(self._image, image)
            return
        await self.wipe()
        self._image, self.cells = drawn(image, cells, kind), cells
        await self.mount(self._image)

    async def wipe(self) -> None:
        """Show nothing."""
        self.on_unmount()
        await self.remove_children()

    def on_unmount(self) -> None:
        """Let the terminal forget the picture."""
        if self._image is not None:
            show(self._image, None)
            self._image = None


class Preview(Canvas):
    """One picture, as large as its room allows."""

    def __init__(self, picture: Picture | None = None, room: tuple[int, int] = PREVIEW_CELLS) -> None:
        super().__init__()
        self._picture = picture
        self._room = room

    def on_mount(self) -> None:
        """Begin to draw."""
        self._draw()

    def show(self, picture: Picture | None, room: tuple[int, int]) -> None:
        """Draw another picture, or none."""
        self._picture, self._room = picture, room
        self._draw()

    def draw_again(self) -> None:
        """Follow a change in how pictures are drawn."""
        self._draw()

    @work(exclusive=True)
    async def _draw(self) -> None:
        picture, kind = self._picture, drawing_of(self)
        if picture is None or kind == "off":
            await self.wipe()
            return
        cells = cells_for((picture.width, picture.height), self._room, kind)
        try:
            image = await asyncio.to_thread(reduced, picture, pixels_of(cells, kind))
        except ImageError:
            # Its name and size stay; asking about it says what happened to it.
            await self.wipe()
            return
        await self.draw(image, cells)


class PreviewRow(Horizontal):
    """The pictures of one question beside each other."""

    DEFAULT_CSS = """
    PreviewRow { height: auto; overflow: hidden; }
    PreviewRow Preview { margin: 0 1 0 0; }
    """

    def __init__(self, pictures: tuple[Picture, ...]) -> None:
        super().__init__()
        self._pictures = pictures

    def compose(self) -> ComposeResult:
        """One for each picture."""
        yield from (Preview(picture) for picture in self._pictures)


def reduced(picture: Picture, size: tuple[int, int]) -> Image:
    """Return ``picture`` upright at ``size`` pixels; for a thread.

    Raises:
        ImageError: it cannot be read any more.
    """
    # Late: Pillow costs 30 ms of CPU that no first frame shall wait for.
    from vlmchat.media.image import load_rgb

    return load_rgb(picture).resize(size)
