"""Which chat is on the screen: a new one, a temporary one, a saved one; and what is done with it as a whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual.dom import DOMNode

from vlmchat.errors import VlmchatError
from vlmchat.plaintext import one_line
from vlmchat.store.chats import ChatStore
from vlmchat.tui.desk import OpenChat
from vlmchat.tui.flow import TITLE_LENGTH, Flow
from vlmchat.tui.screens.panel import LinePanel
from vlmchat.tui.telling import complain, tell
from vlmchat.tui.text import say, shorten


class ChatDeeds:
    """Carries out what concerns the open chat as a whole."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._deleted: str | None = None
        """The chat that was open when it was deleted."""

    async def enter(self, chat: OpenChat | None = None, title: str = "") -> None:
        """Put ``chat``, or a new one, on the desk and draw it; the one before stays among the saved ones."""
        flow = self._flow
        await flow.leave()
        flow.desk.leave_chat(chat)
        await flow.transcript.clear()
        flow.prompt.remember([])
        flow.status.temporary = chat is not None and chat.temporary
        flow.status.title = ""
        if chat is not None and (chat.session is not None or chat.stored is not None):
            await flow.attempt(flow.desk.session)
            await flow.redraw()
            views = flow.transcript.views
            flow.status.title = shorten(one_line(title or (views[0].plain if views else "")), TITLE_LENGTH)
        flow.screen.settle()

    async def open(self, chat_id: str | None) -> None:
        """Reopen a saved chat; an empty id means that the open one was deleted, None that it stays."""
        if chat_id is None or (chat_id and chat_id == self._flow.desk.chat.id):
            return
        if not chat_id:
            await self.enter()
            return
        chat = await self._flow.attempt(self._flow.desk.store.chat, chat_id)
        if chat is not None:
            await self.enter(OpenChat(chat.summary.id), chat.summary.title)

    async def temporary(self) -> None:
        """Begin a chat that is never written."""
        await self.enter(OpenChat(temporary=True))
        tell(self._flow.screen, "toast.temporary")

    async def delete(self) -> None:
        """Delete the open chat; :meth:`undo` brings it back."""
        chat_id = await self._saved()
        if chat_id is None:
            return
        title = self._flow.status.title
        self._flow.desk.stop()
        await self._flow.attempt(self._flow.desk.store.delete, chat_id)
        self._deleted = chat_id
        await self.enter()
        tell(self._flow.screen, "toast.chat_deleted", title=title)

    async def undo(self) -> bool:
        """Bring back the chat deleted last; False when there is none."""
        chat_id, self._deleted = self._deleted, None
        if chat_id is None:
            return False
        await self._flow.attempt(self._flow.desk.store.restore, chat_id)
        await self.open(chat_id)
        tell(self._flow.screen, "toast.restored", title=self._flow.status.title)
        return True

    async def rename(self, title: str = "") -> None:
        """Give the open chat another title, asked for when it is not given."""
        chat_id = await self._saved()
        if chat_id is None:
            return

        async def named(title: str | None) -> None:
            if title:
                await self._flow.attempt(self._flow.desk.store.rename, chat_id, one_line(title))
                self._flow.status.title = shorten(one_line(title), TITLE_LENGTH)

        if title:
            await named(title)
        else:
            panel = LinePanel(say("panel.rename"), self._flow.status.title, say("panel.rename.keys"))
            self._flow.screen.app.push_screen(panel, named)

    async def archive(self) -> None:
        """Take the open chat out of the list of chats."""
        chat_id = await self._saved()
        if chat_id is not None:
            await self._flow.attempt(self._flow.desk.store.archive, chat_id)
            tell(self._flow.screen, "toast.archived", title=self._flow.status.title)

    async def export(self, kind: str = "") -> None:
        """Write the open chat, as one HTML file or as Markdown with a folder, into the working folder."""
        chat_id = await self._saved()
        if chat_id is not None:
            await export_chat(self._flow.screen, self._flow.desk.store, chat_id, kind)

    async def _saved(self) -> str | None:
        """Return the id of the open chat, or None with the reason said."""
        if self._flow.desk.chat.id is None:
            tell(self._flow.screen, "toast.not_saved")
        return self._flow.desk.chat.id


async def export_chat(node: DOMNode, store: ChatStore, chat_id: str, kind: str = "") -> None:
    """Write chat ``chat_id`` as ``html`` (or, not named) or ``markdown`` into the working folder, and say where."""
    try:
        target = await asyncio.to_thread(_write, store, chat_id, kind.strip().lower() or "html")
    except VlmchatError as error:
        complain(node, error)
    else:
        tell(node, "toast.exported", path=target)


def _write(store: ChatStore, chat_id: str, kind: str) -> Path:
    # Late, as all that is not for the first frame.
    from vlmchat.store.export_files import write

    return write(store.chat(chat_id), kind, Path.cwd())
