"""The line at the bottom: the keys that do something here and now, from the action table.

One widget that draws one line, where Textual's ``Footer`` mounts a widget per key again and again;
what does not fit is left out from the right, since ``F1`` shows all of it.
"""

from __future__ import annotations

from textual.binding import Binding
from textual.content import Content
from textual.events import Click
from textual.screen import Screen
from textual.widget import Widget

from vlmchat.tui.actions import ACTIONS

_GAP = "  "
_ORDER = {f"{action.scope}.{action.id}": place for place, action in enumerate(ACTIONS)}


class KeyHints(Widget):
    """Keys and their labels; a click does what the key does."""

    def on_mount(self) -> None:
        """Draw again whenever the screen offers other keys."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def render(self) -> Content:
        """Draw as many of the offered keys as fit."""
        return Content(_GAP).join(hint for _, hint in self._fitting())

    async def on_click(self, event: Click) -> None:
        """Do what the hint under the mouse says."""
        offset = event.get_content_offset(self)
        end = 0
        for binding, hint in self._fitting() if offset is not None else ():
            start, end = end, end + hint.cell_length + len(_GAP)
            if offset is not None and start <= offset.x < end - len(_GAP):
                self.app.simulate_key(binding.key)
                return

    def _fitting(self) -> list[tuple[Binding, Content]]:
        hints: list[tuple[Binding, Content]] = []
        room = self.content_size.width
        offered = [entry.binding for entry in self.screen.active_bindings.values() if entry.enabled]
        for binding in sorted(offered, key=lambda binding: _ORDER.get(binding.id or "", len(_ORDER))):
            if not binding.show:
                continue
            key = (binding.key_display or binding.key).replace("Ctrl+", "^")
            hint = Content.assemble((key, "bold $primary"), " ", (binding.description, "$quiet"))
            room -= hint.cell_length + (len(_GAP) if hints else 0)
            if room < 0:
                break
            hints.append((binding, hint))
        return hints

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()
