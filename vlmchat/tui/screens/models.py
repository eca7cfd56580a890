"""The models: the embedded one, the catalog, and any folder whose path is typed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from vlmchat.catalog.spec import ModelSpec
from vlmchat.chat.shelf import Offer, offers
from vlmchat.plaintext import one_line
from vlmchat.settings import Hub
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.screens.listing import Listing
from vlmchat.tui.screens.panel import Panel
from vlmchat.tui.text import say, size


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model as the list shows it."""

    reference: str
    """What is handed to the engine's opening: a catalog name or a path."""
    spec: ModelSpec | None
    """Its catalog row; None for a folder."""
    here: bool
    """On this machine."""
    hint: str = ""
    """How to get it when it is not."""


class ModelsScreen(Listing[ModelRow]):
    """Pick a model; dismissed with its reference."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("models")
    scope: ClassVar[Scope] = "models"

    def __init__(self, current: str, hub: Hub) -> None:
        super().__init__(say("models.title"), say("models.filter"))
        self._hub = hub
        self._current = current
        self._known: tuple[ModelRow, ...] = ()

    def on_mount(self) -> None:
        """Read the catalog and look at the disk on a thread."""
        super().on_mount()
        self.show_rows("", (), say("models.loading"))
        self._read()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer Enter only on a row."""
        return self.marked is not None if action == "choose" else True

    def draw(self, row: ModelRow) -> Content:
        """Name, size, whether it is here, what it can do."""
        name = one_line(row.reference)
        state = "models.missing"
        if row.reference == self._current:
            state = "models.current"
        elif row.here:
            state = "models.folder" if row.spec is None else "models.installed"
        weight = size(row.spec.bytes) if row.spec is not None and row.spec.bytes else ""
        abilities = ", ".join(row.spec.abilities) if row.spec is not None else ""
        return Content.assemble(
            ("● " if row.here else "○ ", "$success" if row.here else "$quiet"),
            (f"{name:<26}", "bold" if row.here else "$foreground 70%"),
            (f"{weight:>9}  ", "$quiet"),
            (f"{say(state):<11}", "$success" if row.here else "$quiet"),
            (abilities, "$quiet"),
        )

    def detail(self, row: ModelRow) -> Content:
        """What it is, and what Enter does with it."""
        about = row.spec.description if row.spec is not None else one_line(row.reference)
        does = say("models.detail.folder" if row.spec is None else "models.detail.here") if row.here else row.hint
        return Content.assemble((about, "$foreground"), "\n", (one_line(does), "$primary"))

    def choose(self) -> None:
        """Use the marked model, or say how to get it."""
        row = self.marked
        if row is None:
            return
        if row.here:
            self.dismiss(row.reference)
        else:
            self.app.push_screen(
                Panel(say("panel.get", name=row.reference), row.hint, say("panel.close"))
            )  # fmt: skip

    @work(exclusive=True, group="list")
    async def _read(self) -> None:
        self._known = await asyncio.to_thread(_rows, self._hub)
        await self._list()

    @on(Input.Changed)
    async def _typed(self) -> None:
        if self._known:
            self._look()

    @work(exclusive=True, group="list")
    async def _look(self) -> None:
        await self._list()

    async def _list(self) -> None:
        """Show the rows for what is typed: a folder for a path, else the rows of the catalog that match."""
        words = self.words
        typed = words.strip()
        if typed.startswith(("/", "./", "../", "~")):
            folder = await asyncio.to_thread(_folder, typed)
            rows = tuple(ModelRow(path, None, here=True) for path in (folder,) if path is not None)
        else:
            rows = tuple(row for row in self._known if row.spec is not None and row.spec.matches(typed))
        mark = next((at for at, row in enumerate(rows) if row.reference == self._current and not typed), 0)
        if words == self.words:
            self.show_rows(words, rows, say("models.none"), mark)


def _rows(hub: Hub) -> tuple[ModelRow, ...]:
    """Read the catalog and look which rows are installed; for a thread."""
    return tuple(_row(offer) for offer in offers(hub=hub))


def _row(offer: Offer) -> ModelRow:
    hint = offer.how if offer.runs else say("models.later", name=offer.spec.title)
    return ModelRow(offer.spec.name, offer.spec, offer.ready, hint)


def _folder(words: str) -> str | None:
    """Return the folder that was typed, if it is one; for a thread."""
    try:
        path = Path(words).expanduser()
        return str(path) if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None
