"""Completion as a shell asks for it, the scripts it runs, and ``vlmchat help``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.harness import call
from tests.cli.test_prompts import folder
from tests.store.test_chats import with_turns
from vlmchat.cli.help import EXIT_CODES
from vlmchat.errors import ExitCode
from vlmchat.store.chats import ChatStore

__all__ = ["folder"]


def completed(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return what bash would be offered for the last of ``words``."""
    monkeypatch.setenv("_VLMCHAT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["vlmchat", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    result = call()
    assert (result.code, result.err) == (0, "")
    return [line.split(",", 1)[1] for line in result.out.splitlines() if line]


def test_commands_options_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(monkeypatch, "ch") == ["chats"]
    assert completed(monkeypatch, "chats", "ex") == ["export"]
    assert "--dry-run" in completed(monkeypatch, "ask", "--d")
    assert completed(monkeypatch, "ask", "--quantization", "8") == ["8-bit"]
    assert completed(monkeypatch, "pipe", "--format", "t") == ["text"]


def test_models_chats_and_prompts(monkeypatch: pytest.MonkeyPatch, folder: object) -> None:
    chat = with_turns(ChatStore(), "Hi", title="Two\nlines")
    assert {"internvl2:1b", "internvl2:8b"} <= set(completed(monkeypatch, "ask", "-m", "internvl2"))
    assert completed(monkeypatch, "ask", "--chat", chat[:3]) == [chat[:8]]
    assert completed(monkeypatch, "chats", "show", chat[:3]) == [chat[:8]]
    assert completed(monkeypatch, "ask", "@re") == ["@receipt"]


def test_a_broken_store_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ChatStore().database.parent.mkdir(parents=True)
    ChatStore().database.write_bytes(b"rubbish" * 200)
    assert completed(monkeypatch, "ask", "--chat", "a") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str) -> None:
    script = call("completion", shell).out
    assert f"_VLMCHAT_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script.encode(), check=False).returncode == 0


def test_completing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom vlmchat.cli.main import main\nmain([])\n"
        "print([name for name in ('torch', 'PIL', 'numpy', 'rich', 'transformers') if name in sys.modules])"
    )
    environment = {
        **os.environ, "_VLMCHAT_COMPLETE": "bash_complete", "COMP_WORDS": "vlmchat ask -m d", "COMP_CWORD": "3",
    }  # fmt: skip
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["plain,demo", "[]"]


def test_help_on_exit_codes_and_commands() -> None:
    assert set(EXIT_CODES) == set(ExitCode)
    lines = call("help", "exit-codes").out.splitlines()
    assert [int(line.split()[0]) for line in lines] == [int(code) for code in EXIT_CODES]
    assert call("help", "ask").out.startswith("Usage: vlmchat ask")
    assert call("help").out == call("--help").out
    result = call("help", "nothing")
    assert (result.code, result.err.splitlines()[0]) == (
        2,
        "There is no help on 'nothing': name a command, or exit-codes.",
    )
