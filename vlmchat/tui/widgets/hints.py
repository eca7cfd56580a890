"""The line at the bottom: the keys that do something here and now, from the action table.

One widget that draws one line, where Textual's ``Footer`` mounts a widget per key again and again;
what does not fit is left out from the right, since ``F1`` shows all of it.
"""

from __future__ import annotations

from textual.content import Content
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget


class KeyHints(Widget):
    """Keys and their labels; a click does what the key does."""

    def on_mount(self) -> None:
        """Draw again whenever the screen offers other keys."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def render(self) -> Content:
        """Draw as many of the offered keys as fit."""
        hints = Content("")
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if not (binding.show and enabled):
                continue
            click = Style.from_meta({"@click": f"{'app' if node is self.app else 'screen'}.{binding.action}"})
            key = self.app.get_key_display(binding)
            hint = Content.assemble((key, "bold $primary"), " ", (binding.description, "$quiet"))
            hint = hint.stylize(click)
            joined = Content.assemble(hints, "   ", hint) if hints else hint
            if joined.cell_length > self.content_size.width:
                break
            hints = joined
        return hints

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()
