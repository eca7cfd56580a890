"""The installed command and the embedded model, as a stranger meets them: README, first command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlmchat.demo.example import ANSWER

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "screenshots" / "example.png"
VLMCHAT = Path(sys.executable).with_name("vlmchat")


def vlmchat(*arguments: str, home: Path, stdin: str = "", code: int = 0) -> str:
    """Run the console script with its own home and no network settings; returns stdout."""
    finished = subprocess.run(
        [str(VLMCHAT), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={**os.environ, "VLMCHAT_HOME": str(home), "HF_HUB_OFFLINE": "1"},
    )
    assert finished.returncode == code, finished.stderr
    return finished.stdout


def test_one_shot_follow_up_and_the_saved_chat(tmp_path: Path) -> None:
    """The README's first command, then a question that only the first turn's picture can answer."""
    first = json.loads(vlmchat("ask", "-i", str(EXAMPLE), "What is in this picture?", "--json", home=tmp_path))
    assert first["model"] == "demo"
    assert first["finish_reason"] == "stop"
    assert first["text"] == ANSWER
    second = json.loads(vlmchat("ask", "-c", "How many shapes are there?", "--json", home=tmp_path))
    assert second["chat_id"] == first["chat_id"]
    assert second["usage"]["image_tokens"] == first["usage"]["image_tokens"] > 0
    assert "three" in second["text"].lower()
    shown = vlmchat("chats", "show", first["chat_id"], home=tmp_path)
    assert first["text"] in shown
    assert second["text"] in shown


def test_pipe_answers_lines_in_order_and_says_which_failed(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": "a", "prompt": "What is in this picture?", "images": [str(EXAMPLE)]}),
        "not json {",
        str(EXAMPLE),
    ]
    out = vlmchat("pipe", "--prompt", "What is in this picture?", stdin="\n".join(lines) + "\n", home=tmp_path, code=8)
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0]["id"] == "a"
    assert answers[0]["text"] == answers[2]["text"]
    assert set(answers[1]["error"]) == {"code", "message", "hint"}


def test_it_says_what_it_is(tmp_path: Path) -> None:
    assert "tiny demonstration model" in vlmchat("ask", "--no-save", "Who are you?", home=tmp_path)


@pytest.mark.parametrize("extra", [(), ("--no-stream",)])
def test_stdout_is_the_answer_and_nothing_else(tmp_path: Path, extra: tuple[str, ...]) -> None:
    answer = json.loads(vlmchat("ask", "-i", str(EXAMPLE), "--no-save", "--json", home=tmp_path))["text"]
    assert vlmchat("ask", "-i", str(EXAMPLE), "--no-save", *extra, home=tmp_path) == answer + "\n"
