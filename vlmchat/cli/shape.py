"""An answer that was held to a schema: its value, and how sure the model was of each field."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from vlmchat.engine.events import Delta, Finished
from vlmchat.engine.schema import value_of

_DECODER = json.JSONDecoder()


@dataclass
class TokenEnds:
    """Where each token of an answer ends in its text; a token that ends no character ends with the next one."""

    ends: list[int] = field(default_factory=list)
    _said: int = 0
    _held: int = 0

    def note(self, event: object) -> None:
        """Take in an event of the answer."""
        if isinstance(event, Delta):
            self._held += len(event.token_ids)
            if event.text:
                self._said += len(event.text)
                self.ends += [self._said] * self._held
                self._held = 0


def shape_object(finished: Finished, schema: str, tokens: TokenEnds) -> dict[str, object]:
    """Return what ``--json`` says of the shape: ``value``, and ``probabilities`` by the path of each field.

    A field's probability is the product over the tokens that hold its value, each among those the schema
    allowed there.

    Raises:
        SchemaError: the answer has not the shape.
    """
    value = value_of(finished.text, schema)
    sure = {path: _probability(finished, tokens.ends, *span) for path, *span in _fields(finished.text)}
    return {"value": value, "probabilities": sure}


def _probability(finished: Finished, ends: Sequence[int], start: int, end: int) -> float:
    first = bisect_right(ends, start)
    last = next((at for at in range(first, len(ends)) if ends[at] >= end), len(ends) - 1)
    return round(prod(finished.probabilities[first : last + 1]), 6)


def _fields(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (path, start, end) of each value that holds no others; the path of a bare value is ``$``."""
    yield from _walk(text, _next(text, 0), "")


def _walk(text: str, at: int, path: str) -> Iterator[tuple[str, int, int]]:
    if text[at] not in "{[":
        yield path or "$", at, _end_of(text, at)
        return
    closing, number = ("}" if text[at] == "{" else "]"), 0
    at = _next(text, at + 1)
    while text[at] != closing:
        if closing == "}":
            name, colon = _DECODER.raw_decode(text, at)
            inner, at = f"{path}.{name}" if path else str(name), _next(text, _next(text, colon) + 1)
        else:
            inner = f"{path}[{number}]"
        yield from _walk(text, at, inner)
        at, number = _next(text, _end_of(text, at)), number + 1
        at = _next(text, at + 1) if text[at] == "," else at


def _end_of(text: str, at: int) -> int:
    return int(_DECODER.raw_decode(text, at)[1])


def _next(text: str, at: int) -> int:
    """Return the place of the next character that is no blank."""
    while text[at].isspace():
        at += 1
    return at
