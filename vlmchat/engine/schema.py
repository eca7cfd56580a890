"""What shape an answer must have: a JSON Schema, as JSON, as a file, or in a short form. No torch here.

The short form names the fields of one object: ``total float, date, vendor``. Behind a name may stand a type
(``str`` where there is none, ``int``, ``float``, ``bool``, ``date``; ``[]`` makes it a list) and, behind a colon, what
is meant. Fields are parted by commas, or by lines where a comma stands in a description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vlmchat.errors import InputError, SchemaError, UsageError
from vlmchat.paths import user_path

_TYPES: Mapping[str, Mapping[str, str]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
}
_FIELD = re.compile(r"(?P<name>\w+)(?:\s+(?P<type>\w+)(?P<many>\[\])?)?\s*(?::\s*(?P<meant>.+))?", re.DOTALL)
_SHOWN = 300


def read_schema(source: str) -> str:
    """Return the JSON Schema that ``source`` gives, as JSON.

    Args:
        source: a JSON object, the path of a file that holds one, or the short form.

    Raises:
        InputError: the file cannot be read.
        UsageError: it is no schema, or one that cannot be held while an answer is written.
    """
    text = source.strip()
    if not text.startswith("{"):
        text = _file_text(source) or json.dumps(_from_short(source), ensure_ascii=False)
    try:
        schema = json.loads(text)
    except ValueError as problem:
        raise UsageError(f"The schema is not JSON: {problem}.", "Check it, or use the short form.") from problem
    if not isinstance(schema, dict):
        raise UsageError("The schema is no JSON object.", 'Write {"type": "object", …}, or use the short form.')
    _check(schema)
    return json.dumps(schema, ensure_ascii=False)


@lru_cache(maxsize=8)
def grammar_of(schema: str) -> str:
    """Return what llguidance holds an answer to.

    Raises:
        UsageError: the schema cannot be held.
    """
    # Late: 70 CPU-milliseconds that only a schema has to pay.
    from llguidance import LLMatcher

    # As json.dumps writes: with blanks left to the model, a small one may write nothing else.
    grammar = LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    )
    if flaw := LLMatcher.validate_grammar(grammar):
        raise UsageError(f"The schema cannot be held: {' '.join(flaw.split())[:_SHOWN]}.", "Leave that part of it out.")
    return grammar


def value_of(text: str, schema: str) -> Any:
    """Return what the answer ``text`` says.

    Raises:
        SchemaError: it is not JSON, or not of this shape.
    """
    from jsonschema import ValidationError
    from jsonschema.validators import validator_for

    rules = json.loads(schema)
    try:
        value = json.loads(text)
        validator_for(rules)(rules).validate(value)
    except ValueError as problem:
        raise SchemaError(
            "The answer ended before it had the shape of the schema.", "Raise --max-new-tokens, or ask for less."
        ) from problem
    except ValidationError as problem:
        raise SchemaError(
            f"The answer does not keep to the schema: {problem.message[:_SHOWN]}.", "Change the schema or the question."
        ) from problem
    return value


def _check(schema: dict[str, Any]) -> None:
    """Refuse what is no schema, in the words of the standard, then what no answer can be held to."""
    from jsonschema import SchemaError as Flaw
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except Flaw as problem:
        raise UsageError(f"The schema is no JSON Schema: {problem.message[:_SHOWN]}.", "Mend that part.") from problem
    grammar_of(json.dumps(schema, ensure_ascii=False))


def _file_text(source: str) -> str:
    """Return what the file ``source`` holds; nothing when there is no such file."""
    path = user_path(source)
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} cannot be read: {problem}.", "Check the file.") from problem


def _from_short(source: str) -> dict[str, object]:
    properties: dict[str, object] = {}
    for words in source.split("\n" if "\n" in source.strip() else ","):
        if not words.strip():
            continue
        found = _FIELD.fullmatch(words.strip())
        if found is None or (found["type"] or "str") not in _TYPES:
            raise UsageError(
                f"{words.strip()!r} is no field of a schema, and {source!r} is no file.",
                f"Write fields as: total float, date, vendor. Types are {', '.join(_TYPES)}.",
            )
        one = dict(_TYPES[found["type"] or "str"])
        field: dict[str, object] = {"type": "array", "items": one} if found["many"] else {**one}
        properties[found["name"]] = {**field, "description": found["meant"]} if found["meant"] else field
    if not properties:
        raise UsageError("The schema names no field.", "Write fields as: total float, date, vendor.")
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
