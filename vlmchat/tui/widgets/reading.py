"""Pictures on their way into the box: read on a thread, from the web with progress, stoppable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from textual.widget import Widget

from vlmchat.plaintext import printable
from vlmchat.settings import Settings
from vlmchat.tui.attaching import Reach
from vlmchat.tui.text import say, size

Result = TypeVar("Result")


class Reading:
    """One thing is read at a time; what is going on stands in the border of ``box``."""

    def __init__(self, box: Widget) -> None:
        self._box = box
        self._stop = Event()
        self.turn = asyncio.Lock()
        """Held while something is read and while what was read is put into the box."""
        self.settings = Settings()
        """Says whether the web may be asked."""

    async def read(self, job: Callable[[Reach], Result]) -> Result:
        """Run ``job`` on a thread; to be called with :attr:`turn` held."""
        self._stop.clear()
        self._box.border_subtitle = say("prompt.reading")
        reach = Reach(self.settings.offline, self.settings.private_urls, self._told, self._stop.is_set)
        try:
            return await asyncio.to_thread(job, reach)
        finally:
            self._box.border_subtitle = ""

    def stop(self) -> bool:
        """End what is being read; False when nothing is."""
        if not self.turn.locked():
            return False
        self._stop.set()
        return True

    def _told(self, done: int, total: int) -> None:
        """Show how far a fetch is; called on its thread."""
        known = say("prompt.fetching_of", done=size(done), total=size(total)) if total else ""
        words = known or say("prompt.fetching", done=size(done))
        self._box.app.call_from_thread(setattr, self._box, "border_subtitle", printable(words))
