"""Kept prompts: asked by name, filled, listed; each mistake one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.harness import call, on_terminal
from tests.fakes import ScriptedEngine

pytestmark = pytest.mark.usefixtures("model")
RECEIPT = """
prompt = "Read it. Amounts in $currency, costs $$5, for ${who}."
system = "Be exact."
schema = "total float"
[defaults]
currency = "EUR"
"""


@pytest.fixture
def folder(home: Path) -> Path:
    path = home / "config" / "prompts"
    path.mkdir(parents=True)
    (path / "receipt.toml").write_text(RECEIPT, encoding="utf-8")
    return path


def test_a_kept_prompt_is_filled_and_asked(scripted: ScriptedEngine, folder: Path) -> None:
    scripted.answers = [['{"total": 1}']]
    assert call("ask", "@receipt", "--var", "who=A=B").code == 0
    request = scripted.requests[-1]
    assert [message.text for message in request.messages] == [
        "Be exact.",
        "Read it. Amounts in EUR, costs $5, for A=B.",
    ]
    assert json.loads(str(request.schema))["required"] == ["total"]
    call("ask", "@receipt", "--var", "who=x", "--var", "currency=USD", "-s", "Mine.", "--schema", "sum int")
    request = scripted.requests[-1]
    assert request.messages[0].text == "Mine."
    assert "in USD" in request.messages[-1].text
    assert json.loads(str(request.schema))["required"] == ["sum"]


def test_a_kept_prompt_in_a_pipe(scripted: ScriptedEngine, folder: Path, picture_file: Path) -> None:
    scripted.answers = [['{"total": 1}']]
    result = call("pipe", "--prompt", "@receipt", "--var", "who=x", stdin=str(picture_file).encode())
    assert result.lines[0]["value"] == {"total": 1}
    assert scripted.requests[-1].messages[-1].text.endswith("for x.")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("@reciept",), 4, "There is no kept prompt @reciept.\nhint: Did you mean @receipt?"),
        (("@other",), 4, "There is no kept prompt @other.\nhint: Write it into "),
        (("@receipt",), 2, "@receipt needs a value for who.\nhint: Give --var who="),
        (("@receipt", "--var", "whom=x"), 2, "@receipt has no variable whom.\nhint: Its variables are: currency, who."),
        (("@receipt", "--var", "who"), 2, "--var who has no value."),
        (("Hi", "--var", "who=x"), 2, "--var fills a kept prompt, and none is asked."),
        (("@broken",), 2, "broken.toml cannot be used: "),
        (("@wrong",), 2, "wrong.toml is no kept prompt."),
        (("@dollar",), 2, "dollar.toml has a $ that begins no variable."),
    ],
)
def test_mistakes(scripted: ScriptedEngine, folder: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    for name, text in (("broken", "prompt ="), ("wrong", "prompt = 3"), ("dollar", 'prompt = "5 $ each"')):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    result = call("ask", *arguments)
    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert scripted.requests == []


def test_an_at_sign_in_a_question_is_none(scripted: ScriptedEngine, folder: Path) -> None:
    assert call("ask", "@receipt what is it?").code == 0
    assert scripted.requests[-1].messages[-1].text == "@receipt what is it?"


def test_prompts_are_listed(home: Path, folder: Path) -> None:
    header, row = call("prompts").out.splitlines()
    assert header.split() == ["PROMPT", "VARIABLES", "TEXT"]
    assert row.startswith("@receipt  currency=EUR who  Read it.")
    (value,) = call("prompts", "--json").json
    assert set(value) == {"name", "prompt", "system", "schema", "variables", "defaults"}
    assert value["variables"] == ["currency", "who"]
    (folder / "receipt.toml").unlink()
    assert call("prompts", "--json").json == []
    assert "None is kept yet." in " ".join(on_terminal(None, "prompts")[1].split())
