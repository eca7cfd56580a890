"""The catalog: complete, well-formed, and found by every name it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlmchat.catalog.files import read_file
from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import RowError, read_row

NAMES = [
    "demo",
    "internvl2:1b",
    "internvl2:2b",
    "internvl2:4b",
    "internvl2:8b",
    "internvl2:26b",
    "internvl2:40b",
    "internvl2:76b",
    "internvl2:2b-awq",
    "internvl2:8b-awq",
    "internvl2:26b-awq",
    "internvl2:40b-awq",
    "internvl2:76b-awq",
    "ovis2:1b",
    "ovis2:2b",
    "ovis2:4b",
    "ovis2:8b",
    "ovis2:16b",
    "ovis2:34b",
    "ovis2:2b-gptq-int4",
    "ovis2:4b-gptq-int4",
    "ovis2:8b-gptq-int4",
    "ovis2:16b-gptq-int4",
    "ovis2:34b-gptq-int4",
    "ovis2:34b-gptq-int8",
    "cogvlm2:19b",
    "cogvlm2:19b-int4",
    "cogvlm2:19b-zh",
    "cogvlm2:19b-zh-int4",
    "cogvlm2-video:12b-chat",
    "cogvlm2-video:12b-base",
]

ROW: dict[str, Any] = {
    "name": "family:1b",
    "title": "Family-1B",
    "loader": "internvl2",
    "language_model": "Qwen2ForCausalLM",
    "format": "pytorch",
    "quantizations": ["none"],
    "languages": ["en"],
    "abilities": ["chat", "vision"],
    "description": "A row.",
}


def test_every_promised_name_is_a_row() -> None:
    assert sorted(row.name for row in catalog().rows) == sorted(NAMES)


@pytest.mark.parametrize("row", catalog().rows, ids=lambda row: row.name)
def test_every_row_is_whole(row: Any) -> None:
    if row.name == "demo":
        return
    assert row.huggingface is not None
    assert row.modelscope is not None
    assert row.parameters is not None
    assert row.bytes is not None
    assert row.context_tokens is not None
    assert row.vision is not None
    assert row.licence is not None
    assert row.licence_url is not None
    bytes_per_parameter = {"pytorch": (1.9, 2.1), "awq": (0.5, 1.1), "gptq": (0.6, 1.3), "bnb": (0.5, 0.8)}
    low, high = bytes_per_parameter[row.format]
    assert low < row.bytes / row.parameters < high


def test_ids_follow_the_interface() -> None:
    by_name = {row.name: row for row in catalog().rows}
    assert by_name["internvl2:76b-awq"].huggingface == "OpenGVLab/InternVL2-Llama3-76B-AWQ"
    assert by_name["ovis2:34b-gptq-int8"].modelscope == "AIDC-AI/Ovis2-34B-GPTQ-Int8"
    assert by_name["cogvlm2:19b-zh"].huggingface == "THUDM/cogvlm2-llama3-chinese-chat-19B"
    assert by_name["cogvlm2:19b-zh"].modelscope == "ZhipuAI/cogvlm2-llama3-chinese-chat-19B"
    assert all(row.hub_id("modelscope") == row.modelscope for row in catalog().rows)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("internvl2:8b", "internvl2:8b"),
        ("InternVL2:8B", "internvl2:8b"),
        (" demo ", "demo"),
        ("opengvlab/internvl2-8b", "internvl2:8b"),
        ("ZhipuAI/cogvlm2-llama3-chat-19B", "cogvlm2:19b"),
        ("THUDM/cogvlm2-llama3-chat-19B", "cogvlm2:19b"),
    ],
)
def test_found_by_name_and_by_either_hub(reference: str, name: str) -> None:
    found = catalog().find(reference)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("reference", ["", "internvl2", "internvl2:3b", "OpenGVLab/InternVL2-3B", "None"])
def test_not_found(reference: str) -> None:
    assert catalog().find(reference) is None


def test_nearest_names() -> None:
    assert catalog().nearest("internvl:8b")[0] == "internvl2:8b"
    assert catalog().nearest("OpenGVLab/InternVL2-8b-awk")[0] == "internvl2:8b-awq"
    assert catalog().nearest("qqqqqqqqqq") == ()


def test_filter_wants_every_word() -> None:
    assert {row.format for row in catalog().filter("AWQ")} == {"awq"}
    assert [row.name for row in catalog().filter("video chat")] == ["cogvlm2-video:12b-chat"]
    assert len(catalog().filter("")) == len(NAMES)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("title", "", "title must be a text"),
        ("format", "gguf", "format must be one of pytorch, awq, gptq, bnb"),
        ("abilities", ["sing"], "abilities must be a list of chat"),
        ("languages", "en", "languages must be a list"),
        ("bytes", -1, "bytes must be a whole number"),
        ("bytes", True, "bytes must be a whole number"),
        ("huggingface", "no-owner", "huggingface must be OWNER/NAME"),
        ("licence_url", "http://x", "licence_url must be a link"),
        ("vision", 3, "vision must be a table"),
        ("vision", {"tower": "T"}, "vision.tile_pixels is missing"),
        ("scores", {"DocVQA": "high"}, "scores must be a table of benchmark"),
        ("colour", "red", "colour is unknown"),
        ("name", "Family:1B", "name must be in lower case"),
    ],
)
def test_a_bad_row_names_the_field_and_the_fix(field: str, value: object, says: str) -> None:
    with pytest.raises(RowError, match=says):
        read_row({**ROW, field: value})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RowError, match="field title is missing"):
        read_row({name: value for name, value in ROW.items() if name != "title"})


def test_flags_and_tables_of_vision() -> None:
    vision = {"tower": "T", "tile_pixels": 448, "tokens_per_tile": 256, "max_tiles": 12, "thumbnail": "yes"}
    with pytest.raises(RowError, match=r"vision\.thumbnail must be true or false"):
        read_row({**ROW, "vision": vision})
    assert read_row({**ROW, "vision": {**vision, "thumbnail": True}}).vision is not None


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[model]]\nname = ", encoding="utf-8")
    with pytest.raises(RowError, match=r"mine\.toml: not valid TOML"):
        read_file(path)
    path.write_text("[rows]\n", encoding="utf-8")
    with pytest.raises(RowError, match=r"mine\.toml: table \[rows\] is unknown"):
        read_file(path)
    path.write_text('[[model]]\nname = "a:b"\n', encoding="utf-8")
    with pytest.raises(RowError, match=r"mine\.toml: row 'a:b': field title is missing"):
        read_file(path)
