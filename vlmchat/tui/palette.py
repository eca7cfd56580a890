"""The command palette: every action that makes sense as a command, and the themes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen
from textual.types import IgnoreReturnCallbackType

from vlmchat.tui.actions import ACTIONS
from vlmchat.tui.text import say

if TYPE_CHECKING:
    from vlmchat.tui.app import VlmchatApp


class _TableProvider(Provider):
    """Searches ``(label, what it does, how to do it)`` rows by fuzzy match."""

    def rows(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Return what can be done now."""
        raise NotImplementedError

    async def discover(self) -> Hits:
        """Show everything before a letter is typed."""
        for label, tip, command in self.rows():
            yield DiscoveryHit(label, command, help=tip)

    async def search(self, query: str) -> Hits:
        """Show what matches ``query``, best first."""
        matcher = self.matcher(query)
        for label, tip, command in self.rows():
            score = matcher.match(label)
            if score > 0:
                yield Hit(score, matcher.highlight(label), command, help=tip)


class Commands(_TableProvider):
    """The action table: what the open screen offers, then what is offered everywhere, then the themes."""

    def rows(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Return what can be done here and now."""
        app = cast("VlmchatApp", self.app)
        scope = getattr(self.screen, "scope", None)
        for action in ACTIONS:
            runner: App[int] | Screen[object] = app if action.scope == "app" else self.screen
            if not (action.palette and action.scope in {scope, "app"}):
                continue
            if runner.check_action(*action.call):
                yield f"{action.label}  ({action.keys})", action.tip, partial(runner.run_action, action.method)
        for name, title in app.shelf.titles.items():
            yield say("palette.theme", title=title), say("palette.theme.tip"), partial(app.use_theme, name)
