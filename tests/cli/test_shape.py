"""How sure the model was of each field: which tokens hold a value."""

from __future__ import annotations

import pytest

from vlmchat.cli.shape import TokenEnds, shape_object
from vlmchat.engine.events import Delta, Finished, Timing, Usage
from vlmchat.engine.schema import read_schema
from vlmchat.errors import SchemaError


def finished(pieces: list[str], probabilities: list[float]) -> tuple[Finished, TokenEnds]:
    tokens = TokenEnds()
    for number, piece in enumerate(pieces):
        tokens.note(Delta(piece, (number,)))
    ids = tuple(range(len(pieces)))
    timing = Timing(0, 0, 0, 0, 0, 0)
    return Finished("stop", "".join(pieces), ids, Usage(1, 0, len(ids)), timing, tuple(probabilities)), tokens


def test_each_field_has_the_product_of_its_tokens() -> None:
    # The third token ends no character: it belongs to what comes next.
    pieces = ['{"', 'a": ', "", "1", '2, "b": ["x", "', 'y"]', "}", ""]
    end, tokens = finished(pieces, [1, 1, 0.5, 0.5, 0.5, 0.25, 1, 1])
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "array"}}}'
    found = shape_object(end, read_schema(schema), tokens)
    assert found["value"] == {"a": 12, "b": ["x", "y"]}
    assert found["probabilities"] == {"a": 0.125, "b[0]": 0.5, "b[1]": 0.125}


@pytest.mark.parametrize(
    ("text", "paths"), [('"red"', ["$"]), ("[]", []), ('{"a": {"b": [{"c": null}]}}', ["a.b[0].c"])]
)
def test_paths(text: str, paths: list[str]) -> None:
    end, tokens = finished([text, ""], [0.5, 1])
    assert list(shape_object(end, "{}", tokens)["probabilities"]) == paths  # type: ignore[call-overload]


def test_an_answer_that_has_not_the_shape() -> None:
    end, tokens = finished(["{"], [1])
    with pytest.raises(SchemaError):
        shape_object(end, "{}", tokens)
