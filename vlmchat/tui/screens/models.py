"""The models: used last, the catalog by family, and any folder or hub id that is typed.

The list is drawn from the catalog and the disk alone; how each model fits on this machine is
counted on a thread afterwards and drawn when it is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.types import CSSPathType
from textual.widgets import Input, OptionList, Static

from vlmchat.settings import Hub
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.browsing import (
    ORDERS,
    Heading,
    Line,
    ModelRow,
    Order,
    arrange,
    catalog_rows,
    judged,
    matching,
    recent_rows,
    typed_row,
)
from vlmchat.tui.screens.listing import Listing
from vlmchat.tui.screens.panel import Panel
from vlmchat.tui.text import say
from vlmchat.tui.widgets.fit_text import fit_text
from vlmchat.tui.widgets.hints import KeyHints
from vlmchat.tui.widgets.model_detail import describe, heading_line, model_line

if TYPE_CHECKING:
    from vlmchat.engine.machine import Machine

__all__ = ["Heading", "ModelRow", "ModelsScreen"]
_WIDE = 120
"""Columns from which on the details stand beside the list."""


class ModelsScreen(Listing[Line]):
    """Pick a model; dismissed with its reference."""

    CSS_PATH: ClassVar[CSSPathType | None] = ["listing.tcss", "models.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = bindings("models")
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (_WIDE, "-wide")]  # noqa: RUF012 - as Textual declares it
    scope: ClassVar[Scope] = "models"

    def __init__(
        self, current: str, hub: Hub, recent: Sequence[str] = (), fetch: Callable[[str, str], None] | None = None
    ) -> None:
        super().__init__(say("models.title"), say("models.filter"))
        self._hub = hub
        self._current = current
        self._recent = recent
        self._fetch = fetch
        """Shows what the download of a model takes, given how it fits."""
        self._order: Order = "family"
        self._known: tuple[ModelRow, ...] = ()
        self._machine: Machine | None = None

    def compose(self) -> ComposeResult:
        """Line, the list with its columns, all about the marked model beside or below it, keys."""
        with Vertical(classes="listing") as box:
            box.border_title = self._title
            yield Input(placeholder=self._placeholder)
            with Container(classes="beside"):
                with Vertical(classes="left"):
                    yield Static(heading_line(), classes="columns")
                    yield OptionList(markup=False)
                    yield Static(classes="empty")
                with VerticalScroll(classes="right", can_focus=False):
                    yield Static(classes="detail")
            yield KeyHints()

    def on_mount(self) -> None:
        """Read the catalog and look at the disk on a thread."""
        super().on_mount()
        self.show_rows(None, (), say("models.loading"))
        self._read()

    def on_screen_resume(self) -> None:
        """Look at the disk again: a download may have ended meanwhile."""
        if self._known:
            self._read()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer Enter and the details only on a row."""
        return self.row is not None if action in {"choose", "explain"} else True

    @property
    def row(self) -> ModelRow | None:
        """The marked model."""
        marked = self.marked
        return marked if isinstance(marked, ModelRow) else None

    def is_heading(self, row: Line) -> bool:
        """Say whether ``row`` is no model."""
        return isinstance(row, Heading)

    def draw(self, row: Line) -> Content:
        """One line of columns."""
        if isinstance(row, Heading):
            return Content.styled(row.words, "$quiet")
        return model_line(row, row.reference == self._current)

    def detail(self, row: Line) -> Content:
        """What it is, what Enter does with it, how it fits."""
        return describe(row) if isinstance(row, ModelRow) else Content("")

    def choose(self) -> None:
        """Use the marked model, or say how to get it."""
        row = self.row
        if row is None:
            return
        if row.here:
            self.dismiss(row.reference)
        elif row.fetchable and self._fetch is not None:
            self._fetch(row.reference, fit_text(row.fit))
        else:
            self.app.push_screen(Panel(say("panel.get", name=row.reference), row.hint, say("panel.close")))

    async def action_sort(self) -> None:
        """Go on to the next order."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.query_one(".listing").border_subtitle = say(f"models.order.{self._order}")
        self._look()

    def action_explain(self) -> None:
        """Show all that is known of the marked model in a panel."""
        row = self.row
        if row is not None:
            self.app.push_screen(Panel(row.reference, describe(row).plain, say("models.details.keys")))

    @work(exclusive=True, group="list")
    async def _read(self) -> None:
        rows = await asyncio.to_thread(_rows, self._hub)
        rows += await asyncio.to_thread(recent_rows, self._unlisted(rows), self._hub)
        if self._machine is not None:
            rows = await asyncio.to_thread(judged, rows, self._machine)
        self._known = rows
        await self._list()
        if self._machine is None:
            self._judge()

    def _unlisted(self, rows: Sequence[ModelRow]) -> list[str]:
        """Return the models used last that are not of the catalog."""
        names = {row.reference for row in rows}
        return [name for name in self._recent if name not in names]

    @work(exclusive=True, group="judge")
    async def _judge(self) -> None:
        """Look at this machine and count what fits, then draw it."""
        self._machine = await asyncio.to_thread(_machine, self._hub)
        self._known = await asyncio.to_thread(judged, self._known, self._machine)
        self._look()

    @on(Input.Changed)
    async def _typed(self) -> None:
        if self._known:
            self._look()

    @work(exclusive=True, group="list")
    async def _look(self) -> None:
        await self._list()

    async def _list(self) -> None:
        """Show the models for what is typed: a folder or a hub id by itself, else what matches."""
        if not self.is_current:
            return  # It is drawn when it is shown again; while it is being left it has nothing to draw on.
        words = self.words
        typed = words.strip()
        lines: Sequence[Line] = arrange(matching(self._known, typed), self._order, self._recent)
        if typed:
            own = await asyncio.to_thread(typed_row, typed, self._hub)
            if own is not None and self._machine is not None:
                (own,) = await asyncio.to_thread(judged, (own,), self._machine)
            lines = lines if own is None else [own]
        else:
            lines = arrange(self._known, self._order, self._recent)
        if self.is_current and words == self.words:
            self.show_rows(words, lines, say("models.none"), self._place(words, lines))

    def _place(self, words: str, lines: Sequence[Line]) -> int:
        """Return where the bar belongs: where it was, on the model in use, or on the first one."""
        row = self.row if self._listed_for == words else None
        wanted = row.reference if row is not None else "" if words.strip() else self._current
        models = [at for at, line in enumerate(lines) if isinstance(line, ModelRow)]
        found = (at for at in models if getattr(lines[at], "reference", None) == wanted)
        return next(found, next(iter(models), 0))


def _rows(hub: Hub) -> tuple[ModelRow, ...]:
    """Read the catalog and look which rows are installed; for a thread."""
    return catalog_rows(hub)


def _machine(hub: Hub) -> Machine:
    """Look at this machine; for a thread."""
    # Late: the list is drawn before anything is measured.
    from vlmchat.chat.capacity import machine_now

    return machine_now(hub)
