"""The README says what is so: its commands, its keys, its exit codes."""

from __future__ import annotations

import re
from pathlib import Path

from vlmchat.errors import ExitCode
from vlmchat.tui.actions import ACTIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN_SCOPES = ("prompt", "chat", "app")


def key_table() -> str:
    """Return the README's table of keys, from the app's one table of actions."""
    rows = [f"| {action.keys} | {action.tip} |" for action in ACTIONS if action.scope in SHOWN_SCOPES]
    return "\n".join(["| key | in the app |", "| --- | --- |", *rows])


def test_the_keys_are_those_of_the_app() -> None:
    assert key_table() in README


def test_ci_runs_exactly_the_readme_test_command() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_exit_code_is_named() -> None:
    codes = README.partition("Exit codes:")[2].partition("\n\n")[0]
    assert {int(number) for number in re.findall(r"\b(\d+) ", codes)} == {int(code) for code in ExitCode}


def test_every_linked_file_is_there() -> None:
    linked = re.findall(r"\]\(((?!https?:)[^)#]+)\)", README)
    assert linked
    assert not [name for name in linked if not (ROOT / name).exists()]


def test_nothing_is_left_to_fill_in() -> None:
    assert "<!--" not in README
