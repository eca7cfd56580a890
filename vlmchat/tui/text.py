"""Every sentence the app shows, from one table per language (``words``).

Values are filled in by name. What comes back is plain text: it is shown as it is and never parsed
as markup, whatever a file name or a model put into it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import localtime, strftime

from vlmchat.plaintext import one_line
from vlmchat.settings import Language
from vlmchat.tui.words import english

_table: Mapping[str, str] = english.TABLE


def use(language: Language) -> None:
    """Speak ``language`` from now on; ``auto`` follows the locale, English where it has no table."""
    global _table
    if language == "zh" or (language == "auto" and _locale().startswith("zh")):
        # Late: who reads English does not pay for it.
        from vlmchat.tui.words import chinese

        _table = chinese.TABLE
    else:
        _table = english.TABLE


def is_chinese() -> bool:
    """Say whether the app speaks Chinese."""
    return _table is not english.TABLE


def _locale() -> str:
    """Return the locale of messages: the first variable that is set decides (POSIX, Environment Variables, 8.2)."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    return next((value for name in names if (value := os.environ.get(name))), "").lower()


def say(key: str, **values: object) -> str:
    """Return the sentence called ``key`` with ``values`` filled in; plain text, never markup."""
    return _table[key].format(**values)


def has(key: str) -> bool:
    """Say whether there is a sentence called ``key``."""
    return key in _table


def many(key: str, count: int, **values: object) -> str:
    """Return the sentence called ``key`` about ``count`` things; of a single one ``key.one``, where there is such."""
    single = f"{key}.one"
    return say(single if count == 1 and single in _table else key, count=count, **values)


def seconds(value: float) -> str:
    """Return a duration as short as it can be read: ``340 ms``, ``1.2 s``, ``75 s``."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value:.0f} s"


def size(count: int) -> str:
    """Return a number of bytes in decimal units, three digits at most: ``9.8 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 99.5 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def model_name(name: str) -> str:
    """Return a model as a narrow place can show it: a folder by its last part, a catalog name whole."""
    return one_line(name.rstrip("/").rsplit("/", 1)[-1] if name.startswith("/") else name)


def shorten(text: str, length: int) -> str:
    """Return ``text``, its end left out when it is longer than ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def ago(then: float, now: float) -> str:
    """Return how long ago ``then`` was, or its date when that is more than a day."""
    passed = max(0.0, now - then)
    if passed < 60:
        return say("time.now")
    if passed < 3600:
        return say("time.minutes", count=int(passed // 60))
    if passed < 86400:
        return say("time.hours", count=int(passed // 3600))
    if passed < 2 * 86400:
        return say("time.yesterday")
    return strftime("%Y-%m-%d", localtime(then))
