"""The line at the bottom: the keys that do something here and now, from the action table.

One widget that draws one line, where Textual's ``Footer`` mounts a widget per key again and again;
what does not fit is left out from the right, since ``F1`` shows all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol, cast

from textual.content import Content
from textual.dom import DOMNode
from textual.events import Click
from textual.screen import Screen
from textual.widget import Widget

from vlmchat.tui.actions import Action, Scope, of

_GAP = "  "


class Scoped(Protocol):
    """A widget or screen that has a scope of the action table."""

    scope: ClassVar[Scope]


class KeyHints(Widget):
    """Keys and their labels; a click does what the key does."""

    def on_mount(self) -> None:
        """Draw again whenever the screen offers other keys, or another screen has come on top."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self.app.screen_change_signal.subscribe(self, self._changed)

    def render(self) -> Content:
        """Draw as many of the offered keys as fit; none below another screen, where they do nothing."""
        if self.app.screen is not self.screen:
            return Content("")
        return Content(_GAP).join(hint for _, hint in self._fitting())

    def on_click(self, event: Click) -> None:
        """Do what the hint under the mouse says."""
        offset = event.get_content_offset(self)
        end = 0
        for action, hint in self._fitting() if offset is not None else ():
            start, end = end, end + hint.cell_length + len(_GAP)
            if offset is not None and start <= offset.x < end - len(_GAP):
                self.app.simulate_key(action.bound.split(",")[0])
                return

    def _fitting(self) -> list[tuple[Action, Content]]:
        hints: list[tuple[Action, Content]] = []
        room = self.content_size.width
        for action in self._offered():
            hint = Content.assemble((action.keys.replace("Ctrl+", "^"), "bold $primary"), " ", (action.label, "$quiet"))
            room -= hint.cell_length + (len(_GAP) if hints else 0)
            if room < 0:
                break
            hints.append((action, hint))
        return hints

    def _offered(self) -> Iterator[Action]:
        """Yield what the focused widget, the screen and the app offer, in this order."""
        nodes: list[DOMNode | None] = [self.screen.focused, self.screen]
        if not self.screen.is_modal:
            nodes.append(self.app)
        for node in nodes:
            if node is None or not hasattr(node, "scope"):
                continue
            for action in of(cast("Scoped", node).scope):
                if action.show and node.check_action(*action.call):
                    yield action

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()
