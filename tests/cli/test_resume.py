"""``pipe --output --resume``: every input answered exactly once, however often the process is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from tests.cli.harness import call, started
from tests.cli.test_pipe import lines
from tests.conftest import png
from tests.fakes import ScriptedEngine

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def read(output: Path) -> list[Any]:
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def test_results_carry_their_key_and_are_not_asked_again(scripted: ScriptedEngine, output: Path) -> None:
    requests = lines({"id": "a", "prompt": "1?"}, {"prompt": "2?"}, {"id": "bad", "colour": 1}, {"prompt": "2?"})
    first = call("pipe", "--output", str(output), stdin=requests)
    assert (first.code, first.out) == (8, "")
    keys = [result["key"] for result in read(output)]
    assert keys[0] == 'id:"a"'
    assert keys[1] == keys[3]
    assert keys[1].startswith("sha256:")
    again = call("pipe", "--output", str(output), "--resume", stdin=requests + lines({"id": "b", "prompt": "3?"}))
    assert again.code == 0, "the failed line counts as answered"
    assert again.err == "Answered before: 4 lines.\n"
    assert [result["id"] for result in read(output)] == ["a", None, "bad", None, "b"]
    assert len(scripted.requests) == 4
    assert call("pipe", "--output", str(output), "--resume", stdin=requests).code == 0
    assert len(scripted.loads) == 2, "with nothing to ask nothing is loaded"


def test_failed_lines_are_asked_again_when_wanted(scripted: ScriptedEngine, output: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.png"
    requests = lines({"id": 1, "prompt": "x"}, {"id": 2, "images": [str(late)]}, {"id": 3, "prompt": "y"}, {"id": 4})
    assert call("pipe", "--output", str(output), "--prompt", "What?", stdin=requests).code == 8
    output.chmod(0o640)
    late.write_bytes(png())
    arguments = ("pipe", "--output", str(output), "--prompt", "What?", "--resume", "--retry-failed")
    again = call(*arguments, stdin=requests)
    assert (again.code, again.err.splitlines()[-1]) == (0, "Answered before: 3 lines.")
    assert [(result["id"], "error" in result) for result in read(output)] == [
        (1, False),
        (3, False),
        (4, False),
        (2, False),
    ]
    assert output.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    before = output.read_bytes()
    assert call(*arguments, stdin=requests).code == 0
    assert output.read_bytes() == before, "nothing is left to ask again"


def test_a_disk_without_room_for_the_copy_leaves_the_file_as_it_was(
    scripted: ScriptedEngine, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("pipe", "--output", str(output), stdin=lines({"id": 1, "colour": 1}))
    before = output.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = call("pipe", "--output", str(output), "--resume", "--retry-failed", stdin=lines({"id": 1, "prompt": "x"}))
    assert (result.code, "without --retry-failed" in result.err) == (5, True)
    assert output.read_bytes() == before
    assert [path for path in output.parent.iterdir() if path.name.endswith(".part")] == []


def test_equal_lines_are_as_many_inputs(scripted: ScriptedEngine, output: Path) -> None:
    call("pipe", "--output", str(output), stdin=lines({"prompt": "x"}, {"prompt": "x"}))
    call("pipe", "--output", str(output), "--resume", stdin=lines(*[{"prompt": "x"}] * 5))
    assert len(read(output)) == 5
    assert len(scripted.requests) == 5


def test_keys_do_not_depend_on_how_json_is_written(scripted: ScriptedEngine, output: Path) -> None:
    call("pipe", "--output", str(output), stdin=b'{"prompt": "x", "seed": 1}\n')
    call("pipe", "--output", str(output), "--resume", stdin=b'{ "seed":1,"prompt":"\\u0078"}\n')
    assert len(read(output)) == 1


@bounded(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=8),
    cuts=st.lists(st.integers(0, 8), max_size=3),
)
def test_any_split_into_runs_answers_each_input_once_in_order(
    scripted: ScriptedEngine, ids: list[object], cuts: list[int]
) -> None:
    requests = [{"id": name, "prompt": str(number)} for number, name in enumerate(ids)]
    asked = len(scripted.requests)
    with TemporaryDirectory() as folder:
        output = Path(folder) / "answers.jsonl"
        for end in [*sorted(cuts), len(ids)]:
            assert call("pipe", "--output", str(output), "--resume", stdin=lines(*requests[:end])).code == 0
        assert [result["id"] for result in read(output)] == ids
    assert len(scripted.requests) - asked == len(ids)


@pytest.mark.parametrize("tail", [b'{"id": "b", "text": "ha', b'{"id": "b", "key": "id:\\"b\\""}', b"\xff\x00", b"{"])
def test_a_torn_last_line_is_taken_away(scripted: ScriptedEngine, output: Path, tail: bytes) -> None:
    requests = lines({"id": "a", "prompt": "1?"}, {"id": "b", "prompt": "2?"})
    call("pipe", "--output", str(output), stdin=lines({"id": "a", "prompt": "1?"}))
    output.write_bytes(output.read_bytes() + tail)
    assert call("pipe", "--output", str(output), "--resume", stdin=requests).code == 0
    assert [result["id"] for result in read(output)] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "content", "code", "says"),
    [
        (("--resume",), None, 2, "--resume goes on with a file of results."),
        (("--output", "FILE", "--retry-failed"), "", 2, "--retry-failed asks again what"),
        (("--output", "FILE", "--format", "text"), None, 2, "--format text keeps no ids in the file."),
        (("--output", "FILE"), "{}\n", 2, "FILE holds results already."),
        (("--output", "FILE", "--resume"), "my notes\n", 4, "Line 1 of FILE is no result of"),
        (("--output", "FILE", "--resume"), "[1]\n", 4, "Line 1 of FILE is no result of"),
        (("--output", "FILE/x"), "", 4, "FILE/x cannot be written"),
    ],
)
def test_files_that_are_left_alone(
    scripted: ScriptedEngine, output: Path, arguments: tuple[str, ...], content: str | None, code: int, says: str
) -> None:
    if content is not None:
        output.write_text(content, encoding="utf-8")
    named = [argument.replace("FILE", str(output)) for argument in arguments]
    result = call("pipe", *named, stdin=lines({"prompt": "x"}))
    assert (result.code, result.out) == (code, "")
    assert says.replace("FILE", str(output)) in result.err
    assert "\nhint: " in result.err
    assert scripted.loads == []
    if content is not None:
        assert output.read_text(encoding="utf-8") == content


def test_two_processes_do_not_write_one_file(output: Path) -> None:
    with started({}, "pipe", "--output", str(output), stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        running.stdin.write(lines({"prompt": "x"}))
        _wait_for(output, 1)
        result = call("pipe", "--output", str(output), "--resume", stdin=b"")
        assert (result.code, result.err.splitlines()[0]) == (2, f"Another process is writing {output}.")
        running.stdin.close()
        assert running.wait(30) == 0


def test_an_interrupted_answer_is_asked_again(output: Path) -> None:
    requests = lines({"id": 1, "prompt": "Hi"}, {"id": 2, "prompt": "Hi"})
    script = {"answers": [["done"], ["word "] * 1000], "delay": 0.02}
    with started(script, "pipe", "--output", str(output), stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        running.stdin.write(requests)
        _wait_for(output, 1)
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    with started({}, "pipe", "--output", str(output), "--resume", stdin=subprocess.PIPE) as running:
        running.communicate(requests, timeout=30)
    assert [(result["id"], result["finish_reason"]) for result in read(output)] == [(1, "stop"), (2, "stop")]


def test_killed_at_random_moments_each_input_is_there_once(output: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png())
    requests = [{"id": number, "prompt": "Hi " * (number % 7), "images": [str(picture)]} for number in range(60)]
    requests += [{"prompt": f"{number % 10}"} for number in range(25)]
    dice, kills, script = random.Random(1), 0, {"answers": [["ten "] * 10], "delay": 0.001}
    for _ in range(12):
        with started(
            script, "pipe", "--output", str(output), "--resume", "--batch-size", "3", stdin=subprocess.PIPE
        ) as running:
            assert running.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                running.stdin.write(lines(*requests))
                running.stdin.close()
            before = output.stat().st_size if output.exists() else 0
            _wait_for_more(output, before, running)
            time.sleep(dice.uniform(0, 0.1))
            running.kill()
            kills += 1
            if running.wait(30) == 0:
                break
        if dice.random() < 0.5:
            # What a machine that loses power leaves: a part of the last line.
            output.write_bytes(output.read_bytes()[: -dice.randrange(1, 40)])
    assert kills > 3
    result = call_to_the_end(output, lines(*requests))
    assert result == 0
    answered = Counter(item["key"] for item in read(output))
    assert sum(answered.values()) == len(requests)
    assert [answered[f"id:{number}"] for number in range(60)] == [1] * 60
    assert sorted(count for key, count in answered.items() if key.startswith("sha256:")) == [2] * 5 + [3] * 5


def call_to_the_end(output: Path, requests: bytes) -> int:
    with started({}, "pipe", "--output", str(output), "--resume", stdin=subprocess.PIPE) as running:
        running.communicate(requests, timeout=60)
    return running.returncode


def _wait_for(output: Path, count: int) -> None:
    for _ in range(600):
        if output.exists() and output.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no result was written")


def _wait_for_more(output: Path, size: int, running: subprocess.Popen[bytes]) -> None:
    for _ in range(1500):
        if running.poll() is not None or (output.exists() and output.stat().st_size > size):
            return
        time.sleep(0.01)
