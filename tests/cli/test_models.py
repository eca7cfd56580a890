"""``vlmchat models`` from outside: what it lists, its JSON, the user's own rows, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalog.test_user_rows import GOOD
from tests.cli.harness import call
from tests.hub.test_local import WHOLE, fill, huggingface
from vlmchat.hub.local import huggingface_cache

KEYS = {
    "name", "title", "loader", "language_model", "format", "quantizations", "languages", "abilities", "description",
    "huggingface", "modelscope", "folder", "revision", "parameters", "bytes", "weights_files", "context_tokens",
    "licence", "licence_url", "vision", "template", "scores", "runs", "state", "local", "how_to_get", "conversation",
}  # fmt: skip
"""What scripts may rely on, one object for each row."""


def test_the_keys_of_the_json_are_a_contract() -> None:
    rows = call("models", "--json").json
    assert len(rows) == 31
    assert all(set(row) == KEYS for row in rows)
    one = next(row for row in rows if row["name"] == "internvl2:8b")
    assert (one["bytes"], one["weights_files"], one["state"], one["local"]) == (16_150_000_000, 4, "missing", None)
    assert one["vision"]["frames"] == 8


def test_a_filter_forgives_what_is_left_out() -> None:
    assert [row["name"] for row in call("models", "cog19zh", "--json").json] == [
        "cogvlm2:19b-zh",
        "cogvlm2:19b-zh-int4",
    ]
    assert [row["name"] for row in call("models", "iv2:76", "awq", "--json").json] == ["internvl2:76b-awq"]
    assert {row["format"] for row in call("models", "AWQ", "--json").json} == {"awq"}, "exact words come first"


def test_sizes_are_those_on_disk() -> None:
    blob = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "w" * 5_000}
    fill(huggingface_cache() / "models--OpenGVLab--InternVL2-1B" / "snapshots" / "c", blob)
    fill(huggingface_cache() / "models--OpenGVLab--InternVL2-2B" / "snapshots" / "c", {"model.safetensors": "w" * 700})
    rows = {line.split()[0]: line for line in call("models", "internvl2").out.splitlines()}
    assert rows["internvl2:1b"].split()[1:3] == ["5.0", "kB"]
    assert rows["internvl2:1b"].endswith("ready")
    assert rows["internvl2:2b"].endswith("partly here (700 B)")
    assert rows["internvl2:2b"].split()[1:3] == ["4.4", "GB"]


def test_a_file_that_two_names_share_is_counted_once() -> None:
    snapshot = huggingface(WHOLE)
    whole = call("show", "Own/Model-1B", "--json").json["local"]["bytes"]
    (snapshot / "again.safetensors").symlink_to((snapshot / "model.safetensors").resolve())
    assert call("show", "Own/Model-1B", "--json").json["local"]["bytes"] == whole


def test_rows_of_the_users_own_are_listed_and_bad_ones_told(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "checkpoint", WHOLE)
    bad = '[[model]]\nname = "worse:1b"\ntitle = "W"\nfolder = "/x"\nbytes = "many"\n'
    local = f'[[model]]\nname = "local:1b"\ntitle = "Local"\nfolder = "{folder}"\n'
    fill(home / "config" / "models", {"mine.toml": GOOD + bad + local})
    result = call("models", "1b")
    assert result.code == 0
    states = {line.split()[0]: line for line in result.out.splitlines()}
    assert states["mine:1b"].endswith("not here")
    assert states["local:1b"].endswith("ready")
    assert "worse:1b" not in states
    assert "mine.toml: row 'worse:1b': field bytes must be a whole number from 1 on, not 'many'" in result.err
    assert call("show", "local:1b", "--json").json["local"]["folder"] == str(folder)
    assert "field bytes must be" in call("doctor").out.split("problems\n")[1]


@pytest.mark.parametrize(
    "words", [["models"], ["models", "--json"], ["show", "internvl2:8b"], ["show", "demo", "--json"]]
)
def test_nothing_heavy_is_imported_and_nobody_is_asked(words: list[str]) -> None:
    """In a process of its own, with every way out of this machine shut."""
    code = (
        "import socket, sys\n"
        "def refuse(*args): raise SystemExit('the network was asked')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from vlmchat.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        "heavy = ('torch', 'transformers', 'modelscope', 'modelscope_hub', 'huggingface_hub', 'numpy', 'accelerate', "
        "'PIL', 'av', 'textual', 'rich', 'psutil')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stderr.strip().splitlines()[-1] == "[]"
    if "--json" in words:
        json.loads(finished.stdout)
