"""Text into the clipboard: through the terminal (OSC 52), and with the tools of the desktop where there are any."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

from textual.dom import DOMNode

from vlmchat.plaintext import printable
from vlmchat.tui.telling import tell

_PATIENCE_S = 2.0
"""A clipboard tool that takes longer hangs."""
_TOOLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("TMUX", ("tmux", "load-buffer", "-w", "-")),
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("", ("pbcopy",)),
    ("", ("clip.exe",)),
)
"""Variable that has to be set for a tool to have somewhere to put text, and its command."""


async def copy(node: DOMNode, text: str, told: str, **values: object) -> None:
    """Put ``text`` into the clipboard and say the text called ``told``."""
    clean = printable(text)
    node.app.copy_to_clipboard(clean)
    await asyncio.to_thread(hand_over, clean)
    tell(node, told, **values)


def hand_over(text: str) -> None:
    """Give ``text`` to the tools that are here; for a thread.

    The terminal has had it already (OSC 52), which a tool cannot take back: one that fails is let go.
    """
    for variable, command in _TOOLS:
        if (variable and not os.environ.get(variable)) or shutil.which(command[0]) is None:
            continue
        try:
            subprocess.run(command, input=text.encode(), timeout=_PATIENCE_S, check=False, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
