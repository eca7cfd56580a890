"""An answer that is held to a schema keeps to it in every family, whatever the weights would rather say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import validate

from tests.cli.harness import call
from tests.families.generic_cases import TINY, Tiny, write
from tests.reference_cases import REFERENCE
from vlmchat.cli.shape import TokenEnds, shape_object
from vlmchat.conversation import Text, user
from vlmchat.engine.api import Request
from vlmchat.engine.arrivals import Listed
from vlmchat.engine.events import Finished
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import load_now
from vlmchat.engine.reference import read_cases
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions, Sampling, VisionOptions

FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/*/cases.json") if (path.parent / "checkpoint").exists())
EXAMPLE = Path(__file__).parents[2] / "screenshots" / "example.png"
FIELDS = {
    "colour": {"enum": ["red", "light blue", "Ä 中"]},
    "count": {"type": "integer", "minimum": 0, "maximum": 99},
    "found": {"type": "boolean"},
    "marks": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 2},
    "word": {"type": "string", "maxLength": 4},
}
SCHEMA = json.dumps(
    {"type": "object", "properties": FIELDS, "required": [*FIELDS], "additionalProperties": False}, ensure_ascii=False
)
"""Nothing in it can go on for ever, so that weights that mean nothing come to an end."""
PATHS = {"colour", "count", "found", "marks[0]", "marks[1]", "word"}


def hold(runner: Runner, request: Request) -> None:
    """Ask in the likeliest words and in wild ones, together, and look at every field of each answer."""
    samplings = [Sampling(max_new_tokens=160, temperature=heat, seed=7) for heat in (0, 1.5)]
    requests = [Request(request.messages, sampling, request.vision, SCHEMA) for sampling in samplings]
    tokens, ended = [TokenEnds() for _ in requests], 0
    for number, event in runner.answer_many(Listed(requests), 2, lambda: False):
        tokens[number].note(event)
        if isinstance(event, Finished):
            ended += 1
            assert event.reason == "stop", event.text
            shape = shape_object(event, SCHEMA, tokens[number])
            validate(shape["value"], json.loads(SCHEMA))
            sure = shape["probabilities"]
            assert isinstance(sure, dict) and set(sure) == PATHS
            assert all(0 <= probability <= 1 for probability in sure.values())
            assert max(sure.values()) > 0, "rounded to zero only where a word is long and unlikely"
    assert ended == 2


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_of_a_fixture(folder: Path) -> None:
    """The families with original checkpoints, plain and packed (AWQ, GPTQ, int4); with the pictures of a case."""
    runner = Runner(load_now(folder / "checkpoint", LoadOptions(dtype="float32")))
    cases = [case.request() for case in read_cases(folder)]
    with_media = (case for case in cases if not isinstance(case.messages[-1].parts[0], Text))
    hold(runner, next(with_media, cases[0]))


@pytest.mark.parametrize("tiny", TINY, ids=lambda tiny: tiny.kind)
def test_of_the_generic_family(tiny: Tiny, tmp_path: Path) -> None:
    write(tiny, tmp_path / "model")
    runner = Runner(load_now(tmp_path / "model", LoadOptions(dtype="float32")))
    hold(runner, Request((user("What is it?", read_picture(EXAMPLE)),), vision=VisionOptions(max_tiles=1)))


def test_what_the_command_says_of_each_field() -> None:
    folder = REFERENCE / "ovis2" / "ovis2_tied" / "checkpoint"
    asked = ("ask", "-m", str(folder), "--device", "cpu", "-i", str(EXAMPLE), "--max-tiles", "1", "--no-save")
    answer = call(*asked, "--schema", SCHEMA, "--max-new-tokens", "160", "--json", "What is it?")
    assert (answer.code, answer.err) == (0, "")
    validate(answer.json["value"], json.loads(SCHEMA))
    assert set(answer.json["probabilities"]) == PATHS
