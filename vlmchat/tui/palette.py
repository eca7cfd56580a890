"""The command palette: every action that makes sense as a command, and the themes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
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


class ActionProvider(_TableProvider):
    """The action table: what the open screen offers, then what is offered everywhere."""

    def rows(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Return the actions of this screen and of the app."""
        scope = getattr(self.screen, "scope", "")
        for action in ACTIONS:
            if action.palette and action.scope in {scope, "app"}:
                runner = self.app if action.scope == "app" else self.screen
                yield f"{action.label}  ({action.keys})", action.tip, partial(runner.run_action, action.method)


class ThemeProvider(_TableProvider):
    """One command for each theme."""

    def rows(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Return a command for every theme on the shelf."""
        app = cast("VlmchatApp", self.app)
        for name, title in app.shelf.titles.items():
            yield say("palette.theme", title=title), say("palette.theme.tip"), partial(app.use_theme, name)
