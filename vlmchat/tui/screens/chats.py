"""The saved chats: newest first, searched while one types, opened, renamed, deleted and brought back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from textual import on, work
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line, printable
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import ChatSummary
from vlmchat.tui.actions import Scope, bindings
from vlmchat.tui.chats import export_chat
from vlmchat.tui.screens.dialog import LASTING
from vlmchat.tui.screens.listing import Listing
from vlmchat.tui.screens.panel import LinePanel
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import ago, many, say, shorten

_WHEN = 12
"""Cells of the first column."""
_PAGE = 200
"""Chats that are listed at most; the search finds the others."""


class ChatsScreen(Listing[ChatSummary]):
    """Pick a chat; dismissed with its id, or with an empty text when the open chat was deleted."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("chats")
    scope: ClassVar[Scope] = "chats"

    def __init__(self, store: ChatStore, current: str | None, answering: bool, words: str = "") -> None:
        super().__init__(say("chats.title"), say("chats.filter"))
        self._store = store
        self._current = current
        self._answering = answering
        """The open chat is being written to, so it cannot go."""
        self._deleted: list[ChatSummary] = []
        self._archived = False
        """The archived chats are listed."""
        self._first_words = words

    def on_mount(self) -> None:
        """List the newest."""
        super().on_mount()
        self.query_one(Input).value = self._first_words
        self._list()

    def draw(self, row: ChatSummary) -> Content:
        """When, title, how long; the hit of a search under it."""
        title = one_line(row.title) or say("chats.untitled")
        passed = ago(row.updated, time.time())
        when = f"{' ' * (_WHEN - cell_len(passed))}{passed}  "
        line = Content.assemble(
            (when, "$quiet"), (shorten(title, 46), "bold"), (f"  {many('count.turns', row.turns)}", "$quiet")
        )
        if not row.snippet:
            return line
        return Content.assemble(line, "\n", " " * cell_len(when), _snippet(row.snippet))

    def detail(self, row: ChatSummary) -> Content:
        """The model it was last held with."""
        return Content.styled(one_line(row.model), "$quiet")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer undo only after a delete, and the others only on a row."""
        if action == "restore":
            return bool(self._deleted)
        if action in {"delete", "rename", "choose", "archive", "export"}:
            return self.marked is not None
        return True

    def choose(self) -> None:
        """Open the marked chat."""
        row = self.marked
        if row is not None:
            self.dismiss(row.id)

    def action_close(self) -> None:
        """Go back; a deleted chat is not what one goes back to."""
        gone = self._current in {row.id for row in self._deleted}
        self.dismiss("" if gone else None)

    def action_rename(self) -> None:
        """Ask for another title."""
        row = self.marked
        if row is not None:
            panel = LinePanel(say("panel.rename"), one_line(row.title), say("panel.rename.keys"))
            self.app.push_screen(panel, partial(self._rename, row.id))

    @work(group=LASTING)
    async def action_delete(self) -> None:
        """Delete the marked chat at once; it can be brought back."""
        row = self.marked
        if row is None:
            return
        if self._answering and row.id == self._current:
            self._say("toast.deleting_busy", row)
            return
        self.renew()
        await self._write(self._store.delete, row.id)
        self._deleted.append(row)
        self._say("toast.deleted", row)
        await self._refresh()

    @work(group=LASTING)
    async def action_restore(self) -> None:
        """Bring back what was deleted last."""
        if not self._deleted:
            tell(self, "toast.nothing_to_restore")
            return
        self.renew()
        row = self._deleted.pop()
        await self._write(self._store.restore, row.id)
        self._say("toast.restored", row)
        await self._refresh()

    @work(group=LASTING)
    async def action_archive(self) -> None:
        """Take the marked chat out of the list, or put an archived one back."""
        row = self.marked
        if row is not None:
            self.renew()
            await self._write(partial(self._store.archive, archived=not row.archived), row.id)
            self._say("toast.unarchived" if row.archived else "toast.archived", row)
            await self._refresh()

    def action_show_archived(self) -> None:
        """List the archived chats, or the others again."""
        self._archived = not self._archived
        self.renew()
        self.query_one(".listing").border_title = say("chats.archived" if self._archived else "chats.title")
        self._list()

    @work(group=LASTING)
    async def action_export(self) -> None:
        """Write the marked chat as one HTML file."""
        row = self.marked
        if row is not None:
            await export_chat(self, self._store, row.id)

    async def _rename(self, chat_id: str, title: str | None) -> None:
        if title is not None:
            await self._write(self._store.rename, chat_id, title)
            await self._refresh()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._list()

    @work(exclusive=True, group="list")
    async def _list(self) -> None:
        await self._refresh()

    async def _refresh(self) -> None:
        """Read the list for the words typed; what comes too late is dropped."""
        if self.left:
            return
        words = self.words
        try:
            rows = await asyncio.to_thread(self._store.chats, words, _PAGE, archived=self._archived)
        except VlmchatError as error:
            self.decide()
            complain(self, error)
            return
        if not self.left and words == self.words:
            before = self.marked
            mark = next((at for at, row in enumerate(rows) if before is not None and row.id == before.id), 0)
            empty = "chats.no_match" if words.strip() else "chats.none_archived" if self._archived else "chats.none"
            self.show_rows(words, rows, say(empty), mark)

    async def _write(self, change: Callable[..., None], *values: str) -> None:
        try:
            await asyncio.to_thread(change, *values)
        except VlmchatError as error:
            complain(self, error)

    def _say(self, key: str, row: ChatSummary) -> None:
        tell(self, key, title=one_line(row.title) or say("chats.untitled"))


def _snippet(text: str) -> Content:
    """Return the hit of a search, its matches marked."""
    content = Content("")
    for number, piece in enumerate(text.replace("\x03", "\x02").split("\x02")):
        shown = printable(piece).replace("\n", " ").replace("\t", " ")
        content = content + Content.styled(shown, "bold $accent" if number % 2 else "$quiet")
    return content
