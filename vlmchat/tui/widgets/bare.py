"""Containers of which only the background is drawn, made of one line.

Textual draws each container line by line beneath what it holds, and anew whenever its size changes. With an answer
that grows, four of them fill the window: a third of what a frame costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Region
from textual.strip import Strip
from textual.style import Style

if TYPE_CHECKING:
    from textual.widget import Widget
else:
    # Named before the base that it draws for, and Textual's style sheets follow the first widget among the bases.
    Widget = object


class Bare(Widget):
    """A container without text of its own; with a border, or half transparent, it is drawn as any widget."""

    _line: tuple[object, Strip] | None = None

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return as many blank lines as ``crop`` is high."""
        styles = self.styles
        if any(edge for edge, _ in styles.border) or self.opacity < 1:
            return super().render_lines(crop)
        base, background = self.background_colors
        filters = tuple(self.get_line_filters())
        made_for = (crop.width, base + background, filters)
        if self._line is None or self._line[0] != made_for:
            self._line = made_for, _blank(crop.width, base + background, filters)
        return [self._line[1]] * crop.height


def _blank(width: int, background: Color, filters: tuple[LineFilter, ...]) -> Strip:
    strip = Strip.blank(width, Style(background=background).rich_style)
    for line_filter in filters:
        strip = strip.apply_filter(line_filter, background)
    return strip
