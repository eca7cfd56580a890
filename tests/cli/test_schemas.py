"""What scripts read: every JSON output against its schema in ``schemas``, which names each field and its type.

A field that is added, renamed, removed or of another type fails here, and so is never a surprise to a script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.cli.harness import call, process
from tests.cli.test_pipe import lines
from tests.cli.test_prompts import folder as folder
from tests.cli.test_verify import reference as reference
from tests.conftest import png
from tests.fakes import ScriptedEngine
from tests.hub.conftest import hubs as hubs
from tests.hub.loopback import Hubs, noise
from tests.hub.test_local import WHOLE, fill
from tests.reference_cases import QWEN2
from vlmchat.chat.shelf import demo_folder
from vlmchat.cli.meter import event_object
from vlmchat.cli.output import json_line
from vlmchat.engine.loader import load_now
from vlmchat.hub.events import (
    Checking,
    DownloadEvent,
    FileProgress,
    HubSwitched,
    Paused,
    Progress,
    Restarted,
    Retrying,
    Slow,
    Waiting,
)
from vlmchat.hub.local import huggingface_cache
from vlmchat.options import LoadOptions

SCHEMAS: dict[str, Any] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "schemas").glob("*.json"))
}
REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)
NAME, REPOSITORY = "internvl2:1b", "OpenGVLab/InternVL2-1B"
RARE = (
    Waiting("Own/Model"),
    Checking("model.safetensors", 1, 2),
    Progress((FileProgress("model.safetensors", 1, 2, "modelscope"),), 1, 2, 1, 0.0, None),
    Slow("model.safetensors", "huggingface", 1.5),
    HubSwitched("model.safetensors", "huggingface", "modelscope", 1, "status 503"),
    Restarted("model.safetensors", 1, "other bytes"),
    Retrying("model.safetensors", "huggingface", "connection reset", 0.5),
    Paused(1, 2),
)
"""Events that a healthy hub never causes."""


def accepts(name: str, value: object) -> bool:
    return bool(Draft202012Validator(SCHEMAS[name], registry=REGISTRY).is_valid(value))


def check(name: str, value: Any) -> None:
    """Hold ``value`` against a schema, and the schema against ``value`` with a field too many, too few, changed."""
    Draft202012Validator(SCHEMAS[name], registry=REGISTRY).validate(value)
    one = value[0] if isinstance(value, list) else value
    for changed in _spoilt(one):
        assert not accepts(name, [changed] if isinstance(value, list) else changed), changed


def _spoilt(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield copies with one field more, with one less, with one renamed, and with one of a type no field has."""
    yield {**value, "added": None}
    for name, inner in value.items():
        less = {key: held for key, held in value.items() if key != name}
        yield less
        yield {**less, f"{name}_": inner}
        # An id of a line and the value of a shape are whatever JSON the request and the schema wanted.
        if name not in {"id", "value"}:
            yield {**value, name: [[object.__name__]]}
        if isinstance(inner, dict) and name in {"usage", "timing", "settings", "error", "fit", "machine", "places"}:
            for deeper in _spoilt(inner):
                yield {**deepcopy(value), name: deeper}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_one_and_closed(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    closed = [part for part in _parts(SCHEMAS[name]) if "properties" in part]
    assert closed
    for part in closed:
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"]), "no field may be left out"


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for inner in schema.values():
            yield from _parts(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _parts(inner)


def test_ask_of_the_installed_command() -> None:
    answered = process(None, "ask", "--json", "--max-new-tokens", "4", "Hello")
    assert (answered.code, answered.err) == (0, "")
    check("ask", answered.json)


def test_ask_and_the_chat_it_leaves(scripted: ScriptedEngine, model: str, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png())
    answered = call("ask", "--json", "--seed", "1", "-s", "Be brief.", "-i", str(picture), "What colour?").json
    check("ask", answered)
    check("ask", call("ask", "--json", "--no-save", "What?").json)
    check("chats-list", call("chats", "list", "--json").json)
    check("chats-list", call("chats", "search", "colour", "--json").json)
    shown = call("chats", "show", answered["chat_id"], "--json").json
    check("chats-show", shown)
    assert {part["type"] for turn in shown["turns"] for part in turn["content"]} == {"text", "image"}
    assert [turn["made_by"] is None for turn in shown["turns"]] == [True, False]


def test_ask_for_a_shape(scripted: ScriptedEngine, model: str) -> None:
    scripted.answers = (('{"total": 1.5}',),)
    check("ask-schema", call("ask", "--json", "--schema", "total float", "How much?").json)


def test_ask_without_loading(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png())
    seen = call("ask", "--dry-run", "--json", "-i", str(picture), "What?").json
    check("ask-dry-run", seen)
    assert seen["revision"] == load_now(demo_folder(), LoadOptions()).about.fingerprint, "as of an answer"
    copytree(QWEN2 / "checkpoint", tmp_path / "model", ignore=ignore_patterns("*.safetensors"), copy_function=copyfile)
    unknown = call("ask", "--dry-run", "--json", "-m", str(tmp_path / "model"), "What?")
    check("ask-dry-run", unknown.json)
    assert unknown.json["revision"] is None


def test_kept_prompts(folder: Path) -> None:
    check("prompts", call("prompts", "--json").json)


def test_what_rm_removed() -> None:
    fill(huggingface_cache() / "models--OpenGVLab--InternVL2-1B" / "snapshots" / "c", WHOLE)
    removed = call("rm", NAME, "--yes", "--json").json
    assert removed["removed"][0]["repository"] == REPOSITORY
    check("rm", removed)


def test_verify(tmp_path: Path, reference: Path) -> None:
    whole = call("verify", str(QWEN2 / "checkpoint"), "--reference", str(reference), "--device", "cpu", "--json").json
    check("verify", whole)
    assert whole["audit"]["family"] == "internvl2" and whole["parity"]["rows"]
    unread = call("verify", str(fill(tmp_path / "model", WHOLE)), "--json")
    assert unread.code == 7
    check("verify", unread.json)
    assert unread.json["audit"]["message"] and unread.json["parity"] is None


def test_lines_of_pipe(scripted: ScriptedEngine, model: str, tmp_path: Path) -> None:
    requests = lines({"id": {"any": ["json"]}, "prompt": "x"}, {"prompt": "y"}, {"id": 3, "colour": 1}) + b"{\n"
    ended = call("pipe", stdin=requests)
    assert ended.code == 8
    for name, line in zip(["pipe-result", "pipe-result", "pipe-error", "pipe-error"], ended.lines, strict=True):
        check(name, line)
    output = tmp_path / "answers.jsonl"
    assert call("pipe", "--output", str(output), stdin=requests).code == 8
    kept = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for line in kept:
        check("pipe-error-kept" if "error" in line else "pipe-result-kept", line)
    assert len(kept) == len(ended.lines)


def test_models_and_show(model: str) -> None:
    rows = call("models", "--json").json
    check("models", rows)
    for row in rows:
        check("show", call("show", row["name"], "--json").json)
    check("show-folder", call("show", model, "--json").json)


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMCHAT_COLOUR", "red")
    found = call("doctor", "--json").json
    check("doctor", found)
    assert found["problems"], "a variable that means nothing is one"
    monkeypatch.setenv("VLMCHAT_TOP_K", "many")
    unread = call("doctor", "--json").json
    assert unread["settings"] is None
    check("doctor", unread)


def test_lines_of_pull(hubs: Hubs) -> None:
    hubs.publish(
        REPOSITORY, {"config.json": b"{}", "tokenizer.json": noise("t", 3000), "model.safetensors": noise("w", 100_000)}
    )
    pulled = call("pull", NAME, "--json", "--yes")
    hubs.huggingface.repositories.clear()
    hubs.modelscope.repositories.clear()
    refused = call("pull", NAME, "--json", "--yes")
    assert (pulled.code, refused.code) == (0, 3), pulled.out + refused.out
    seen = {line["event"] for line in pulled.lines + refused.lines}
    assert seen >= {"planned", "file-started", "progress", "verified", "done", "error"}
    for line in pulled.lines + refused.lines:
        check("pull", line)
    rare = [json.loads(json_line(event_object(event))) for event in RARE]
    for line in rare:
        check("pull", line)
    assert seen | {line["event"] for line in rare} == set(SCHEMAS["pull"]["$defs"]) - {"hub"}
    assert len(get_args(DownloadEvent)) + 1 == len(SCHEMAS["pull"]["oneOf"]), "every event, and the error"
