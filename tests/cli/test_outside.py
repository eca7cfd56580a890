"""The installed console script from outside: every option of every command, every exit code, what errors say.

``GOOD`` is one long use of it over a kept engine with the embedded model; ``BAD`` is what can go wrong before a
model is loaded. A test below finds options that neither names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.harness import Result
from tests.conftest import OF_OTHERS
from tests.reference_cases import QWEN2
from vlmchat.cli.main import commands
from vlmchat.errors import ExitCode

SCRIPT = Path(sys.executable).with_name("vlmchat")
EXAMPLE = Path(__file__).parents[2] / "screenshots" / "example.png"
TALK = "-q -v --config {config}"
ALL = (
    "-m demo --quantization none --device cpu --dtype float32 --max-tiles 2 --template chat -s 'Be brief.' "
    "--max-new-tokens 30 --temperature 0.5 --top-p 0.9 --top-k 10 --repetition-penalty 1.1 --seed 3 --hub auto "
    "--offline -y --private-urls --keep 5m " + TALK
)
CHOSEN = {
    "device": "cpu", "dtype": "float32", "quantization": "none", "max_tiles": 2, "template": "chat",
    "max_new_tokens": 30, "temperature": 0.5, "top_p": 0.9, "top_k": 10, "repetition_penalty": 1.1, "seed": 3,
    "system": "Be brief.",
}  # fmt: skip
"""What ``ALL`` sets, as answers tell it."""


@dataclass(frozen=True)
class Run:
    """One command line and what it has to leave."""

    words: str
    code: int = 0
    says: str = ""
    """A pattern: of stdout where the code is 0, else of stderr."""
    stdin: str = ""
    keep: str = ""
    """A field of the JSON on stdout that later lines may name."""


GOOD = (
    Run(f"ask {ALL} -i {{example}} --image '{{example}}[0,0,40,40]' --no-stream --raw --json 'What is in it?'",
        says='"image_tokens": [1-9]', keep="chat_id"),
    Run("ask --keep 5m --continue 'And now?'", says="."),
    Run("ask --keep 5m --chat {chat_id} 'Is it red?'", says="."),
    Run("ask --keep 5m --no-save --json --schema 'red bool' 'Is it red?'", says=r'"probabilities": \{"red": '),
    Run("ask --keep 5m --no-save @receipt --var who=me", says="."),
    Run("ask --keep 5m --no-save --max-new-tokens 2 --schema '{{\"const\": \"a long, long word\"}}' Hi", 9,
        "^The answer ended before"),
    Run(f"pipe {ALL} --prompt What? --schema 'red bool' --batch-size 2 --output {{folder}}/o.jsonl",
        stdin="{example}\n{folder}/none.png\n", code=8),
    Run("pipe --keep 5m --output {folder}/o.jsonl --resume --prompt What?", stdin="{example}\n{folder}/none.png\n"),
    Run("pipe --keep 5m --output {folder}/o.jsonl --resume --retry-failed --prompt What?", code=8,
        stdin="{example}\n{folder}/none.png\n", says=r"^Answered before: 1 line\.$"),
    Run("pipe --keep 5m --format text --prompt @receipt --var who=me", says=".", stdin="{example}\n"),
    Run(f"chats list --limit 5 --json {TALK}", says="{chat_id}"),
    Run("chats list -n 5 --archived", says="^$"),
    Run(f"chats search -n 2 --json 'red' {TALK}", says="{chat_id}"),
    Run(f"chats show {{chat_id}} --json {TALK}", says='"made_by"'),
    Run(f"chats export {{chat_id}} --format html --output {{folder}}/chat.md {TALK}", says="^$"),
    Run(f"chats path {TALK}", says=r"chats\.db$"),
    Run(f"chats backup {{folder}}/backup {TALK}"),
    Run("chats backup {folder}/backup", 2, "is there already and holds something"),
    Run("chats export {chat_id} -o {folder}/no/where.md", 4, "cannot be written"),
    Run(f"chats rm {{chat_id}} {TALK}"),
    Run("ask --keep 5m --no-save --device cuda:99 Hi", 2, "^This machine has no cuda:99"),
    Run(f"stop {TALK}"),
    Run(f"models demo --json --hub auto {TALK}", says='"state": "installed"'),
    Run(f"show demo --json --hub auto {TALK}", says='"fit"'),
    Run(f"prompts --json {TALK}", says='"variables": '),
    Run("completion zsh", says="_VLMCHAT_COMPLETE"),
    Run("help exit-codes", says="141  "),
    Run("--version", says=r"^vlmchat \d"),
)  # fmt: skip
BAD = (
    Run("ask", 2, "^There is nothing to ask"),
    Run("", 2, "^The app needs a terminal"),
    Run("ask --cold --keep soon Hi", 2, "^--keep must be a time such as 5m"),
    Run("pipe --cold --device gpu", 2, "^--device must be auto, cpu, cuda"),
    Run("--cold --top-p much models", 2, "^--top-p must be a number, not 'much'"),
    Run("ask --temperature -1 Hi", 2, "^--temperature"),
    Run("ask --quantization 3-bit Hi", 2, "^--quantization"),
    Run("ask --config {folder}/none.toml Hi", 2, r"^There is no file .*none\.toml\.$"),
    Run("ask --config {broken} Hi", 2, "is not valid TOML"),
    Run("ask --config {misspelt} Hi", 2, "max_tile is no setting.*\nhint: Did you mean max_tiles"),
    Run("ask --continue --chat ab Hi", 2, "^--continue and --chat both name a chat"),
    Run("ask --no-save --continue Hi", 2, "^--no-save cannot go on with a saved chat"),
    Run("ask --var a=b Hi", 2, "^--var fills a kept prompt, and none is asked"),
    Run("ask @receipt --var who", 2, "^--var who has no value"),
    Run("ask @receipt", 2, "who"),
    Run("ask --schema 'total euro' Hi", 2, "is no field of a schema"),
    Run("ask --schema '{{' Hi", 2, "is not JSON"),
    Run("pipe --resume", 2, "^--resume goes on with a file of results"),
    Run("pipe --retry-failed", 2, "^--retry-failed asks again"),
    Run("pipe --format text --output {folder}/x", 2, "^--format text keeps no ids"),
    Run("pipe --batch-size 0", 2, "--batch-size"),
    Run("rm internvl2:2b", 2, "^Nobody is there to agree to the removal"),
    Run("help nothing", 2, "^There is no help on 'nothing'"),
    Run("ask -m nothing:1b Hi", 3, "^There is no model 'nothing:1b'"),
    Run("ask -m internvl2:1b --offline Hi", 3, "^InternVL2-1B is not on this machine"),
    Run("ask -m ./nowhere Hi", 3, r"^There is no folder \./nowhere"),
    Run("show internvl2:99b", 3, "\nhint: Did you mean internvl2:"),
    Run(f"pull internvl2:1b --json --hub huggingface --offline -y {TALK}", 3, "offline"),
    Run("pull demo", 3, "^demo is on no hub"),
    Run(f"rm internvl2:1b --json -y --hub auto {TALK}", 3, "internvl2:1b is not on this machine"),
    Run("verify nothing", 3, "^There is no model 'nothing'"),
    Run("ask @nothing", 4, "^There is no kept prompt @nothing"),
    Run("ask --chat ffff Hi", 4, "ffff"),
    Run("ask --continue Hi", 4, "^There is no chat to go on with yet"),
    Run("chats show ffff", 4, "ffff"),
    Run("ask -i {folder}/none.png Hi", 4, r"none\.png"),
    Run("ask -i {folder} Hi", 4, "is a folder, not a picture"),
    Run("ask -i {config} Hi", 4, "."),
    Run("ask -i '{example}[900,900,5,5]' Hi", 4, "."),
    Run("pipe --output {folder}/no/where.jsonl", 4, "cannot be written"),
    Run("ask -i http:// Hi", 4, "^http: is no http or https URL"),
    Run("ask -i - Hi", 4, ".", stdin="no picture"),
    Run("ask --video {folder}/none.mp4 Hi", 4, r"none\.mp4"),
    Run("ask --offline -i https://example.org/a.png Hi", 4, "offline"),
    Run("ask -i http://127.0.0.1:9/a.png Hi", 4, "private"),
    Run("ask -m {huge} Hi", 5, r"^\S+ needs [\d,.]+ GB in .*of memory is free"),
    Run("ask --private-urls -i http://127.0.0.1:9/a.png Hi", 6, "cannot be"),
    Run("verify {broken_model}", 7, "."),
    Run("ask -m {broken_model} --dry-run Hi", 7, "."),
    Run("pipe", 8, "", stdin="{{\n"),
)
"""Nothing of these needs torch, but the last two that refuse a checkpoint."""


class Place:
    """A home, files to name, and the script in it."""

    def __init__(self, root: Path) -> None:
        self.named: dict[str, str] = {"example": str(EXAMPLE), "folder": str(root), "model": str(QWEN2 / "checkpoint")}
        for name, text in {
            "config": "", "broken": "model =", "misspelt": "max_tile = 3",
            "home/config/prompts/receipt": 'prompt = "Read it for $who."',
        }.items():  # fmt: skip
            self._file(name, root / f"{name}.toml", text)
        config = json.loads((QWEN2 / "checkpoint" / "config.json").read_text(encoding="utf-8"))
        config["llm_config"]["num_hidden_layers"] *= 10**8
        self._file("huge", root / "huge" / "config.json", json.dumps(config))
        self._file("installed", root / "hf/hub/models--OpenGVLab--InternVL2-2B/snapshots/c/config.json", "{}")
        self._file("broken_model", root / "broken-model" / "config.json", "{")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(OF_OTHERS)}
        places = {"VLMCHAT_HOME": "home", "HF_HOME": "hf", "MODELSCOPE_CACHE": "ms"}
        self.environment = {**ours, **{name: str(root / value) for name, value in places.items()}}

    def _file(self, name: str, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.named[name] = str(path.parent if path.name == "config.json" else path)

    def run(self, row: Run) -> Result:
        """Run one line and look at what it left."""
        words = [word.format_map(self.named) for word in shlex.split(row.words)]
        finished = subprocess.run(
            [SCRIPT, *words], input=row.stdin.format_map(self.named).encode(), capture_output=True, check=False,
            env=self.environment, cwd=self.named["folder"], timeout=120,
        )  # fmt: skip
        result = Result(finished.returncode, finished.stdout.decode(), finished.stderr.decode())
        assert result.code == row.code, (words, result)
        said = result.out if row.code == 0 else result.err
        pattern = row.says.format_map(self.named) if "{chat_id}" in row.says else row.says
        assert re.search(pattern, said, re.MULTILINE), (words, result)
        if row.keep:
            self.named[row.keep] = result.json[row.keep]
        return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("outside"))
    yield made
    made.run(Run("stop"))


def test_a_long_use(tmp_path: Path) -> None:
    place = Place(tmp_path)
    try:
        found = [(row, place.run(row)) for row in GOOD]
    finally:
        place.run(Run("stop"))
    told: Mapping[str, Any] = found[0][1].json["settings"]
    assert {name: told[name] for name in CHOSEN} == CHOSEN
    assert [result.err for row, result in found if row.code == 0 and "-q" in shlex.split(row.words)].count("") > 10
    kept = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    codes = [line.get("error", {}).get("code") for line in kept]
    assert codes == [None, "bad-image"], "each input once, after two resumes"


@pytest.mark.parametrize("words", [f"{ALL} --cold doctor --json", f"doctor {ALL} --cold --json"])
def test_where_each_option_came_from(place: Place, words: str) -> None:
    """Options before the command's name count as those behind it; the doctor tells value and source of each."""
    told = place.run(Run(words)).json["settings"]
    assert {name: told[name]["value"] for name in CHOSEN} == CHOSEN
    chosen = (*CHOSEN, "model", "cold", "keep", "offline", "yes", "private_urls", "hub", "quiet", "verbose")
    assert {told[name]["source"] for name in chosen} == {"--" + name.replace("_", "-") for name in chosen}


@pytest.mark.parametrize("row", BAD, ids=lambda row: row.words)
def test_what_goes_wrong(place: Place, row: Run) -> None:
    result = place.run(row)
    if row.code != ExitCode.SOME_LINES_FAILED:
        # A report, and what would be removed, are told all the same.
        assert result.out == "" or "--json" in row.words or row.words.startswith(("verify", "rm"))
        assert "Traceback" not in result.err or " -v" in row.words
        assert result.err.splitlines()[-1].startswith("hint: "), result.err


def test_every_exit_code_is_met() -> None:
    """The others: 1, 130 and 141 over a kept engine in ``test_keep``, over a scripted one in ``test_ask``."""
    assert {*ExitCode} - {row.code for row in (*GOOD, *BAD)} == {
        ExitCode.UNFORESEEN, ExitCode.INTERRUPTED, ExitCode.CLOSED_PIPE,
    }  # fmt: skip


def _options(command: click.Command, path: str, context: click.Context) -> Iterator[tuple[str, click.Option]]:
    yield from ((path, parameter) for parameter in command.params if isinstance(parameter, click.Option))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _options(inner, f"{path} {name}".strip(), context)


def test_every_option_is_used() -> None:
    lines = [shlex.split(row.words) for row in (*GOOD, *BAD)] + [shlex.split(f"doctor {ALL} --cold --json")]
    used = {(path, word) for words in lines for path in _paths(words) for word in words}
    context = click.Context(commands)
    unused = [
        f"{path} {option.opts[-1]}"
        for path, option in _options(commands, "", context)
        if path and not any((path, spelt) in used for spelt in option.opts)
    ]
    # Of `verify`, options that take seconds of torch are in test_verify.
    assert [name for name in unused if not name.startswith("verify ")] == []


def _paths(words: list[str]) -> list[str]:
    return [" ".join(words[:1]), " ".join(words[:2])]
