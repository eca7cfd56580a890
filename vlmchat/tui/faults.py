"""Errors and other sentences of the rooms below, in the language of the app.

They come in English, as ``ask`` prints them. The Chinese interface says them by ``words/chinese_errors.py``: the same
sentence with the same values in it, which stay what they are, file names and what a library said.
"""

from __future__ import annotations

import re
from functools import cache
from string import Formatter

from vlmchat.errors import VlmchatError
from vlmchat.tui import text

_OURS = ("。", "）", "？")
"""What ends a sentence that is Chinese already."""


def told(error: VlmchatError) -> tuple[str, str]:
    """Return what happened and what to do, as the app says it; the second may be empty."""
    if not text.is_chinese() or error.message.endswith(_OURS):
        return error.message, error.hint
    from vlmchat.tui.words.chinese_errors import KINDS

    kind, remedy = KINDS.get(error.code, KINDS["error"])
    message, hint = _translated(error.message), _translated(error.hint) if error.hint else ""
    return message or f"{kind}（{error.message}）。", remedy if hint is None else hint


def words_of(english: str) -> str:
    """Return a sentence of the rooms below, or of the catalog, as the app says it; English where there is no other."""
    return (_translated(english) if text.is_chinese() else None) or english


def _translated(english: str) -> str | None:
    """Return ``english`` in Chinese, values that are sentences of ours too; None when it is not in the table."""
    for pattern, chinese in _patterns():
        found = pattern.fullmatch(english)
        if found is not None:
            return chinese.format(*(_translated(value) or value for value in found.groups()))
    return None


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return every sentence as a pattern with its Chinese one, the most particular first."""
    from vlmchat.tui.words import chinese_catalog
    from vlmchat.tui.words.chinese_errors import SENTENCES

    made = []
    for english, chinese in (*SENTENCES.items(), *chinese_catalog.SENTENCES.items()):
        parts = [(literal, field is not None) for literal, field, *_ in Formatter().parse(english)]
        pattern = "".join(re.escape(literal) + ("(.*?)" if value else "") for literal, value in parts)
        made.append((sum(len(literal) for literal, _ in parts), re.compile(pattern, re.DOTALL), chinese))
    return tuple((pattern, chinese) for _, pattern, chinese in sorted(made, key=lambda it: -it[0]))
