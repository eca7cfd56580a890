"""Completion as a shell asks for it, the scripts it runs, and ``vlmchat help``."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.harness import call
from tests.cli.test_prompts import folder
from tests.hub.test_local import WHOLE, fill
from tests.store.test_chats import with_turns
from vlmchat.cli.help import EXIT_CODES
from vlmchat.cli.main import COMMANDS
from vlmchat.errors import ExitCode
from vlmchat.hub.local import huggingface_cache
from vlmchat.store.chats import ChatStore

__all__ = ["folder"]


def asked(monkeypatch: pytest.MonkeyPatch, line: str) -> list[tuple[str, str]]:
    """Return kind and value of what bash would be offered at the end of ``line``."""
    monkeypatch.setenv("_VLMCHAT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_LINE", f"vlmchat {line}")
    result = call()
    assert (result.code, result.err) == (0, "")
    offered = [line.partition(",") for line in result.out.splitlines() if line]
    return [(kind, value) for kind, _, value in offered]


def completed(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return the values bash would be offered for the last of ``words``."""
    return [value for kind, value in asked(monkeypatch, " ".join(words)) if kind == "plain"]


def test_commands_options_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(monkeypatch, "ch") == ["chats"]
    assert completed(monkeypatch, "chats", "ex") == ["export"]
    assert "--dry-run" in completed(monkeypatch, "ask", "--d")
    assert completed(monkeypatch, "ask", "--quantization", "8") == ["8-bit"]
    assert completed(monkeypatch, "pipe", "--format", "t") == ["text"]


@pytest.mark.parametrize(
    "line",
    [
        "ask -i ", "ask --image ph", "ask --video ", "ask --schema sh", "pipe --schema ", "ask --config ", "--config ",
        "pipe --output o", "chats export 3f -o ", "chats backup ",
    ],
)  # fmt: skip
def test_names_of_files_are_left_to_the_shell(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    assert asked(monkeypatch, line) == [("file", line.rpartition(" ")[2])]


@pytest.mark.parametrize("line", ["show ./mo", "verify ~/", "ask -m /opt/", "verify x --reference ", "pull .."])
def test_names_of_folders_too(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    assert asked(monkeypatch, line) == [("dir", line.rpartition(" ")[2])]


@pytest.mark.parametrize("line", ["ask -i https://example.org/", "ask --schema '{", "ask -i -"])
def test_what_is_no_file_is_not_completed_as_one(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    assert "file" not in [kind for kind, _ in asked(monkeypatch, line)]


@pytest.mark.parametrize("command", ["show", "pull", "verify"])
def test_models_of_commands(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    assert completed(monkeypatch, command, "internvl2:1") == ["internvl2:1b"]


def test_only_what_is_here_can_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(monkeypatch, "rm", "inter") == []
    fill(huggingface_cache() / "models--OpenGVLab--InternVL2-1B" / "snapshots" / ("0" * 40), WHOLE)
    assert completed(monkeypatch, "rm", "inter") == ["internvl2:1b"]


def test_values_of_keep_device_and_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(monkeypatch, "ask", "--keep", "") == ["5m", "30m", "2h", "0"]
    assert completed(monkeypatch, "pipe", "--device", "c") == ["cpu", "cuda"]
    assert completed(monkeypatch, "help", "e") == ["exit-codes"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_asked_in_their_form(monkeypatch: pytest.MonkeyPatch, shell: str, folder: object) -> None:
    def offered(*words: str) -> str:
        monkeypatch.setenv("_VLMCHAT_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(["vlmchat", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)) if shell == "zsh" else words[-1])
        return call().out

    name = {"zsh": r"internvl2\:1b", "fish": "internvl2:1b"}[shell]
    assert name in offered("show", "internvl2:1")
    assert "file" in offered("ask", "-i", "ph").split("\n")[0]
    assert "@receipt" in offered("pipe", "--prompt", "@re")
    assert "30m" in offered("ask", "--keep", "3")


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


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes(tmp_path: Path, folder: object) -> None:
    """Words that bash itself splits: at the colon of a model, at an equals sign; and names of files."""
    (tmp_path / "photo one.png").touch()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, start_new_session=True,
        env={**os.environ, "PATH": path, "PS1": "$ ", "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""

    def until(text: str) -> None:
        nonlocal seen
        while text.encode() not in seen:
            assert select.select([ours], [], [], 60)[0], seen
            seen += os.read(ours, 4096)
        seen = seen.partition(text.encode())[2]

    try:
        # What is shown of a line goes away with Ctrl-U; the words below are not what was typed.
        os.write(ours, b'eval "$(vlmchat completion bash)"; echo re""ady\n')
        until("ready\r\n")
        for typed, shown in (
            ("vlmchat show internvl2:1\t", "internvl2:1b "), ("vlmchat ask @rec\t", "@receipt "),
            ("vlmchat ask -i pho\t", "photo\\ one.png "), ("vlmchat pipe --prom\t", "--prompt "),
            ("vlmchat ask --quantization=8\t", "--quantization=8-bit "),
        ):  # fmt: skip
            os.write(ours, typed.encode())
            until(shown)
            os.write(ours, b"\x15")
    finally:
        os.close(ours)
        shell.kill()
        shell.wait()


HEAVY = ("torch", "PIL", "numpy", "rich", "transformers", "textual", "asyncio", "tempfile", "platformdirs", "tomllib")
"""What no help and no list of options needs: each of the last three is 2 to 7 ms of a start of 65."""
_WATCHED = (
    "import sys\nfrom vlmchat.cli.main import main\nmain({words})\nprint([n for n in {names} if n in sys.modules])"
)


def loaded_by(words: list[str], names: Sequence[str], line: str = "") -> str:
    """Return what a command wrote last: which of the modules ``names`` it imported."""
    asking = {"_VLMCHAT_COMPLETE": "bash_complete", "COMP_LINE": line} if line else {}
    code = _WATCHED.format(words=words, names=names)
    environment = {**os.environ, **asking}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return finished.stdout.splitlines()[-1]


def test_completing_imports_nothing_heavy() -> None:
    assert loaded_by([], HEAVY, "vlmchat pipe --ret") == "[]"
    assert loaded_by([], HEAVY, "vlmchat verify --js") == "[]"
    # The catalog is TOML.
    assert loaded_by([], HEAVY[:-1], "vlmchat ask -m d") == "[]"


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    mine = ("vlmchat.engine.remote", "vlmchat.chat.opening", "vlmchat.cli.piping", "importlib.metadata", "socket")
    assert loaded_by(words, (*HEAVY, *mine)) == "[]"


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
