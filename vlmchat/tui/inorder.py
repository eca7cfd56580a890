"""Keys in their order: each finds the app as the key before has left it, however fast they come.

Textual hands every key to the widget that has the focus at once, and runs what a key is bound to only when that
widget and all around it have let the key pass. Keys that come in a burst, or after a stall, have reached the widget by
then: a question behind Ctrl+N was asked in the chat before, and the letters behind Ctrl+O never came to the list.

So a key waits here until the one before it is done with. Behind each goes a message through the same queues, from the
widget up to the app: what is done by then, the next key finds. Characters typed into a text need not wait for each
other.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol, runtime_checkable

from textual.app import App
from textual.dom import DOMNode
from textual.events import Event, Key, Paste
from textual.message import Message
from textual.widgets import Input, TextArea

ROUNDS = 2
"""Passages behind a key: one for what it is bound to, one for what that has asked of a widget by message."""
LOST_S = 0.25
"""A passage that takes longer may have ended with a widget that was taken away: another one is sent."""
LOOKS = 8
"""So often; then a key goes on each time, whatever hangs."""
_MEANT = "@"
"""The character that the box does something else with than to insert it."""


class Passed(Message):
    """Has come from a widget up to the app: what was in their queues before it is done."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Awaited(Message):
    """What a screen let keys wait for is there."""


@runtime_checkable
class Awaiting(Protocol):
    """A screen that may be open before what its keys are for is there, a list say."""

    def awaits(self, key: str, typed: bool) -> bool:
        """Say whether ``key`` has to wait for it until :class:`Awaited`; ``typed``: it only adds to a text."""


class InOrder(App[int]):
    """An app that takes one key after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: deque[Key | Paste] = deque()
        self._rounds = 0
        """Passages still to come before the next key; 0: it may go."""
        self._number = 0
        """Of the passage under way: an older one no longer counts."""
        self._through: DOMNode | None = None
        """Where that has begun."""
        self._typed = False
        """Characters were handed on that may not have been taken yet."""
        self._looks = 0
        """How often keys that wait were looked after; 0: nobody looks."""

    async def on_event(self, event: Event) -> None:
        """Let a key wait for its turn; all else is handled at once."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._keys.append(event)
        if self._rounds and self._through is not self._target:
            # It may have ended with the widget: what left a dialog, say.
            self._pass(self._rounds)
        await self._hand_on()
        if self._keys and not self._looks:
            self._look_soon()

    async def on_passed(self, message: Passed) -> None:
        """Begin another passage, from where the focus is now, or let the next key go."""
        message.stop()
        if message.number != self._number or not self._rounds:
            return
        self._rounds -= 1
        if self._rounds or self._through is not self._target:
            self._pass(max(1, self._rounds))
        else:
            await self._hand_on()

    async def on_awaited(self, message: Awaited) -> None:
        """Let the keys that waited for it go."""
        message.stop()
        if not self._rounds:
            self._pass(ROUNDS)

    @property
    def _target(self) -> DOMNode | None:
        """What the next key goes to; None when the app is being left."""
        return (self.focused or self.screen) if self.screen_stack else None

    async def _hand_on(self) -> None:
        """Hand keys on until one has to wait."""
        while self._keys and not self._rounds and self._target is not None:
            event = self._keys[0]
            only_typed = self._is_typed(event)
            if (self._typed and not only_typed) or not self.screen.is_mounted:
                # What is served before the focused widget sees it would overtake characters; and what is typed before
                # the first frame is meant for the box.
                self._typed = False
                self._pass(1)
                return
            if isinstance(self.screen, Awaiting) and self.screen.awaits(getattr(event, "key", ""), only_typed):
                return
            self._keys.popleft()
            self._typed, self._looks = only_typed, min(self._looks, 1)
            await super().on_event(event)
            if not only_typed:
                self._pass(ROUNDS)

    def _is_typed(self, event: Key | Paste) -> bool:
        """Say whether ``event`` only adds to the text that has the focus."""
        # A paste is taken by message: what follows at once would stand before it.
        if isinstance(event, Paste) or not isinstance(self._target, TextArea | Input):
            return False
        return event.is_printable and event.character != _MEANT

    def _pass(self, rounds: int) -> None:
        """Send a message from what the next key goes to up to here."""
        self._through = self._target
        if self._through is not None:
            self._rounds = rounds
            self._number += 1
            self._through.post_message(Passed(self._number))

    def _look_soon(self) -> None:
        self._looks = min(self._looks + 1, LOOKS)
        self.set_timer(LOST_S, self._look)

    async def _look(self) -> None:
        """See to keys that wait for what may never come."""
        if not self._keys or self._target is None:
            self._looks = 0
            return
        if self._looks < LOOKS:
            self._pass(max(1, self._rounds))
        else:
            await super().on_event(self._keys.popleft())
            self._pass(ROUNDS)
        self._look_soon()
