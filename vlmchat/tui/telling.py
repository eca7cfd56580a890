"""Small notices: plain text in a corner, so that neither a file name nor an error is read as markup."""

from __future__ import annotations

from textual.dom import DOMNode

from vlmchat.errors import VlmchatError
from vlmchat.plaintext import printable
from vlmchat.tui.faults import told
from vlmchat.tui.text import say

_SHORT_S = 4.0
_LONG_S = 10.0
"""An error is read, understood and acted on; a confirmation is only seen."""


def tell(node: DOMNode, key: str, **values: object) -> None:
    """Show the text called ``key`` for a moment."""
    node.app.notify(printable(say(key, **values)), markup=False, timeout=_SHORT_S)


def warn(node: DOMNode, key: str, **values: object) -> None:
    """Show the text called ``key`` as something that did not go as wished."""
    node.app.notify(printable(say(key, **values)), severity="warning", markup=False, timeout=_LONG_S)


def complain(node: DOMNode, error: VlmchatError, more: str = "") -> None:
    """Show what happened, what to do about it, and ``more``."""
    lines = [*told(error), more]
    node.app.notify(printable("\n".join(filter(None, lines))), severity="error", markup=False, timeout=_LONG_S)
