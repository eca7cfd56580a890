"""``vlmchat`` without a command: opens the app."""

from __future__ import annotations

import sys

from vlmchat.errors import ExitCode, UsageError
from vlmchat.settings import Settings


def open_app(settings: Settings) -> ExitCode:
    """Run the full-screen app until the user leaves it.

    Raises:
        UsageError: there is no terminal to draw on.
    """
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()):
        raise UsageError(
            "The app needs a terminal for input and output.",
            "In scripts use `vlmchat ask` or `vlmchat pipe`; `vlmchat --help` lists all commands.",
        )
    # Late: Textual costs 0.2 CPU-seconds, and only this command draws.
    from vlmchat.tui.app import run

    return ExitCode(run(settings))
