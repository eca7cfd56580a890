"""The one place where text of a model, of a file or of a hub is made harmless for a terminal.

A terminal obeys control characters wherever they come from: an escape sequence in an answer could
retitle the window, write the clipboard (OSC 52) or hide text. Both front ends therefore pass
everything they did not write themselves through :func:`printable`.
"""

from __future__ import annotations

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
"""C0, DEL and C1: with ESC and CSI gone, what follows them is plain letters."""
_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""Marks, embeddings, overrides and isolates that reorder what is shown (Unicode TR 36, section 3.1)."""
_SURROGATES = range(0xD800, 0xE000)
"""Halves of a pair: Python can hold them, no UTF-8 stream can."""
_DROPPED: dict[int, str | None] = {code: None for code in (*_CONTROLS, *_BIDI) if chr(code) not in "\n\t"}
_DROPPED.update(dict.fromkeys(_SURROGATES, "\N{REPLACEMENT CHARACTER}"))


def printable(text: str) -> str:
    """Return ``text`` without anything a terminal would obey: newline and tab stay, so do all letters.

    Characters are dropped one by one, so pieces of a stream may be passed singly: the result is
    the same as for the whole.
    """
    return text.translate(_DROPPED)


def one_line(text: str) -> str:
    """Return ``text`` as :func:`printable` does, with every run of blanks as one: for titles and names."""
    return " ".join(printable(text).split())


def is_whole(text: str) -> bool:
    """Say whether ``text`` has whole characters only: bytes in another encoding come in as halves."""
    return text.isascii() or text.encode("utf-8", "replace").decode("utf-8") == text
