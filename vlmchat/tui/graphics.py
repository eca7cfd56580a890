"""How pictures are drawn: kitty's protocol, sixels, half blocks, or not at all.

The drawing is textual-image's. That library asks the terminal what it can do while it is imported,
by reading the keyboard: inside a running app it would swallow what the user types. So it is imported
with a standard output that is no terminal, its own choice is not used, and what the terminal can do
is told from the environment or by the ``previews`` setting.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast

from textual.widget import Widget

from vlmchat.settings import Previews

if TYPE_CHECKING:
    from PIL.Image import Image

Drawing: TypeAlias = Literal["kitty", "sixel", "half-block", "off"]
_SIXEL_PROGRAMS = {"WezTerm", "iTerm.app", "mintty", "contour", "rio"}
"""Values of TERM_PROGRAM whose sixels textual-image was tried with, or that document them as on by default."""
_WIDTH, _HEIGHT = 10, 20
"""Pixels of a cell where the terminal does not say: those of a VT340."""


class Cell(NamedTuple):
    """Size of one character cell in pixels."""

    width: int
    height: int


def drawing(wish: Previews, environ: Mapping[str, str] = os.environ) -> Drawing:
    """Return how pictures are drawn in the terminal that ``environ`` describes.

    Inside tmux and screen, which pass on neither protocol by default, and in any terminal that is not
    known to have one, these are half blocks.
    """
    if wish != "auto":
        return wish
    term = environ.get("TERM", "")
    if "TMUX" in environ or term.startswith(("tmux", "screen", "dumb")):
        return "half-block"
    if "KITTY_WINDOW_ID" in environ or term in {"xterm-kitty", "xterm-ghostty"}:
        return "kitty"
    if term.startswith("foot") or environ.get("TERM_PROGRAM") in _SIXEL_PROGRAMS or "KONSOLE_VERSION" in environ:
        return "sixel"
    return "half-block"


def cell() -> Cell:
    """Return the size of a cell, as the terminal's driver knows it."""
    try:
        import struct
        from fcntl import ioctl
        from termios import TIOCGWINSZ

        answer = ioctl(sys.__stderr__.fileno() if sys.__stderr__ else 2, TIOCGWINSZ, bytes(8))
    except (ImportError, OSError, ValueError):
        return Cell(_WIDTH, _HEIGHT)
    rows, columns, width, height = struct.unpack("HHHH", answer)
    return Cell(width // columns, height // rows) if rows and columns and width and height else Cell(_WIDTH, _HEIGHT)


def cells_for(size: tuple[int, int], room: tuple[int, int], kind: Drawing) -> tuple[int, int]:
    """Return columns and rows for a picture of ``size`` pixels inside ``room`` cells, its shape kept."""
    across, down = (_WIDTH, _HEIGHT) if kind == "half-block" else cell()
    scale = min(room[0] * across / size[0], room[1] * down / size[1])
    return max(1, round(size[0] * scale / across)), max(1, round(size[1] * scale / down))


def pixels_of(cells: tuple[int, int], kind: Drawing) -> tuple[int, int]:
    """Return how many pixels ``cells`` columns and rows can show."""
    across, down = (1, 2) if kind == "half-block" else cell()
    return cells[0] * across, cells[1] * down


def drawn(image: Image, cells: tuple[int, int], kind: Drawing) -> Widget:
    """Return a widget of ``cells`` columns and rows that shows ``image``, stretched to fill them.

    ``image`` has to be small already: it is scaled on the app's thread.
    """
    widget = _makers()[kind](image)
    widget.styles.width, widget.styles.height = cells
    return widget


def show(widget: Widget, image: Image | None) -> None:
    """Put another picture into a widget that :func:`drawn` made; None frees what the terminal holds of it."""
    widget.image = image  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _makers() -> Mapping[Drawing, Callable[[Image], Widget]]:
    """Import the library without letting it talk to the terminal."""
    before = sys.__stdout__
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - no path, a device
        sys.__stdout__ = nowhere  # type: ignore[misc]
        try:
            from textual_image import _terminal, widget
        finally:
            sys.__stdout__ = before  # type: ignore[misc]
    _terminal.get_cell_size._result = _terminal.CellSize(*cell())  # type: ignore[attr-defined]
    return cast(
        "Mapping[Drawing, Callable[[Image], Widget]]",
        {"kitty": widget.TGPImage, "sixel": widget.sixel.Image, "half-block": widget.HalfcellImage},
    )
