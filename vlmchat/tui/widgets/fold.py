"""A long column of widgets, of which only what is near the window is laid out; the rest is empty room of its height.

Textual lays out every widget of a screen with every change of one. Streaming into a chat of 10,000 tokens, drawing
took 1.79 s of CPU in 8 s with 131 widgets laid out (empty boxes for far answers, every block of near ones), and 0.90 s
with the 31 that are near, laid out once (:class:`Grown`); one run, two AVX-512 cores of a shared machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from textual.geometry import Size
from textual.reactive import Reactive
from textual.widget import Widget

NEAR, KEPT, FAR = 0.5, 1.0, 1.5
"""Pages above and below the window. What is nearer than the first is laid out. When something is further than the last,
all is folded that is further than the second: changing what is folded costs two layouts, so it is done once a page."""


class Grown(Widget):
    """A widget that grows while text comes, laid out once each time.

    Textual asks for a second layout of the whole screen whenever a widget's size has changed in the first, which took
    as long again. Nothing depends on it here: a scrollbar that comes or goes asks for one itself.
    Named behind the base that has the style: Textual's style sheets follow the first one.
    """

    virtual_size = Reactive(Size(0, 0), repaint=False)


class Block(Grown):
    """A part of a text, which comes with what it says: it is laid out with its column, and not once more after that."""

    def on_mount(self) -> None:
        """Forget the layout that was asked for when the text was given: the one that shows it is still to come."""
        self._layout_required = False


@dataclass(frozen=True, slots=True)
class Window:
    """What is seen of a column, in lines from its top."""

    top: float
    page: int
    """Lines that are seen at once."""

    def inside(self, lines: int) -> Window:
        """Return the same window as seen from what begins ``lines`` further down."""
        return Window(self.top - lines, self.page)

    def away(self, top: int, bottom: int) -> float:
        """Return how many pages what reaches from ``top`` to ``bottom`` is above or below; under 0: it is seen."""
        return max(self.top - bottom, top - self.top - self.page) / max(1, self.page)


class Fold:
    """Folds the two ends of a column: it hides them, and pads the column with their room."""

    def __init__(self) -> None:
        self._rooms: dict[Widget, int] = {}
        """Lines that each folded widget takes up, its margin included."""

    def __contains__(self, widget: Widget) -> bool:
        return widget in self._rooms

    def tend(self, column: Widget, window: Window, may: Callable[[Widget], bool]) -> Iterator[tuple[Widget, int]]:
        """Fold what is far from ``window`` and unfold what is near it; returns what is laid out, with its top in lines.

        Args:
            column: its children stand one under the other; it has no padding of its own.
            window: what is seen of it.
            may: whether a child that is laid out may be folded.
        """
        children = list(column.children)
        rooms = [self._room(child) for child in children]
        tops = list(accumulate(rooms, initial=0))
        away = [window.away(top, top + room) for top, room in zip(tops, rooms, strict=False)]

        def stays(at: int, limit: float) -> bool:
            folded = children[at] in self._rooms
            return away[at] <= (NEAR if folded else limit) or not rooms[at] or not (folded or may(children[at]))

        numbers = range(len(children))
        far = any(not stays(at, FAR) for at in numbers if children[at] not in self._rooms)
        shown = [at for at in numbers if stays(at, KEPT if far else FAR)] or [len(children) - 1]
        first, last = shown[0], shown[-1] + 1
        above, below = zip(children[:first], rooms, strict=False), zip(children[last:], rooms[last:], strict=True)
        self._fold(column, dict(above), dict(below))
        return zip(children[first:last], tops[first:], strict=False)

    def open(self, column: Widget) -> None:
        """Unfold everything, for when heights will be others."""
        self._fold(column, {}, {})

    def _room(self, child: Widget) -> int:
        if child in self._rooms:
            return self._rooms[child]
        height = child.outer_size.height if child.display else 0
        return height + child.styles.margin.bottom if height else 0

    def _fold(self, column: Widget, above: dict[Widget, int], below: dict[Widget, int]) -> None:
        rooms = above | below
        if rooms.keys() == self._rooms.keys():
            return
        for child in self._rooms.keys() - rooms.keys():
            child.display = True
        for child in rooms.keys() - self._rooms.keys():
            child.display = False
        self._rooms = rooms
        column.styles.padding = (sum(above.values()), 0, sum(below.values()), 0)
