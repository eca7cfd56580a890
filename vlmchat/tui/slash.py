"""Typed commands: ``/clear``, ``/model internvl2:1b``. They are the actions of the one table, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from vlmchat.tui.actions import ACTIONS, Action

_COMMAND = re.compile(r"/([a-z][a-z_-]*)(?:\s+(\S.*))?\s*", re.DOTALL)
COMMANDS: Mapping[str, Action] = {command: action for action in ACTIONS for command in action.commands}
"""Every command with the action it does."""
_TAKES_MORE = {"models", "settings", "export", "rename", "theme", "chats"}
"""Actions that take what stands behind the command."""


@dataclass(frozen=True, slots=True)
class Command:
    """A text that is a command: of an action, or of none there is."""

    action: Action | None
    argument: str = ""
    nearest: str = ""
    """The command most like the one that there is not."""


def read_command(text: str) -> Command | None:
    """Return the command that ``text`` is; None when it is a question, or names a file."""
    match = _COMMAND.fullmatch(text.strip())
    if match is None:
        return None
    name, argument = f"/{match[1]}", match[2] or ""
    action = COMMANDS.get(name)
    if action is not None and (not argument or action.id in _TAKES_MORE):
        return Command(action, argument)
    if action is not None or argument or Path(name).exists():
        return None
    near = get_close_matches(name, COMMANDS, n=1)
    return Command(None, nearest=near[0] if near else "/help")


def completions(text: str) -> tuple[str, ...]:
    """Return the commands that begin with ``text``; empty when it is no beginning of one."""
    return tuple(name for name in COMMANDS if name.startswith(text)) if re.fullmatch(r"/[a-z_-]*", text) else ()
