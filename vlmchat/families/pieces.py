"""A prompt as pieces: control tokens, plain text, and stretches of picture features.

Families render messages into pieces instead of one string, so that what a user types is always
plain text: ``<|im_end|>`` typed in a question is ten characters, never the control token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Plain:
    """Text to be tokenized without looking for control tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class Control:
    """One control token by its name, such as ``<|im_end|>``."""

    token: str


@dataclass(frozen=True, slots=True)
class Features:
    """``length`` positions that hold features of picture ``picture`` of the conversation (from 0).

    ``offset`` counts from the first feature of that picture: a family that puts separator tokens
    between tiles uses several stretches for one picture.
    """

    picture: int
    length: int
    offset: int = 0


Piece: TypeAlias = Plain | Control | Features


def merged(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join neighbouring plain texts: a tokenizer must see each stretch between control tokens whole."""
    text = ""
    for piece in pieces:
        if isinstance(piece, Plain):
            text += piece.text
            continue
        if text:
            yield Plain(text)
            text = ""
        yield piece
    if text:
        yield Plain(text)


def as_text(pieces: Sequence[Piece], placeholder: str) -> str:
    """Return the prompt as one string, each feature position written as ``placeholder``."""
    written: list[str] = []
    for piece in pieces:
        if isinstance(piece, Plain):
            written.append(piece.text)
        elif isinstance(piece, Control):
            written.append(piece.token)
        else:
            written.append(placeholder * piece.length)
    return "".join(written)
