"""How full the context would be with the question in the box."""

from __future__ import annotations

import asyncio

from textual.timer import Timer

from vlmchat.conversation import Part
from vlmchat.engine.api import PromptSize
from vlmchat.tui.flow import Flow

_QUIET_S = 0.25
"""How long the box is left alone before it is measured: laying a prompt out is not for every key."""


class Meter:
    """Measures what is in the box a moment after it has changed, off the app's thread."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._timer: Timer | None = None

    def look(self) -> None:
        """Measure soon; a later call takes the place of an earlier one."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._flow.screen.set_timer(_QUIET_S, self.measure)

    async def measure(self) -> None:
        """Measure now and show it, unless the engine is at work."""
        flow = self._flow
        if flow.desk.model is None or flow.busy:
            return
        draft, editing = flow.prompt.draft, flow.editing
        # What is wrong with a question is said when it is sent; a meter only goes dark.
        (found,) = await asyncio.gather(asyncio.to_thread(self._read, draft.parts, editing), return_exceptions=True)
        flow.status.meter = (found.prompt_tokens, found.context_tokens) if isinstance(found, PromptSize) else None

    def _read(self, parts: tuple[Part, ...], editing: str | None) -> PromptSize:
        session = self._flow.desk.measuring_session()
        return session.measure(parts, after=session.parent(editing) if editing is not None else None)
