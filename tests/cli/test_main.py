"""The command line's door: help, version, cost, and what it does without a command."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import vlmchat
from tests.cli.harness import call, on_terminal, process
from tests.conftest import png
from tests.hub.test_local import WHOLE, fill
from vlmchat.cli.main import COMMANDS
from vlmchat.settings import KEYS, Settings

HEAVY = ["torch", "transformers", "modelscope", "modelscope_hub", "numpy", "huggingface_hub", "textual", "rich"]
CHEAP = [
    "cli.main",
    "catalog.index",
    "store.chats",
    "chat.session",
    "chat.opening",
    "hub.local",
    "settings",
    "plaintext",
]


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(flag: str) -> None:
    assert call(flag).out == f"vlmchat {vlmchat.__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_and_shared_option(flag: str) -> None:
    result = call(flag)
    assert result.code == 0
    for name, line in COMMANDS.items():
        assert f"  {name}" in result.out
        assert line in result.out
    for key in KEYS:
        assert (key.option in result.out) == key.command_line


@pytest.mark.parametrize(
    "words",
    [
        *([name] for name in COMMANDS),
        *(["chats", name] for name in ("list", "search", "show", "export", "rm", "path", "backup")),
    ],
)
def test_help_of_each_command_ends_with_two_real_examples(words: list[str]) -> None:
    result = call(*words, "--help")
    assert result.code == 0
    examples = result.out.split("Examples:\n")[1].splitlines()
    assert len(examples) == 2
    for example in examples:
        assert f"vlmchat {' '.join(words)}" in example
        assert len(example) < 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "No such command 'nothing'."),
        (["--nothing"], "No such option"),
        (["models", "--nothing"], "No such option"),
        (["show"], "Missing argument"),
        (["chats", "nothing"], "No such command"),
        (["ask", "--seed"], "requires an argument"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str) -> None:
    result = call(*arguments)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert "--help` shows how it is used." in result.err


def test_the_app_needs_a_terminal() -> None:
    result = process(None)
    assert result.code == 2
    assert result.err.startswith("The app needs a terminal for input and output.\nhint: ")


def test_without_a_command_the_app_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    class Terminal:
        def isatty(self) -> bool:
            return True

    def run(settings: Settings) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr("vlmchat.tui.app.run", run)
    monkeypatch.setattr("vlmchat.cli.app.sys.stdin", Terminal())
    monkeypatch.setattr("vlmchat.cli.app.sys.stdout", sys.stdout)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    from vlmchat.cli.main import main

    assert main(["-m", "internvl2:1b", "--seed", "3"]) == 0
    assert (seen[0].model, seen[0].sampling.seed) == ("internvl2:1b", 3)


@pytest.mark.parametrize("room", CHEAP)
def test_cheap_rooms_import_nothing_heavy(room: str) -> None:
    code = f"import sys, vlmchat.{room}; print([name for name in {HEAVY} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["models"], ["show", "internvl2:8b"], ["chats"], ["ask", "--help"]]
)
def test_what_a_cheap_command_costs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not asserted: CPU-seconds depend on the machine and on who else is on it."""
    costs = [_cpu_seconds(arguments) for _ in range(3)]
    with capsys.disabled():
        print(f"  vlmchat {' '.join(arguments)}: {min(costs):.3f} CPU-s")


def _cpu_seconds(arguments: Sequence[str]) -> float:
    def spent() -> float:
        used: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(used.ru_utime + used.ru_stime)

    before = spent()
    assert process(None, *arguments).code == 0
    return spent() - before


def test_help_fits_a_narrow_terminal() -> None:
    assert on_terminal(None, "--help")[0] == 0


def test_bytes_that_are_no_utf8_are_refused_in_one_sentence() -> None:
    for arguments in ([b"ask", b"caf\xe9"], [b"ask", b"x", b"-s", b"caf\xe9"], [b"show", b"caf\xe9"]):
        finished = subprocess.run(
            [sys.executable.encode(), b"-m", b"vlmchat", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert finished.returncode in {2, 3}
        assert b"Traceback" not in finished.stderr
        assert b"it does not know" not in finished.stderr


def test_a_file_name_that_is_no_utf8_is_kept_all_the_same(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(png())
    model = str(fill(tmp_path / "model", WHOLE)).encode()
    for extra in ([], [b"--json"]):
        finished = subprocess.run(
            [sys.executable.encode(), b"-m", b"tests.cli.scripted", b"{}", b"ask", b"-m", model, b"-i", path, *extra],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
    chat = call("chats", "list", "--json").json[0]["id"]
    assert call("chats", "show", chat).code == 0
    assert call("chats", "export", chat, "--format", "json").code == 0
