"""What the model sees: the tiles of a picture, or the frames of a video, exactly as the vision tower gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, ScrollableContainer, Vertical
from textual.content import Content
from textual.events import Resize
from textual.widgets import Static

from vlmchat.conversation import Picture
from vlmchat.engine.view import Sight
from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line, printable
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.faults import told
from vlmchat.tui.graphics import Drawing, cells_for, pixels_of
from vlmchat.tui.screens.dialog import Dialog
from vlmchat.tui.text import many, say
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.preview import Canvas, drawing_of

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP = 1
"""Columns between two tiles; below each stands a line of text."""
_FRAME_ROWS = 6
"""Rows of one frame of a video, of which there are many."""


@dataclass(frozen=True, slots=True)
class Page:
    """One picture, or one video, on the screen."""

    name: str
    sights: tuple[Sight, ...]
    """One for a picture, one for each frame of a video."""
    is_video: bool = False
    times: tuple[float | None, ...] = ()
    """Seconds at which the frames of a video are shown; None where nobody knows."""

    @property
    def tokens(self) -> int:
        """Prompt positions of the whole page."""
        return sum(sight.tokens for sight in self.sights)

    @property
    def picture(self) -> Picture | None:
        """What can be cropped: a picture, but no video."""
        return None if self.is_video else self.sights[0].picture

    @property
    def about(self) -> str:
        """How it was cut and what it costs, in one line."""
        first = self.sights[0]
        across, down = first.images[0].size if first.images else (0, 0)
        figures = {"tokens": f"{self.tokens:,}", "width": across, "height": down}
        if self.is_video:
            return many("tiles.frames", len(self.sights), each=f"{first.tokens:,}", **figures)
        if first.tiles == 1:
            return say("tiles.one", **figures)
        each, grid = f"{first.tokens // first.tiles:,}", f"{first.columns} x {first.rows}"
        kind = "tiles.grid" if first.thumbnail == "none" else "tiles.thumbnail"
        return say(kind, count=first.tiles, grid=grid, each=each, **figures)


class TilesScreen(Dialog[Picture | None]):
    """Leafs through pages; dismissed with the picture that is to be cropped, or None."""

    CSS_PATH = "tiles.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings("tiles")
    scope: ClassVar[Scope] = "tiles"

    def __init__(self, look: Callable[[], Sequence[Page]], context_tokens: int) -> None:
        super().__init__()
        self._look = look
        """Cuts the pictures; for a thread."""
        self._limit = context_tokens
        self.pages: Sequence[Page] = ()
        self._at = 0

    def compose(self) -> ComposeResult:
        """Name, figures, tiles, keys."""
        with Vertical(classes="tiles") as box:
            box.border_title = say("tiles.title")
            yield Static(classes="name")
            yield Static(Content(say("tiles.reading")), classes="about")
            yield ScrollableContainer(classes="grid", can_focus=False)
            yield KeyHints()

    def on_mount(self) -> None:
        """Begin to cut."""
        self._read()

    @property
    def page(self) -> Page | None:
        """What is shown."""
        return self.pages[self._at] if self.pages else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what there is: another picture, something to crop."""
        if action.startswith("leaf"):
            return len(self.pages) > 1
        if action == "crop":
            return self.page is not None and self.page.picture is not None
        return True

    def action_leaf(self, step: int) -> None:
        """Go to another picture."""
        self._at = (self._at + step) % len(self.pages)
        self._show()

    def action_scroll(self, step: int) -> None:
        """See tiles further down."""
        self.query_one(".grid").scroll_relative(y=step * 3, animate=False)

    def action_crop(self) -> None:
        """Choose a part of this picture."""
        if self.page is not None:
            self.dismiss(self.page.picture)

    def action_close(self) -> None:
        """Go back to the chat."""
        self.dismiss(None)

    def on_resize(self, _event: Resize) -> None:
        """Fit the tiles into the new room."""
        if self.pages:
            self._show()

    @work
    async def _read(self) -> None:
        try:
            self.pages = await asyncio.to_thread(self._look)
        except VlmchatError as error:
            self._say(".about", "\n".join(filter(None, told(error))))
            return
        self._show()

    @work(exclusive=True, group="show")
    async def _show(self) -> None:
        page = self.pages[self._at]
        place = f" ({self._at + 1}/{len(self.pages)})" if len(self.pages) > 1 else ""
        first = page.sights[0].picture
        measure = "" if page.is_video else f"  {first.width}x{first.height}"
        self._say(".name", f"{page.name}{measure}{place}")
        share = f"{100 * page.tokens / self._limit:.1f}" if self._limit else "?"
        self._say(".about", f"{page.about}\n{say('tiles.share', share=share, context=f'{self._limit:,}')}")
        self.refresh_bindings()
        grid = self.query_one(".grid", ScrollableContainer)
        grid.scroll_home(animate=False)
        room = (grid.size.width, max(3, grid.size.height))
        plan = frames_plan(page, room) if page.is_video else grid_plan(page.sights[0], room)
        await self._draw(grid, plan)

    def _say(self, place: str, text: str) -> None:
        self.query_one(place, Static).update(Content(printable(text)))

    async def _draw(self, grid: ScrollableContainer, plan: Plan) -> None:
        kind = drawing_of(self)
        async with self.batch():
            await grid.remove_children()
            blocks = [_block(rows, plan.room, kind) for rows in plan.blocks]
            await grid.mount(Horizontal(*blocks, classes="blocks"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One tile in its place, with the line below it."""

    image: Image
    caption: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks beside each other, each of rows of tiles."""

    blocks: tuple[tuple[tuple[Cell, ...], ...], ...]
    room: tuple[int, int]
    """Columns and rows of one tile, its caption apart."""


def grid_plan(sight: Sight, room: tuple[int, int]) -> Plan:
    """Return the cells of ``sight`` as they lie in the picture, and the whole picture on the side it is read from."""
    each = f"{sight.tokens // sight.tiles:,}" if sight.tiles else "0"
    images, whole = list(sight.images), []
    if sight.thumbnail != "none":
        whole = [Cell(images.pop(0 if sight.thumbnail == "first" else -1), f"{say('tiles.whole')} · {each}")]
    parts = [Cell(image, f"{number} · {each}") for number, image in enumerate(images, 1)]
    rows = tuple(
        tuple(parts[start : start + sight.columns]) for start in range(0, len(parts), sight.columns)
    )  # fmt: skip
    across = sight.columns + len(whole)
    alone = ((tuple(whole),),) if whole else ()
    blocks = (*alone, rows) if sight.thumbnail == "first" else (rows, *alone)
    size = (max(4, room[0] // across - _GAP - 1), max(2, room[1] // max(1, len(rows)) - 1))
    return Plan(blocks, size)


def frames_plan(page: Page, room: tuple[int, int]) -> Plan:
    """Return the frames of a video row by row, each with its time."""
    shown = zip(page.sights, page.times, strict=True)
    cells = []
    for number, (sight, seconds) in enumerate(shown, 1):
        words = (f"{number}", "" if seconds is None else time_of(seconds), f"{sight.tokens:,}")
        cells.append(Cell(sight.images[0], " · ".join(filter(None, words))))
    width = max(len(cell.caption) for cell in cells) + 1
    columns = max(1, room[0] // (max(width, 2 * _FRAME_ROWS) + _GAP))
    rows = tuple(tuple(cells[start : start + columns]) for start in range(0, len(cells), columns))
    return Plan((rows,), (max(width, 2 * _FRAME_ROWS), _FRAME_ROWS))


def time_of(seconds: float) -> str:
    """Return a place in a video: ``0:07.2``."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def _block(rows: Sequence[Sequence[Cell]], room: tuple[int, int], kind: Drawing) -> Vertical:
    return Vertical(*(Horizontal(*(Tile(cell, room, kind) for cell in row), classes="row") for row in rows))


class Tile(Vertical):
    """One tile with its number and its tokens."""

    def __init__(self, cell: Cell, room: tuple[int, int], kind: Drawing) -> None:
        super().__init__()
        self.cell = cell
        self._cells = cells_for(cell.image.size, room, "half-block" if kind == "off" else kind)

    def compose(self) -> ComposeResult:
        """The tile above, the line below; where pictures are off, the line alone."""
        yield Canvas()
        yield Static(Content(one_line(self.cell.caption)), classes="caption")

    async def on_mount(self) -> None:
        """Draw the tile at the size it has on the screen."""
        kind = drawing_of(self)
        if kind != "off":
            await self.query_one(Canvas).draw(self.cell.image.resize(pixels_of(self._cells, kind)), self._cells)
