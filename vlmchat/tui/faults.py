"""Errors and other sentences of the rooms below, in the language of the app.

They come in English, as ``ask`` prints them. What they say of the shell's options ``words/english_errors.py`` says
of the app's keys. The Chinese interface says them by ``words/chinese_errors.py``: the same sentence with the same
values in it, which stay what they are, file names and what a library said.
"""

from __future__ import annotations

import re
from functools import cache
from string import Formatter

from vlmchat.errors import VlmchatError
from vlmchat.tui import text
from vlmchat.tui.actions import key_of

_OURS = ("。", "）", "？")
"""What ends a sentence that is Chinese already."""
_NAMED = ("chats", "downloads", "models", "new_chat", "settings", "switch_hub", "temporary")
"""Actions whose keys stand in sentences."""


def told(error: VlmchatError) -> tuple[str, str]:
    """Return what happened and what to do, as the app says it; the second may be empty."""
    if not text.is_chinese() or error.message.endswith(_OURS):
        return words_of(error.message), words_of(error.hint)
    from vlmchat.tui.words.chinese_errors import KINDS

    kind, remedy = KINDS.get(error.code, KINDS["error"])
    message, hint = _translated(error.message), _translated(error.hint) if error.hint else ""
    return message or f"{kind}（{error.message}）。", remedy if hint is None else hint


def words_of(english: str) -> str:
    """Return a sentence of the rooms below, or of the catalog, as the app says it; itself where there is no other."""
    return _translated(english) or english


def _translated(english: str) -> str | None:
    """Return ``english`` as the app says it, values that are sentences too; None when it is not in the table."""
    for pattern, ours in _patterns(text.is_chinese()):
        found = pattern.fullmatch(english)
        if found is not None:
            return ours.format(*(_translated(value) or value for value in found.groups()), **_keys())
    return None


def _keys() -> dict[str, str]:
    """Return the keys in force by the actions that sentences name."""
    return {name: key_of(name) for name in _NAMED}


@cache
def _patterns(chinese: bool) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return every sentence as a pattern with the one to say, the most particular first."""
    from vlmchat.tui.words import chinese_catalog, chinese_errors, english_errors

    sentences = {**chinese_errors.SENTENCES, **chinese_catalog.SENTENCES} if chinese else english_errors.SENTENCES
    made = []
    for english, ours in sentences.items():
        parts = [(literal, field is not None) for literal, field, *_ in Formatter().parse(english)]
        pattern = "".join(re.escape(literal) + ("(.*?)" if value else "") for literal, value in parts)
        made.append((sum(len(literal) for literal, _ in parts), re.compile(pattern, re.DOTALL), ours))
    return tuple((pattern, ours) for _, pattern, ours in sorted(made, key=lambda it: -it[0]))
