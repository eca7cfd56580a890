"""The one table of what a user can do: bindings, footer, command palette and help all read it.

Keys are only those that a terminal of 1980 sends: Ctrl+I, Ctrl+M and Ctrl+H arrive there as Tab,
Enter and Backspace, and Shift+Enter or Ctrl+Tab not at all, so none of them is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.actions import parse
from textual.binding import Binding, BindingType

from vlmchat.tui.text import say

Scope: TypeAlias = Literal[
    "app", "chat", "prompt", "turn", "chips", "pictures", "tiles", "crop", "models", "plan", "downloads", "chats",
]  # fmt: skip
SCOPES: tuple[Scope, ...] = (
    "prompt", "chat", "turn", "chips", "pictures", "tiles", "crop", "models", "plan", "downloads",
    "chats", "app",
)  # fmt: skip
"""In the order in which the help shows them."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a user can do, wherever it is offered."""

    id: str
    """Its name in the texts and in the user's own key table."""
    key: str
    """As Textual spells it; several with commas between, the first is the one that is shown. Empty: only a command."""
    method: str
    """The Textual action that does it."""
    scope: Scope
    show: bool = False
    """In the footer."""
    palette: bool = True
    """In the command palette; off for what only makes sense as a key."""
    priority: bool = False
    """Taken before the focused widget sees the key."""
    slash: str = ""
    """Its name as a command that is typed, without the slash; several with commas between."""

    @property
    def name(self) -> str:
        """Its name in the table ``[keys]`` of ``config.toml``: the scope tells namesakes apart."""
        return f"{self.scope}.{self.id}"

    @property
    def bound(self) -> str:
        """The keys in force: the user's own, or :attr:`key`."""
        return _own.get(self.name, self.key)

    @property
    def commands(self) -> tuple[str, ...]:
        """What can be typed in the box to do it, with the slash."""
        return tuple(f"/{name}" for name in self.slash.split(",") if name)

    @property
    def call(self) -> tuple[str, tuple[object, ...]]:
        """Its method and what that is called with."""
        _, name, parameters = parse(self.method)
        return name, parameters

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
        return shown(self.bound.split(",")[0]) if self.bound else self.commands[0]


ACTIONS: tuple[Action, ...] = (
    Action("send", "enter", "send", "prompt", show=True, palette=False),
    Action("newline", "ctrl+j", "newline", "prompt", palette=False),
    Action("recall", "up", "recall", "prompt", palette=False),
    Action("recall_newer", "down", "recall_newer", "prompt", palette=False),
    Action("paste", "ctrl+v", "paste_clipboard", "prompt", palette=False),
    Action("page_up", "pageup", "page(-1)", "prompt", palette=False),
    Action("page_down", "pagedown", "page(1)", "prompt", palette=False),
    Action("stop", "escape", "stop", "chat", show=True),
    Action("new_chat", "ctrl+n", "new_chat", "chat", show=True, slash="clear,new"),
    Action("chats", "ctrl+o", "chats", "chat", show=True, slash="chats,search"),
    Action("models", "ctrl+l", "models", "chat", show=True, slash="model,models"),
    Action("downloads", "f10", "downloads", "chat", slash="downloads"),
    Action("use_download", "", "use_download", "chat", slash="use"),
    Action("settings", "f9", "settings", "chat", slash="settings,system"),
    Action("regenerate", "f5", "regenerate", "chat", slash="regenerate,retry"),
    Action("continue", "ctrl+r", "continue", "chat", slash="continue"),
    Action("turns", "f7", "turns", "chat", priority=True),
    Action("jump", "f12", "jump", "chat"),
    Action("copy", "ctrl+g", "copy_answer", "chat", slash="copy"),
    Action("undo", "", "undo", "chat", slash="undo"),
    Action("temporary", "", "temporary", "chat", slash="temporary,temp"),
    Action("fork", "", "fork", "chat", slash="fork"),
    Action("rename", "", "rename", "chat", slash="title,rename"),
    Action("export", "", "export", "chat", slash="export"),
    Action("archive", "", "archive", "chat", slash="archive"),
    Action("delete", "", "delete_chat", "chat", slash="delete"),
    Action("attach", "f2", "attach", "chat", show=True),
    Action("view", "f3", "view", "chat"),
    Action("crop", "f4", "crop", "chat"),
    Action("previews", "f6", "previews", "chat", priority=True),
    Action("drop_picture", "f8", "drop_picture", "chat"),
    Action("edit_turn", "e", "deed('edit')", "turn", show=True, palette=False),
    Action("regenerate_turn", "r", "deed('regenerate')", "turn", show=True, palette=False),
    Action("continue_turn", "c", "deed('continue')", "turn", show=True, palette=False),
    Action("copy_turn", "y", "deed('copy')", "turn", show=True, palette=False),
    Action("copy_code", "b", "deed('code')", "turn", show=True, palette=False),
    Action("next_version", "right", "deed('version 1')", "turn", show=True, palette=False),
    Action("previous_version", "left", "deed('version -1')", "turn", palette=False),
    Action("fork_turn", "f", "deed('fork')", "turn", show=True, palette=False),
    Action("explain_turn", "i", "deed('info')", "turn", show=True, palette=False),
    Action("delete_turn", "delete,backspace", "deed('delete')", "turn", show=True, palette=False),
    Action("undo_turn", "ctrl+z", "deed('undo')", "turn", palette=False),
    Action("up_turn", "up,k", "deed('move -1')", "turn", palette=False),
    Action("down_turn", "down,j", "deed('move 1')", "turn", palette=False),
    Action("leave_turn", "escape,enter", "deed('leave')", "turn", show=True, palette=False),
    Action("view_chip", "v", "view", "chips", show=True, palette=False),
    Action("crop_chip", "c", "crop", "chips", show=True, palette=False),
    Action("remove_chip", "backspace,delete,x", "remove", "chips", show=True, palette=False),
    Action("leave_chips", "escape,enter", "leave", "chips", show=True, palette=False),
    Action("attach_picture", "enter", "choose", "pictures", show=True, palette=False),
    Action("close", "escape", "close", "pictures", show=True, palette=False),
    Action("next_picture", "right", "leaf(1)", "tiles", show=True, palette=False),
    Action("previous_picture", "left", "leaf(-1)", "tiles", palette=False),
    Action("tiles_down", "down,pagedown", "scroll(1)", "tiles", palette=False),
    Action("tiles_up", "up,pageup", "scroll(-1)", "tiles", palette=False),
    Action("crop_seen", "c", "crop", "tiles", show=True),
    Action("close", "escape,f3,enter", "close", "tiles", show=True, palette=False),
    Action("take_crop", "enter", "take", "crop", show=True, palette=False),
    Action("crop_left", "left", "move(-1,0)", "crop", palette=False),
    Action("crop_right", "right", "move(1,0)", "crop", palette=False),
    Action("crop_up", "up", "move(0,-1)", "crop", palette=False),
    Action("crop_down", "down", "move(0,1)", "crop", palette=False),
    Action("crop_wider", "d", "stretch(1,0)", "crop", show=True, palette=False),
    Action("crop_narrower", "a", "stretch(-1,0)", "crop", show=True, palette=False),
    Action("crop_higher", "s", "stretch(0,1)", "crop", show=True, palette=False),
    Action("crop_lower", "w", "stretch(0,-1)", "crop", show=True, palette=False),
    Action("crop_fine", "f", "fine", "crop", show=True),
    Action("close", "escape,f4", "close", "crop", show=True, palette=False),
    Action("use_model", "enter", "choose", "models", show=True, palette=False),
    Action("sort_models", "f5", "sort", "models", show=True),
    Action("explain_model", "f3", "explain", "models", show=True),
    Action("close", "escape", "close", "models", show=True, palette=False),
    Action("agree", "enter", "agree", "plan", show=True, palette=False),
    Action("read_licence", "o", "read", "plan", show=True, palette=False),
    Action("close", "escape", "close", "plan", show=True, palette=False),
    Action("use_downloaded", "enter", "use", "downloads", show=True, palette=False),
    Action("toggle_download", "p", "pause", "downloads", show=True, palette=False),
    Action("switch_hub", "s", "switch", "downloads", show=True, palette=False),
    Action("cancel_download", "x,delete", "cancel", "downloads", show=True, palette=False),
    Action("close", "escape,f10", "close", "downloads", show=True, palette=False),
    Action("open_chat", "enter", "choose", "chats", show=True, palette=False),
    Action("rename_chat", "ctrl+r", "rename", "chats", show=True, priority=True),
    Action("archive_chat", "f5", "archive", "chats", show=True, priority=True),
    Action("show_archived", "f6", "show_archived", "chats", show=True, priority=True),
    Action("export_chat", "f7", "export", "chats", show=True, priority=True),
    Action("delete_chat", "ctrl+d", "delete", "chats", show=True, priority=True),
    Action("restore_chat", "ctrl+z", "restore", "chats", show=True, priority=True),
    Action("close", "escape", "close", "chats", show=True, palette=False),
    Action("palette", "ctrl+p", "command_palette", "app", show=True, palette=False, priority=True),
    Action("help", "f1", "help", "app", show=True, slash="help"),
    Action("theme", "ctrl+t", "next_theme", "app", slash="theme"),
    Action("quit", "ctrl+q", "quit", "app", show=True, priority=True, slash="quit,exit"),
)

_own: dict[str, str] = {}
"""The user's own keys by :attr:`Action.name`, as checked by ``keymap``."""
_SHOWN = {
    "escape": "Esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "up": "↑",
    "down": "↓",
    "enter": "Enter",
    "left": "←",
    "right": "→",
    "delete": "Del",
    "backspace": "Bksp",
}


def rebind(own: Mapping[str, str]) -> None:
    """Put the user's ``own`` keys in force, by :attr:`Action.name`; to be checked before."""
    _own.clear()
    _own.update(own)


def bindings(scope: Scope) -> list[BindingType]:
    """Return the key bindings of ``scope`` for a ``BINDINGS`` class variable."""
    return [
        Binding(
            action.key, action.method, action.label, show=action.show, key_display=action.keys,
            priority=action.priority, tooltip=action.tip, id=action.name,
        )
        for action in of(scope)
        if action.key
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
