"""The screen without a single colour, for NO_COLOR: what stands out by its background is reversed instead.

Textual's own answer to NO_COLOR are greys, which are colours to a terminal too (https://no-color.org).
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_PLAIN = Style.from_color(RichColor.parse("default"), RichColor.parse("default"))
_REVERSED = _PLAIN + Style(reverse=True)
_GROUNDS = {0, 8}
"""Numbers of black and bright black among the terminal's sixteen colours."""
_STRONG = 0.3
"""Difference of brightness, of 1, between a background and the theme's own from which on it means something."""


class Colourless(LineFilter):
    """Gives every cell the terminal's own colours; cells with a strong background are reversed."""

    def __init__(self, ground: Color) -> None:
        super().__init__()
        self._ground = ground.brightness

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return ``segments`` without colours."""
        return [
            Segment(text, None if style is None else style + self._instead(style), control)
            for text, style, control in segments
        ]

    def _instead(self, style: Style) -> Style:
        return _REVERSED if self._stands_out(style) else _PLAIN

    def _stands_out(self, style: Style) -> bool:
        if style.bgcolor is None or style.bgcolor.is_default:
            return False
        if style.bgcolor.is_system_defined:
            # How it looks only the terminal knows.
            return style.bgcolor.number not in _GROUNDS
        return abs(Color.from_rich_color(style.bgcolor).brightness - self._ground) > _STRONG


@lru_cache(maxsize=4)
def colourless(ground: str) -> Colourless:
    """Return the filter for a theme whose background is ``ground``; the same one each time, as strips remember it."""
    return Colourless(Color.parse(ground))
