"""``models``, ``show``, ``chats`` and ``doctor``."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.catalog.test_catalog import NAMES
from tests.cli.harness import call, on_terminal
from tests.conftest import png
from tests.hub.test_local import WHOLE, fill, huggingface
from tests.store.test_chats import with_turns
from vlmchat.chat import shelf
from vlmchat.engine.feature_files import FeatureFiles
from vlmchat.hub.local import huggingface_cache
from vlmchat.media.image import read_picture
from vlmchat.store.chats import ChatStore


@pytest.fixture(autouse=True)
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedded model that is whole, wherever its training stands."""
    folder = fill(tmp_path / "embedded", WHOLE)
    monkeypatch.setattr(shelf, "demo_folder", lambda: folder)
    monkeypatch.setattr(shelf, "can_run", lambda family, form: family == "internvl2" and form == "pytorch")
    return folder


def test_models_lists_every_row_and_its_state() -> None:
    fill(huggingface_cache() / "models--OpenGVLab--InternVL2-1B" / "snapshots" / "c", {"config.json": "{}"})
    result = call("models")
    assert result.code == 0
    header, *rows = result.out.splitlines()
    assert header.split() == ["MODEL", "SIZE", "FORMAT", "CONTEXT", "LANGUAGES", "STATE"]
    assert sorted(row.split()[0] for row in rows) == sorted(NAMES)
    states = {row.split()[0]: row.split(maxsplit=7)[-1] for row in rows}
    assert rows[0].endswith("ready")
    assert states["internvl2:1b"].endswith("partly here (2 B)")
    assert "not here, cannot run yet" in states["ovis2:1b"]
    assert result.err == "", "hints only on a terminal"


def test_models_filter_and_json() -> None:
    rows = call("models", "awq", "26b", "--json").json
    assert [row["name"] for row in rows] == ["internvl2:26b-awq"]
    assert rows[0]["how_to_get"].startswith("Get it with: vlmchat pull internvl2:26b-awq")
    assert (rows[0]["state"], rows[0]["local"]) == ("missing", None)
    assert call("models", "nothing-like-it", "--json").json == []


def test_models_on_a_terminal_is_a_table() -> None:
    code, seen = on_terminal(None, "models", "cogvlm2")
    assert code == 0
    assert "cogvlm2-video:12b-base" in seen
    assert "`vlmchat show MODEL` tells how to get one" in seen
    assert "No model holds all these words." in on_terminal(None, "models", "nothing-like-it")[1]


def test_show_tells_what_is_known() -> None:
    text = call("show", "CogVLM2:19B").out
    for fact in (
        "cogvlm2:19b  (cogvlm2-llama3-chat-19B)",
        "19.5 billion",
        "pytorch (39.0 GB in 8 files), runs in: none, 8-bit, 4-bit",
        "8,192 tokens",
        "1344 x 1344 pixels, 2306 tokens; 1 picture a conversation",
        "TextVQA 84.2",
        "OCRbench 756",
        "CogVLM2 License",
        "https://huggingface.co/THUDM/cogvlm2-llama3-chat-19B/blob/main/LICENSE",
        "ZhipuAI/cogvlm2-llama3-chat-19B",
        "This version of vlmchat cannot run it yet.",
        "Get it with: vlmchat pull cogvlm2:19b",
    ):
        assert fact in text
    assert "up to 12 tiles of 448 x 448 pixels and a thumbnail, 256 tokens each" in call("show", "internvl2:8b").out
    assert "24 frames of 224 x 224 pixels, 66 tokens each" in call("show", "cogvlm2-video:12b-chat").out
    assert "parameters" not in call("show", "demo").out, "what nobody knows is left out"


def test_show_json_and_an_installed_model() -> None:
    snapshot = fill(huggingface_cache() / "models--OpenGVLab--InternVL2-1B" / "snapshots" / "c", WHOLE)
    value = call("show", "opengvlab/internvl2-1b", "--json").json
    assert (value["name"], value["state"], value["how_to_get"]) == ("internvl2:1b", "installed", "")
    assert value["local"]["folder"] == str(snapshot)
    assert call("show", "internvl2:1b", "--hub", "modelscope", "--json").json["state"] == "missing"
    assert f"{snapshot}" in call("show", "internvl2:1b").out
    assert call("show", "cogvlm2:19b", "--json").json["scores"]["MMBench"] == 80.5


def test_show_a_checkpoint_outside_the_catalog(tmp_path: Path) -> None:
    snapshot = huggingface(WHOLE)
    assert str(snapshot) in call("show", "Own/Model-1B").out
    folder = fill(tmp_path / "mine", {"config.json": "{}"})
    value = call("show", str(folder), "--json").json
    assert (value["name"], value["state"]) == (str(folder), "partial")
    assert "missing: a tokenizer, the weights" in call("show", str(folder)).out


def test_show_an_unknown_model() -> None:
    result = call("show", "internvl2:9b")
    assert (result.code, result.out) == (3, "")
    assert "hint: Did you mean internvl2:8b" in result.err


def test_chats_are_listed_and_searched() -> None:
    store = ChatStore()
    assert call("chats").out == ""
    assert call("chats", "list", "--json").json == []
    first = with_turns(store, "a receipt of 12.50", title="Receipts \x1b[31m")
    second = with_turns(store, "图片里有什么？", title="颜色")
    header, *rows = call("chats").out.splitlines()
    assert header.split() == ["ID", "CHANGED", "MODEL", "TURNS", "TITLE"]
    assert [row.split()[0] for row in rows] == [second[:8], first[:8]]
    assert rows[1].endswith("Receipts [31m")
    assert [row["id"] for row in call("chats", "list", "-n", "1", "--json").json] == [second]
    found = call("chats", "search", "什么").out.splitlines()
    assert found[1].startswith(second[:8])
    assert found[2] == f"{second[:8]}  图片里有什么？"
    assert call("chats", "search", "receipt", "--json").json[0]["snippet"] == "a receipt of 12.50"
    assert call("chats", "search", "nothing").out == ""
    store.archive(first)
    assert [row["archived"] for row in call("chats", "list", "--archived", "--json").json] == [True]


def test_a_chat_is_shown_and_exported(tmp_path: Path) -> None:
    chat = with_turns(ChatStore(), "What?", "Red.", title="Colours")
    markdown = call("chats", "show", chat[:5]).out
    assert markdown.startswith("# Colours\n")
    assert markdown.endswith("\n\n## Model\n\nRed.\n")
    assert call("chats", "export", chat).out == markdown
    assert call("chats", "show", chat, "--json").json["title"] == "Colours"
    assert call("chats", "export", chat, "--format", "json").json["id"] == chat
    for name in ("out.md", "out.json"):
        assert call("chats", "export", chat, "-o", str(tmp_path / name)).out == ""
    assert (tmp_path / "out.md").read_text(encoding="utf-8") == markdown
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["turns"][1]["role"] == "assistant"
    result = call("chats", "export", chat, "-o", str(tmp_path / "no" / "folder.md"))
    assert result.code == 4
    assert "cannot be written" in result.err


def test_chats_are_removed_all_or_none() -> None:
    store = ChatStore()
    one, two = with_turns(store, "one"), with_turns(store, "two")
    assert call("chats", "rm", one, "nothing").code == 4
    assert len(store.chats()) == 2
    assert call("chats", "rm", one[:9], two[:9]).code == 0
    assert store.chats() == []
    assert call("chats", "show", one).code == 4


def test_a_broken_store_is_one_sentence(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "chats.db").write_bytes(b"no database at all" * 100)
    result = call("chats")
    assert result.code == 1
    assert "are damaged" in result.err
    assert "Traceback" not in result.err


@pytest.mark.usefixtures("healthy")
def test_doctor_says_where_everything_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ChatStore()
    store.keep_picture(read_picture(png()))
    with_turns(store, "Hi")
    monkeypatch.setenv("VLMCHAT_TOP_P", "0.5")
    FeatureFiles(home / "cache" / "features", 10**6).write("ab" * 32, bytes(1468))
    result = call("doctor", "--seed", "3")
    assert result.code == 0
    for fact in ("vlmchat             0.", "torch  ", "memory  ", "free disk  ", str(home / "data" / "chats.db")):
        assert fact in result.out
    assert "top_p               0.5  (VLMCHAT_TOP_P)" in result.out
    assert "seed                3  (--seed)" in result.out
    assert f"features            {home / 'cache' / 'features'}\n  features held       1.5 kB\n" in result.out
    assert "model               demo  (default)" in result.out
    assert "saved               1\n  turns               1\n" in result.out
    assert result.out.endswith("problems\n  none found\n")


def test_doctor_outlives_what_is_wrong(home: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name, text in (("config", "config.toml", "modle = 1"), ("data", "chats.db", "rubbish" * 100)):
        (home / folder).mkdir(parents=True)
        (home / folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("VLMCHAT_MODLE", "x")
    (demo / "config.json").unlink()
    result = call("doctor")
    assert result.code == 2
    problems = result.out.split("problems\n")[1]
    for problem in (
        "modle is no setting",
        "Did you mean model?",
        "are damaged",
        "VLMCHAT_MODLE",
        "Install vlmchat again",
    ):
        assert problem in problems


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("echo 'NVIDIA Toy, 8192 MiB, 555.1'", "gpus                NVIDIA Toy, 8192 MiB, 555.1"),
        ("exit 9", "gpus                -"),
        ("exec sleep 30", "gpus                -"),
    ],
)
def test_doctor_asks_the_driver_and_never_hangs(
    script: str, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("vlmchat.cli.examination._GPU_PATIENCE_S", 0.2)
    assert seen in call("doctor").out
