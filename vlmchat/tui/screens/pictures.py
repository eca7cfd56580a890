"""Pick a picture or a video: a fuzzy list of the newest ones with the marked one drawn, or a path or URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Event
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.types import CSSPathType
from textual.widgets import Input, OptionList, Static

from vlmchat.conversation import Picture
from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.attaching import is_source, read_source
from vlmchat.tui.faults import told
from vlmchat.tui.finding import Candidate, candidates, matching
from vlmchat.tui.screens.listing import Listing
from vlmchat.tui.text import ago, say
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.preview import Preview

_PREVIEW = (30, 10)
"""Columns and rows of the drawn picture."""


class PicturesScreen(Listing[Candidate]):
    """Dismissed with a path or a URL; ``None`` when it was left."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["listing.tcss", "pictures.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = bindings("pictures")
    scope: ClassVar[Scope] = "pictures"

    def __init__(self, typed: Callable[[], str] = str) -> None:
        """List pictures for what is typed.

        Args:
            typed: takes what was typed for this list before it was there; Enter is a line's end.
        """
        super().__init__(say("pictures.title"), say("pictures.filter"))
        self._already = typed
        self.words_left = ""
        """What was typed when the list was left."""
        self._left = Event()
        self._known: list[Candidate] | None = None

    def compose(self) -> ComposeResult:
        """Line, list beside the marked picture, what it is, keys."""
        with Vertical(classes="listing") as box:
            box.border_title = self._title
            yield Input(placeholder=self._placeholder)
            with Horizontal(classes="beside"):
                yield OptionList(markup=False)
                yield Static(classes="empty")
                yield Preview(None)
            yield Static(classes="detail")
            yield KeyHints()

    def on_mount(self) -> None:
        """Search the folders on a thread."""
        super().on_mount()
        self.show_rows(None, (), say("pictures.searching"))
        self._search()
        # Keys that came before this screen are still being handed out.
        self.call_after_refresh(self._go_on)

    def on_unmount(self) -> None:
        """End the search."""
        self._left.set()

    def _go_on(self) -> None:
        """Stand as if all that was typed had been typed here."""
        words, entered, _ = self._already().partition("\n")
        line = self.query_one(Input)
        line.value = words + line.value
        line.cursor_position = len(line.value)
        if entered:
            self.action_choose()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer Enter only where there is something to attach."""
        return self.marked is not None or is_source(self.words) if action == "choose" else True

    def draw(self, row: Candidate) -> Content:
        """Its name, then the folder it is in."""
        folder = one_line(row.shown.rpartition("/")[0])
        mark = "▶ " if row.is_video else "▣ "
        return Content.assemble((mark, "$quiet"), (one_line(row.path.name), "bold"), (f"  {folder}", "$quiet"))

    def detail(self, row: Candidate) -> Content:
        """Where it is and how old it is."""
        return Content.assemble((one_line(row.shown), "$foreground"), (f"  {ago(row.changed, time.time())}", "$quiet"))

    def show_detail(self) -> None:
        """Draw the marked picture too."""
        super().show_detail()
        self._measure(self.marked)

    def choose(self) -> None:
        """Attach the marked file, or what was typed when it is a path or a URL."""
        typed = self.words.strip()
        if is_source(typed):
            self.dismiss(typed)
        elif self.marked is not None:
            self.dismiss(str(self.marked.path))

    def action_close(self) -> None:
        """Go back; what was typed is not lost."""
        self.words_left = self.words
        super().action_close()

    @work(exclusive=True, group="measure")
    async def _measure(self, row: Candidate | None) -> None:
        """Read the marked picture on a thread and say its size, or what is wrong with it."""
        preview, line = self.query_one(Preview), self.query_one(".detail", Static)
        if row is None or row.is_video:
            preview.show(None, _PREVIEW)
            return
        # The bar is often only on its way.
        await asyncio.sleep(0.08)
        try:
            media = await asyncio.to_thread(read_source, str(row.path))
        except VlmchatError as error:
            preview.show(None, _PREVIEW)
            line.update(Content.styled(one_line(told(error)[0]), "$error"))
            return
        if isinstance(media, Picture):
            preview.show(media, _PREVIEW)
            line.update(Content.assemble(self.detail(row), (f"  {media.width}x{media.height}", "bold")))

    @work(exclusive=True, group="list")
    async def _search(self) -> None:
        self._known = await asyncio.to_thread(candidates, self._left.is_set)
        await self._list()

    @on(Input.Changed)
    async def _typed(self) -> None:
        if is_source(self.words.strip()):
            # At once: a path needs no search, and must not end the one under way.
            await self._list()
        elif self._known is not None:
            self._look()

    @work(exclusive=True, group="list")
    async def _look(self) -> None:
        await self._list()

    async def _list(self) -> None:
        words = self.words
        typed = words.strip()
        if is_source(typed):
            self.show_rows(words, (), say("pictures.typed"))
        else:
            rows = await asyncio.to_thread(matching, typed, self._known or [], self._left.is_set)
            if words == self.words:
                self.show_rows(words, rows, say("pictures.none" if typed else "pictures.empty"))
