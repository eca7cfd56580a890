"""The user's own keys: the table ``[keys]`` of ``config.toml``, checked line by line.

``copy = "f11"`` or ``"turn.copy_turn" = ["y", "c"]``: an action's name, with its scope where two have
the same, and a key or several as Textual spells them. A bad line is left out and reported; the rest holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from vlmchat.plaintext import one_line
from vlmchat.tui.actions import ACTIONS, Action, Scope
from vlmchat.tui.text import say

_KEY = re.compile(
    r"ctrl\+[a-z@\\_]|f[1-9]|f1[0-2]|enter|escape|tab|shift\+tab|space|up|down|left|right|home|end|insert|"
    r"backspace|delete|pageup|pagedown|[a-z0-9]"
)
_TWINS = {"ctrl+i": "Tab", "ctrl+m": "Enter", "ctrl+h": "Backspace", "shift+enter": "Enter", "ctrl+tab": "Tab"}
"""What these arrive as in a terminal without a keyboard protocol."""
_TYPING: frozenset[Scope] = frozenset({"app", "chat", "prompt", "models", "chats", "pictures"})
"""Scopes in which letters are typed, so that none can be a command."""
_TOGETHER: tuple[frozenset[Scope], ...] = (
    frozenset({"app", "chat", "prompt"}),
    frozenset({"app", "chat", "turn"}),
    frozenset({"app", "chat", "chips"}),
)
"""Scopes that are in force at once; the others are alone on their screen."""


@dataclass(frozen=True, slots=True)
class Keymap:
    """The lines that can be used, and what is wrong with the others."""

    keys: Mapping[str, str]
    """:attr:`Action.name` -> keys with commas between."""
    problems: tuple[str, ...] = ()


def read_keymap(table: Mapping[str, object]) -> Keymap:
    """Check the user's ``table`` against the table of actions."""
    keys: dict[str, str] = {}
    problems: list[str] = []
    for name, value in table.items():
        try:
            action = _action(name)
            wanted = list(_keys(action, value))
            _require_free(action, wanted, keys)
        except ValueError as problem:
            problems.append(one_line(str(problem)))
            continue
        keys[action.name] = ",".join(wanted)
    return Keymap(keys, tuple(problems))


def _action(name: str) -> Action:
    """Return the action ``name``, with or without its scope.

    Raises:
        ValueError: there is none, or several.
    """
    found = [action for action in ACTIONS if name in {action.id, action.name}]
    if not found:
        names = [known for action in ACTIONS for known in (action.id, action.name)]
        near = get_close_matches(name, names, n=1)
        raise ValueError(say("keys.unknown", name=name) + (say("keys.near", name=near[0]) if near else ""))
    if len(found) > 1:
        raise ValueError(say("keys.ambiguous", name=name, names=", ".join(action.name for action in found)))
    return found[0]


def _keys(action: Action, value: object) -> Iterator[str]:
    """Yield the keys that ``value`` names.

    Raises:
        ValueError: one of them is no key, or none that can be used here.
    """
    for raw in value if isinstance(value, list) else str(value).split(","):
        key = str(raw).strip().lower()
        if key in _TWINS:
            raise ValueError(say("keys.twin", name=action.id, press=key, twin=_TWINS[key]))
        if not _KEY.fullmatch(key):
            raise ValueError(say("keys.no_key", name=action.id, press=key))
        if len(key) == 1 and action.scope in _TYPING:
            raise ValueError(say("keys.letter", name=action.id, press=key))
        yield key


def _require_free(action: Action, wanted: list[str], own: Mapping[str, str]) -> None:
    """Raise ValueError when one of the keys ``wanted`` does something else at the same time."""
    scopes = {action.scope}.union(*(group for group in _TOGETHER if action.scope in group))
    for other in ACTIONS:
        taken = set(own.get(other.name, other.key).split(",")) & set(wanted)
        if taken and other.scope in scopes and other.name != action.name:
            raise ValueError(say("keys.taken", name=action.id, press=sorted(taken)[0], other=other.name))
