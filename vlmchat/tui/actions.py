"""The one table of what a user can do: bindings, footer, command palette and help all read it.

Keys are only those that a terminal of 1980 sends: Ctrl+I, Ctrl+M and Ctrl+H arrive there as Tab,
Enter and Backspace, and Shift+Enter or Ctrl+Tab not at all, so none of them is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.binding import Binding, BindingType

from vlmchat.tui.text import say

Scope: TypeAlias = Literal["app", "chat", "prompt", "chips", "models", "chats"]
SCOPES: tuple[Scope, ...] = ("prompt", "chat", "chips", "models", "chats", "app")
"""In the order in which the help shows them."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a user can do, wherever it is offered."""

    id: str
    """Its name in the texts and, later, in the user's own key table."""
    key: str
    """As Textual spells it; several with commas between, the first is the one that is shown."""
    method: str
    """The Textual action that does it."""
    scope: Scope
    show: bool = False
    """In the footer."""
    palette: bool = True
    """In the command palette; off for what only makes sense as a key."""
    priority: bool = False
    """Taken before the focused widget sees the key."""

    @property
    def label(self) -> str:
        """The two words of the footer."""
        return say(f"action.{self.id}")

    @property
    def tip(self) -> str:
        """One sentence of what it does."""
        return say(f"action.{self.id}.tip")

    @property
    def keys(self) -> str:
        """The first key as people write it: ``Ctrl+J``, ``Esc``."""
        return shown(self.key.split(",")[0])


ACTIONS: tuple[Action, ...] = (
    Action("send", "enter", "send", "prompt", show=True, palette=False),
    Action("newline", "ctrl+j", "newline", "prompt", palette=False),
    Action("recall", "up", "recall", "prompt", palette=False),
    Action("recall_newer", "down", "recall_newer", "prompt", palette=False),
    Action("page_up", "pageup", "page(-1)", "prompt", palette=False),
    Action("page_down", "pagedown", "page(1)", "prompt", palette=False),
    Action("stop", "escape", "stop", "chat", show=True),
    Action("new_chat", "ctrl+n", "new_chat", "chat", show=True),
    Action("chats", "ctrl+o", "chats", "chat", show=True),
    Action("models", "ctrl+l", "models", "chat", show=True),
    Action("copy", "ctrl+g", "copy_answer", "chat"),
    Action("drop_picture", "f8", "drop_picture", "chat"),
    Action("remove_chip", "backspace,delete,x", "remove", "chips", show=True, palette=False),
    Action("leave_chips", "escape,enter", "leave", "chips", show=True, palette=False),
    Action("use_model", "enter", "choose", "models", show=True, palette=False),
    Action("close", "escape", "close", "models", show=True, palette=False),
    Action("open_chat", "enter", "choose", "chats", show=True, palette=False),
    Action("rename_chat", "ctrl+r", "rename", "chats", show=True, priority=True),
    Action("delete_chat", "ctrl+d", "delete", "chats", show=True, priority=True),
    Action("restore_chat", "ctrl+z", "restore", "chats", show=True, priority=True),
    Action("close", "escape", "close", "chats", show=True, palette=False),
    Action("palette", "ctrl+p", "command_palette", "app", show=True, palette=False, priority=True),
    Action("help", "f1", "help", "app", show=True),
    Action("theme", "ctrl+t", "next_theme", "app"),
    Action("quit", "ctrl+q", "quit", "app", show=True, priority=True),
)

_SHOWN = {
    "escape": "Esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "up": "↑",
    "down": "↓",
    "enter": "Enter",
    "backspace": "Bksp",
}


def bindings(scope: Scope) -> list[BindingType]:
    """Return the key bindings of ``scope`` for a ``BINDINGS`` class variable."""
    return [
        Binding(
            action.key, action.method, action.label, show=action.show, key_display=action.keys,
            priority=action.priority, tooltip=action.tip, id=f"{action.scope}.{action.id}",
        )
        for action in of(scope)
    ]  # fmt: skip


def of(scope: Scope) -> tuple[Action, ...]:
    """Return the actions of ``scope`` in the table's order."""
    return tuple(action for action in ACTIONS if action.scope == scope)


def key_of(identity: str) -> str:
    """Return how the key of action ``identity`` is written, for texts that name it."""
    return next(action.keys for action in ACTIONS if action.id == identity)


def shown(key: str) -> str:
    """Return a key as people write it: ``ctrl+j`` becomes ``Ctrl+J``."""
    *modifiers, last = key.split("+")
    name = _SHOWN.get(last, last.upper() if modifiers else last.title())
    return "+".join([*(part.title() for part in modifiers), name])
