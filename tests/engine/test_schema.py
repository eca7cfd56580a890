"""Shapes of answers: how they are written, what is refused, and that no answer leaves one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import validate

from vlmchat.chat.shelf import demo_folder
from vlmchat.conversation import assistant, user
from vlmchat.engine.api import Request
from vlmchat.engine.constrain import Constraint, Vocabulary
from vlmchat.engine.events import Finished
from vlmchat.engine.schema import read_schema, value_of
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.errors import InputError, SchemaError, UsageError
from vlmchat.families.registry import open_checkpoint
from vlmchat.options import LoadOptions, Sampling

REFERENCE = Path(__file__).parent.parent / "reference"
CHECKPOINTS = [
    "internvl2/internlm2-vit300m", "internvl2/llama3-vit6b", "internvl2/phi3-vit300m", "internvl2/qwen2-vit300m",
    "internvl2/yi-vit6b", "cogvlm2/cogvlm2-image",
]  # fmt: skip


def properties(source: str) -> Any:
    return json.loads(read_schema(source))["properties"]


def test_the_short_form() -> None:
    schema = json.loads(read_schema("total float, date, items str[], when date, paid bool"))
    assert schema["properties"] == {
        "total": {"type": "number"},
        "date": {"type": "string"},
        "items": {"type": "array", "items": {"type": "string"}},
        "when": {"type": "string", "format": "date"},
        "paid": {"type": "boolean"},
    }
    assert (schema["required"], schema["additionalProperties"]) == ([*schema["properties"]], False)
    assert properties("n int: how many, all in all\nname")["n"] == {
        "type": "integer",
        "description": "how many, all in all",
    }
    assert properties("合计 float") == {"合计": {"type": "number"}}


def test_json_and_files(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    path = tmp_path / "a schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    assert json.loads(read_schema(f" {json.dumps(schema)} ")) == json.loads(read_schema(str(path))) == schema
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_schema(str(path))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('{"type": ', "is not JSON"),
        ('{"type": "objekt"}', "is no JSON Schema"),
        ('{"type": "string", "pattern": "(?=x)"}', "cannot be held: regex parse error"),
        ('{"not": {"type": "string"}}', "cannot be held: Unimplemented keys"),
        ('{"allOf": [{"type": "string"}, {"type": "number"}]}', "cannot be held: Unsatisfiable"),
        ('{"$ref": "http://127.0.0.1/x"}', "cannot be held"),
        ("total euro", "'total euro' is no field of a schema, and 'total euro' is no file"),
        ("missing/schema.json", "is no file"),
        (" , ,", "names no field"),
        ("", "names no field"),
    ],
)
def test_what_is_no_schema(source: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_schema(source)
    assert says in refused.value.message
    assert refused.value.hint


def test_answers_are_checked() -> None:
    schema = read_schema("n int")
    assert value_of('{"n": 3}', schema) == {"n": 3}
    with pytest.raises(SchemaError, match="ended before"):
        value_of('{"n": ', schema)
    with pytest.raises(SchemaError, match="does not keep to the schema: 'x' is not of type 'integer'"):
        value_of('{"n": "x"}', schema)


SCHEMAS: Mapping[str, str] = {
    "fields": "total float, n int, paid bool",
    "choice": '{"enum": ["red", "green", "light blue", "Ä 中"]}',
    "list": '{"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 4}',
    "text": '{"type": "object", "properties": {"s": {"type": "string", "maxLength": 12}}, "required": ["s"]}',
    "date": '{"type": "object", "properties": {"d": {"type": "string", "format": "date"}}, "required": ["d"]}',
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_whatever_is_drawn_keeps_to_the_schema(name: str) -> None:
    """Random scores in place of a model's: every answer that ends is valid, with every kind of tokenizer."""
    checkpoint = open_checkpoint(REFERENCE / name / "checkpoint")
    vocabulary = Vocabulary(checkpoint.tokenizer, checkpoint.stop_ids)
    dice = torch.Generator().manual_seed(1)
    ended = 0
    for at in range(30):
        schema = read_schema(random.Random(at).choice([*SCHEMAS.values()]))
        constraint = Constraint(vocabulary, schema)
        decoder, text = checkpoint.tokenizer.decoder(), ""
        for _ in range(120):
            # More places than the tokenizer has ids: checkpoints pad their vocabulary.
            scores = constraint.allowed(torch.rand(vocabulary.native.vocab_size + 7, generator=dice))
            token = int(scores.argmax())
            assert scores[token] > float("-inf")
            if token in checkpoint.stop_ids:
                validate(value_of(text + decoder.finish(), schema), json.loads(schema))
                ended += 1
                break
            constraint.take(token)
            text += decoder.push(token)
    assert ended > 10


@pytest.fixture(scope="module")
def demo() -> Iterator[TorchEngine]:
    engine = TorchEngine()
    for _ in engine.load(demo_folder(), LoadOptions(dtype="float32")):
        pass
    yield engine
    engine.close()


def asked(schema: str | None, question: str = "What is this?", **sampling: Any) -> Request:
    chosen = None if schema is None else read_schema(schema)
    return Request((user(question),), Sampling(max_new_tokens=60, **sampling), schema=chosen)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 3}, {"repetition_penalty": 1.2}])
def test_a_model_is_held_to_a_schema(demo: TorchEngine, sampling: Mapping[str, Any]) -> None:
    properties = '"properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]'
    schema = '{"type": "object", ' + properties + ', "additionalProperties": false}'
    *_, finished = demo.generate(asked(schema, **sampling))
    assert isinstance(finished, Finished)
    assert finished.reason == "stop"
    assert value_of(finished.text, schema)["colour"] in {"red", "blue"}
    assert len(finished.probabilities) == len(finished.token_ids)
    assert all(0 < probability <= 1 for probability in finished.probabilities)


def test_free_and_held_answers_share_a_batch(demo: TorchEngine) -> None:
    """Each row as if it were alone; and a schema that no answer can end in time ends at its longest."""
    endless = '{"type": "array", "items": {"const": "again and again"}, "minItems": 50}'
    requests = [asked(None), asked("n int"), asked('{"enum": ["yes"]}'), asked(endless), asked(None, "Count.")]
    alone = [[*demo.generate(request)][-1] for request in requests]
    together = {number: event for number, event in demo.generate_many(requests, 3) if isinstance(event, Finished)}
    for number, single in enumerate(alone):
        assert isinstance(single, Finished)
        assert together[number].token_ids == single.token_ids
    assert together[0].probabilities == ()
    assert (together[2].text, together[3].reason) == ('"yes"', "length")
    with pytest.raises(SchemaError):
        value_of(together[3].text, read_schema(endless))


def test_an_answer_to_be_continued_is_not_held(demo: TorchEngine) -> None:
    request = Request((user("Hi"), assistant("I am")), schema=read_schema("n int"))
    with pytest.raises(InputError, match="cannot be held to a schema"):
        next(demo.generate(request))
