"""How people ask: the phrase files, the little grammar they are written in, and the sloppiness of typing.

In a phrase ``[a|b|]`` chooses one branch (an empty one leaves nothing) and ``{slot}`` is filled by the dialogue. Slots:
``a`` and ``b`` things ("star", "red one"), ``s`` a shape, ``ss`` shapes in the plural, ``one`` one with its article,
``c`` a colour, ``p`` a place, ``n`` a number, ``x`` a thing the demo has never seen.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from vlmchat.demo.dice import Dice

Templates = Mapping[str, tuple[str, ...]]
_CHOICE: Final = re.compile(r"\[([^\[\]]*)\]")


@lru_cache
def phrase_file(name: str) -> Mapping[str, Any]:
    """Return the parsed phrase file ``name`` (without its ending)."""
    text = (resources.files("vlmchat.demo") / "phrases" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def templates(name: str, table: str | None = None) -> Templates:
    """Return the phrases of a file, or of one table in it, by kind and in the order of the file."""
    content = phrase_file(name) if table is None else phrase_file(name)[table]
    return {kind: tuple(phrases) for kind, phrases in content.items()}


FRAMES: Final = templates("frames")["frames"]


def expand(template: str, rng: Dice) -> str:
    """Choose one branch of every ``[a|b]``, innermost first."""
    while match := _CHOICE.search(template):
        branches = match.group(1).split("|")
        template = template[: match.start()] + branches[rng.integers(len(branches))] + template[match.end() :]
    return template


def roughen(question: str, rng: Dice, framed: bool = True) -> str:
    """Write an English question as people type: framed, lower case, without the mark, with a slip of the finger.

    Never in capitals: the tokenizer cuts those into single letters, and this small model misreads most of them.
    """
    if framed and rng.random() < 0.18:
        question = rng.choice(FRAMES).format(q=question)
    if rng.random() < 0.08:
        question = _slip(question, rng)
    if rng.random() < 0.62:
        question = question[:1].upper() + question[1:]
    if rng.random() < 0.3:
        question = question.rstrip("?.。？")
    elif rng.random() < 0.05:
        question += rng.choice(("?", "!", "??", " ?", "..."))
    return question


def roughen_chinese(question: str, rng: Dice) -> str:
    """Write a Chinese question as people type: without the mark, with an ASCII mark, with 请问 in front."""
    if rng.random() < 0.08 and not question.startswith("请"):
        question = rng.choice(("请问", "请告诉我", "你好，")) + question
    draw = rng.random()
    if draw < 0.3:
        return question.rstrip("？。")
    return question.replace("？", "?") if draw < 0.45 else question


def _slip(text: str, rng: Dice) -> str:
    """Swap, drop or double one letter inside a word."""
    places = [at for at in range(1, len(text) - 2) if text[at - 1 : at + 2].isalpha() and text[at].isascii()]
    if not places:
        return text
    at = places[rng.integers(len(places))]
    draw = rng.random()
    if draw < 0.4:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if draw < 0.75 else text[: at + 1] + text[at:]
