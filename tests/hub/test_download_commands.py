"""``vlmchat pull``, ``rm`` and ``ask`` with a model that is not here, over loopback hubs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.harness import call
from tests.hub.loopback import Fault, Hubs, noise, status
from vlmchat.chat.shelf import demo_folder
from vlmchat.errors import ExitCode
from vlmchat.hub import worker

NAME = "internvl2:1b"
REPOSITORY = "OpenGVLab/InternVL2-1B"
CONTENTS = {
    "config.json": b"{}",
    "tokenizer.json": noise("tokenizer", 3000),
    "model.safetensors": noise("weights", 1_000_000),
    "modeling_internvl_chat.py": b"never",
}
SIZE = sum(len(content) for path, content in CONTENTS.items() if not path.endswith(".py"))


@pytest.fixture
def model(hubs: Hubs) -> Hubs:
    hubs.publish(REPOSITORY, CONTENTS)
    return hubs


def test_nothing_is_fetched_before_the_licence_is_accepted(model: Hubs) -> None:
    refused = call("pull", NAME)
    assert refused.code == ExitCode.MODEL
    assert "licence: MIT" in refused.err
    assert "https://huggingface.co/OpenGVLab/InternVL2-1B" in refused.err
    assert "--yes" in refused.err
    assert model.bytes == 0


def test_a_licence_is_accepted_once(model: Hubs) -> None:
    pulled = call("pull", NAME, "--yes")
    assert (pulled.code, model.bytes) == (0, SIZE)
    assert f"3 files, 1.0 MB into {pulled.out.strip()}" in pulled.err
    assert call("pull", NAME).out == pulled.out
    assert model.bytes == SIZE, "what is here is not fetched again"
    assert call("show", NAME).out.count("1.0 MB in") == 1
    assert call("rm", NAME, "--yes").code == 0
    assert call("pull", NAME).code == 0, "it was accepted before"


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_a_person_at_a_terminal_is_asked(model: Hubs, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    asked: list[str] = []

    def ask_line(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("vlmchat.cli.fetching.can_ask", lambda: True)
    monkeypatch.setattr("vlmchat.cli.fetching.ask_line", ask_line)
    code = call("pull", NAME).code
    assert len(asked) == 1
    assert "MIT" in asked[0]
    assert (code, model.bytes) == ((0, SIZE) if answer == "y" else (ExitCode.MODEL, 0))


def test_json_is_one_object_a_line_from_planned_to_done(model: Hubs) -> None:
    lines = [json.loads(line) for line in call("pull", NAME, "--json", "--yes").out.splitlines()]
    assert lines[0]["event"] == "planned"
    assert lines[0]["licence"] == {
        "name": "MIT; the language model's own licence besides",
        "url": "https://huggingface.co/OpenGVLab/InternVL2-1B",
        "accepted": False,
    }
    assert {file["path"] for file in lines[0]["files"]} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert lines[-1]["event"] == "done"
    assert (lines[-1]["bytes"], lines[-1]["fetched"]) == (SIZE, SIZE)
    assert [line["path"] for line in lines if line["event"] == "verified"]
    assert max(line["done"] for line in lines if line["event"] == "progress") == SIZE
    model.huggingface.repositories.clear()
    model.modelscope.repositories.clear()
    failed = call("pull", NAME, "--json", "--yes")
    assert failed.code == ExitCode.MODEL
    assert json.loads(failed.out.splitlines()[-1])["code"] == "repository-missing"


def test_rm_frees_what_it_says(model: Hubs) -> None:
    folder = call("pull", NAME, "--yes").out.strip()
    asked = call("rm", NAME)
    assert asked.code == ExitCode.USAGE
    assert "1.0 MB" in asked.out
    assert call("pull", NAME).out.strip() == folder, "nothing was removed unasked"
    removed = json.loads(call("rm", NAME, "--yes", "--json").out)
    assert removed["freed_bytes"] >= SIZE
    assert [entry["hub"] for entry in removed["removed"]] == ["huggingface"]
    assert call("rm", NAME, "--yes").code == ExitCode.MODEL
    assert json.loads(call("models", NAME, "--json").out)[0]["state"] == "missing"


def test_names_that_cannot_be_pulled(model: Hubs) -> None:
    assert call("pull", "demo").code == ExitCode.MODEL
    assert "Did you mean" in call("pull", "internvl2:1bb").err
    assert call("pull", "../escape/x").code == ExitCode.MODEL
    assert call("pull", NAME, "--offline").code == ExitCode.MODEL
    assert model.bytes == 0


def test_ask_fetches_a_missing_model_with_yes_and_answers(hubs: Hubs) -> None:
    """A real checkpoint from a hub to an answer, in a process of its own."""
    hubs.publish("Own/Demo", {path.name: path.read_bytes() for path in demo_folder().iterdir() if path.is_file()})

    def ask(*options: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "vlmchat", "ask", "-m", "Own/Demo", "--no-save", "What can you do?", *options]
        return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=300)

    for refused in (ask(), ask("--yes", "--offline")):
        assert refused.returncode == ExitCode.MODEL
        assert "vlmchat pull Own/Demo" in refused.stderr
    assert hubs.bytes == 0
    answered = ask("--yes")
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()
    assert "Own/Demo" in answered.stderr


def test_a_model_that_is_here_needs_no_hub(model: Hubs) -> None:
    folder = call("pull", NAME, "--yes").out
    assert call("pull", NAME, "--offline").out == folder
    model.huggingface.stop()
    assert call("pull", NAME, "--hub", "huggingface").out == folder


def test_a_download_that_was_begun_is_listed(model: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LONGEST_BACKOFF_S", 0.05)
    model.huggingface.faults.add("content", "model.safetensors", Fault("cut", at=300_000), times=1)
    model.huggingface.faults.add("content", "model.safetensors", status(404))
    assert call("pull", NAME, "--yes", "--hub", "huggingface").code == ExitCode.DOWNLOAD
    row = json.loads(call("models", NAME, "--json").out)[0]
    assert row["state"] == "partial"
    assert "partly here (3" in call("models", NAME).out
    model.huggingface.faults.clear()
    assert call("pull", NAME).code == 0
    assert model.bytes <= SIZE + 100_000
