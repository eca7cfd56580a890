"""The picture in the system's clipboard, fetched with what the system has for it.

A terminal hands over text only. On macOS and Windows Pillow reads the clipboard; on Linux the tools of
the desktop do, ``wl-paste`` or ``xclip``, each given a few seconds: they wait for the program that owns
the clipboard, which may hang.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError
from vlmchat.tui.text import say

_PATIENCE_S = 5.0
_TOOLS: tuple[tuple[str, ...], ...] = (
    ("wl-paste", "--type", "image/png"),
    ("xclip", "-selection", "clipboard", "-target", "image/png", "-out"),
    ("pngpaste", "-"),
)
"""Each writes a PNG to its output, or nothing."""
NAME = "clipboard.png"


def clipboard_picture() -> Picture:
    """Return the picture in the clipboard, checked like a file; for a thread.

    Raises:
        ImageError: there is none, nothing here can read it, or it is damaged.
    """
    # Late: Pillow costs 30 ms of CPU that no first frame shall wait for.
    from vlmchat.media.image import read_picture

    tools = [tool for tool in _TOOLS if shutil.which(tool[0])]
    for tool in tools:
        data = _output(tool)
        if data:
            return read_picture(data, NAME)
    data = _grabbed() if sys.platform in {"darwin", "win32"} else b""
    if data:
        return read_picture(data, NAME)
    if not tools and sys.platform not in {"darwin", "win32"}:
        raise ImageError(say("clipboard.no_tool"), say("clipboard.no_tool.hint"))
    raise ImageError(say("clipboard.empty"), say("clipboard.empty.hint"))


def _output(tool: tuple[str, ...]) -> bytes:
    try:
        done = subprocess.run(
            tool, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _grabbed() -> bytes:
    """Return what Pillow finds there as a PNG, empty when it is no picture."""
    from PIL import Image, ImageGrab

    found = ImageGrab.grabclipboard()
    if not isinstance(found, Image.Image):
        return b""
    packed = io.BytesIO()
    found.save(packed, "PNG", compress_level=1)
    return packed.getvalue()
