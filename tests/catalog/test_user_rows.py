"""Rows of the user's own: TOML and Xinference's JSON; a bad one is named and the rest is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmchat.catalog.index import Catalog, catalog
from vlmchat.catalog.spec import ModelSpec

GOOD = '[[model]]\nname = "mine:1b"\ntitle = "Mine-1B"\nhuggingface = "Own/Mine-1B"\n'


def with_files(home: Path, **files: str) -> Catalog:
    """Write files (``name_toml=text``) into the config folder and read the catalog."""
    folder = home / "config" / "models"
    folder.mkdir(parents=True)
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return catalog()


def row(found: Catalog, name: str) -> ModelSpec:
    spec = found.find(name)
    assert spec is not None
    return spec


def test_a_row_needs_a_name_a_title_and_a_place(home: Path) -> None:
    found = with_files(home, mine_toml=GOOD)
    assert found.problems == ()
    mine = row(found, "own/mine-1b")
    assert (mine.name, mine.loader, mine.format) == ("mine:1b", "generic", "pytorch")
    assert (mine.languages, mine.parameters, mine.quantizations) == ((), None, ("none", "8-bit", "4-bit"))
    assert found.rows[-1] is mine, "behind the packaged ones"


def test_defaults_and_config_tables_are_laid_over_each_other(home: Path) -> None:
    text = (
        "[config.base]\nhidden_size = 8\nvision_config = { layers = 2, width = 4 }\n"
        "[config.wide.vision_config]\nwidth = 6\n"
        '[defaults]\nloader = "internvl2"\n' + GOOD + 'config = ["base", "wide"]\n'
    )
    mine = row(with_files(home, mine_toml=text), "mine:1b")
    assert (mine.loader, mine.config) == ("internvl2", {"hidden_size": 8, "vision_config": {"layers": 2, "width": 6}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[model]\n", "bad.toml: not valid TOML"),
        ("[rows]\n", "bad.toml: table [rows] is unknown"),
        ('[model]\nname = "a:b"\n', "bad.toml: write [[model]] with two brackets"),
        ('[[model]]\nname = "a:b"\n', "bad.toml: row 'a:b': field title is missing"),
        (GOOD.replace("mine:1b", "Mine:1B"), "row 'Mine:1B': field name must be in lower case"),
        (GOOD.replace("Own/Mine-1B", "Mine"), "row 'mine:1b': field huggingface must be OWNER/NAME, not 'Mine'"),
        (GOOD.replace("mine:1b", "demo"), "row 'demo': field name is taken by another row; choose another name"),
        (GOOD + GOOD.replace("1B", "2B"), "row 'mine:1b': field name is taken"),
        (GOOD + "colour = 1\n", "row 'mine:1b': field colour is unknown; known are"),
        (GOOD + 'config = ["base"]\n', "field config must be a table, or a list of names of [config] tables"),
        ('[[model]]\nname = "a:b"\ntitle = "A"\n', "field huggingface, modelscope or folder is missing"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_is_used(home: Path, text: str, says: str) -> None:
    other = GOOD.replace("mine:1b", "other:1b").replace("Mine-1B", "Other-1B")
    found = with_files(home, bad_toml=text, other_toml=other)
    assert len(found.problems) == 1
    assert says in found.problems[0]
    assert str(home / "config" / "models" / "bad.toml") in found.problems[0]
    assert row(found, "other:1b").huggingface == "Own/Other-1B"
    assert len(found.rows) >= 32


def test_a_file_that_is_no_text_is_one_problem(home: Path) -> None:
    folder = home / "config" / "models"
    folder.mkdir(parents=True)
    (folder / "bad.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "bad.json").write_bytes(b"\xff\xfe\x00")
    assert len(catalog().problems) == 2


OLD: dict[str, Any] = {
    "version": 1,
    "context_length": 8192,
    "model_name": "cogvlm2-mine",
    "model_lang": ["en", "zh"],
    "model_ability": ["chat", "vision", "tools"],
    "model_family": "cogvlm2",
    "model_description": "Mine.",
    "model_specs": [
        {
            "model_format": "pytorch",
            "model_size_in_billions": 20,
            "quantizations": ["none"],
            "model_id": "Own/cogvlm2-19B-{quantization}",
            "model_hub": "modelscope",
        },
        {
            "model_format": "pytorch",
            "model_size_in_billions": 20,
            "quantizations": ["int4"],
            "model_id": "Own/cogvlm2-19B-{quantization}",
            "model_revision": "0123abc",
        },
    ],
}
NEW: dict[str, Any] = {
    "version": 2,
    "model_name": "InternVL2-Mine",
    "model_ability": ["chat", "vision"],
    "model_specs": [
        {
            "model_format": "awq",
            "model_size_in_billions": "1_8",
            "model_src": {
                "huggingface": {"quantizations": ["Int4"], "model_id": "Own/Mine-AWQ", "model_revision": "main"},
                "modelscope": {"quantizations": ["Int4"], "model_id": "Theirs/Mine-AWQ"},
            },
        },
        {
            "model_format": "gptq",
            "model_size_in_billions": 34,
            "model_src": {"huggingface": {"quantizations": ["Int4", "Int8"], "model_id": "Own/Mine-{quantization}"}},
        },
    ],
}


def test_xinferences_older_form(home: Path) -> None:
    found = with_files(home, mine_json=json.dumps(OLD))
    assert found.problems == ()
    plain, packed = row(found, "cogvlm2-mine:20b"), row(found, "cogvlm2-mine:20b-int4")
    assert (plain.modelscope, plain.huggingface, plain.format) == ("Own/cogvlm2-19B", None, "pytorch")
    assert (packed.huggingface, packed.format, packed.quantizations) == ("Own/cogvlm2-19B-int4", "bnb", ("int4",))
    assert (packed.revision, packed.loader, packed.context_tokens) == ("0123abc", "cogvlm2", 8192)
    assert (plain.languages, plain.abilities, plain.description) == (("en", "zh"), ("chat", "vision"), "Mine.")
    assert plain.quantizations == ("none", "8-bit", "4-bit")


def test_xinferences_newer_form_and_a_list_of_families(home: Path) -> None:
    found = with_files(home, mine_json=json.dumps([NEW, OLD]))
    assert found.problems == ()
    awq = row(found, "internvl2-mine:1.8b-awq")
    assert (awq.huggingface, awq.modelscope, awq.loader) == ("Own/Mine-AWQ", "Theirs/Mine-AWQ", "internvl2")
    assert [spec.name for spec in found.filter("mine gptq")] == [
        "internvl2-mine:34b-gptq-int4",
        "internvl2-mine:34b-gptq-int8",
    ]
    assert row(found, "internvl2-mine:34b-gptq-int8").huggingface == "Own/Mine-Int8"
    assert found.find("cogvlm2-mine:20b") is not None


def test_a_local_uri_is_a_folder(home: Path, tmp_path: Path) -> None:
    spec = {"model_format": "pytorch", "model_size_in_billions": 1, "model_uri": f"file://{tmp_path}/my%20model"}
    found = with_files(home, mine_json=json.dumps({"model_name": "ovis2-mine", "model_specs": [spec]}))
    mine = row(found, "ovis2-mine:1b")
    assert (mine.folder, mine.title, mine.loader) == (f"{tmp_path}/my model", "my model", "ovis2")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "not valid JSON"),
        ("3", "entry 1 must be a table with model_name and model_specs"),
        ("{}", "entry 1: field model_name must be a text"),
        ('{"model_name": "x", "model_specs": []}', "x: field model_specs must be a list that is not empty"),
        ('{"model_name": "x", "model_specs": [3]}', "x: model_specs[1] must be a table"),
        (
            '{"model_name": "x", "model_specs": [{"model_format": "ggufv2", "model_id": "O/N"}]}',
            "x: model_specs[1]: field model_format must be one of pytorch, awq, gptq, not 'ggufv2'",
        ),
        (
            '{"model_name": "x", "model_specs": [{"model_format": "pytorch"}]}',
            "x: model_specs[1]: field model_id, model_uri or model_src is missing",
        ),
        (
            '{"model_name": "x", "context_length": "long", "model_specs": '
            '[{"model_format": "pytorch", "model_size_in_billions": 1, "model_id": "O/N"}]}',
            "row 'x:1b': field context_tokens must be a whole number",
        ),
        (
            '{"model_name": "x", "model_specs": [{"model_format": "pytorch", "model_id": "O/N", "quantizations": 4}]}',
            "field quantizations must be a list",
        ),
    ],
)
def test_a_bad_model_spec_is_named(home: Path, document: str, says: str) -> None:
    found = with_files(home, bad_json=document)
    assert len(found.problems) == 1
    assert says in found.problems[0]
    assert "bad.json" in found.problems[0]
