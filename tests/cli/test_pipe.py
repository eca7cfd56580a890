"""``vlmchat pipe``: a result for every line, in order, whatever the line holds."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.cli.harness import call, command, started
from tests.conftest import png
from tests.fakes import ScriptedEngine
from vlmchat.chat import opening
from vlmchat.cli import requests
from vlmchat.cli.progress import LineProgress
from vlmchat.conversation import Picture, Text
from vlmchat.errors import CheckpointError, OutOfMemory
from vlmchat.settings import GENERATION_KEYS

pytestmark = pytest.mark.usefixtures("model")


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in objects)


def shown(engine: ScriptedEngine, at: int = -1) -> list[tuple[str, list[str]]]:
    """What a request was made of: role and parts, pictures by name."""
    return [
        (
            message.role,
            [
                part.name if isinstance(part, Picture) else part.text
                for part in message.parts
                if isinstance(part, Text | Picture)
            ],
        )
        for message in engine.requests[at].messages
    ]


def test_one_result_per_line_in_order(scripted: ScriptedEngine, model: str, home: Path) -> None:
    scripted.answers = [("one",), ("two",)]
    result = call("pipe", stdin=lines({"id": "a", "prompt": "1?"}, {"id": 2, "prompt": "2?"}, {"prompt": "3?"}))
    assert result.code == 0
    assert [(line["id"], line["text"]) for line in result.lines] == [("a", "one"), (2, "two"), (None, "two")]
    assert set(result.lines[0]) == {
        "id",
        "model",
        "revision",
        "text",
        "token_ids",
        "finish_reason",
        "usage",
        "timing",
        "settings",
        "chat_id",
    }
    assert result.lines[0]["model"] == model
    assert len(scripted.loads) == 1
    assert result.lines[0]["timing"]["load_s"] > 0
    assert result.lines[1]["timing"]["load_s"] == 0
    assert scripted.closed
    assert not home.exists(), "nothing is saved"


def test_plain_paths_are_asked_the_prompt(scripted: ScriptedEngine, picture_file: Path, tmp_path: Path) -> None:
    (tmp_path / "图.png").write_bytes(png())
    paths = f"{picture_file}\n\n  {tmp_path / '图.png'}\r\n".encode()
    result = call("pipe", "--prompt", "Colour?", stdin=paths)
    assert [line["id"] for line in result.lines] == [str(picture_file), str(tmp_path / "图.png")]
    assert shown(scripted) == [("user", ["图.png", "Colour?"])]
    call("pipe", stdin=paths)
    assert shown(scripted) == [("user", ["图.png", "Describe the picture."])]


def test_prompt_and_images(scripted: ScriptedEngine, picture_file: Path) -> None:
    url = "data:image/png;base64," + base64.b64encode(png("blue")).decode()
    call("pipe", stdin=lines({"prompt": "Compare.", "images": [str(picture_file), url]}, {"images": [url]}))
    assert shown(scripted, 0) == [("user", ["red square.png", "data", "Compare."])]
    assert shown(scripted, 1) == [("user", ["data", "Describe the picture."])]


def test_messages_keep_roles_and_places(scripted: ScriptedEngine, picture_file: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look: "},
                {"type": "image", "image": str(picture_file)},
                {"type": "text", "text": "what?"},
            ],
        },
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "Sure?"},
    ]
    assert call("pipe", stdin=lines({"messages": messages})).code == 0
    assert shown(scripted) == [
        ("system", ["Be brief."]),
        ("user", ["Look: ", "red square.png", "what?"]),
        ("assistant", ["Red."]),
        ("user", ["Sure?"]),
    ]


def test_a_line_may_carry_its_own_options(scripted: ScriptedEngine) -> None:
    own = {"prompt": "Hi", "max_new_tokens": 2, "temperature": 1, "max_tiles": 3, "system": "Own.", "seed": 5}
    result = call("pipe", "-s", "Common.", "--top-k", "4", stdin=lines(own, {"prompt": "Hi"}))
    first, second = scripted.requests
    assert (first.sampling.max_new_tokens, first.sampling.temperature, first.sampling.top_k) == (2, 1, 4)
    assert first.vision.max_tiles == 3
    assert (first.messages[0].text, second.messages[0].text) == ("Own.", "Common.")
    assert second.sampling.max_new_tokens == 1024
    assert result.lines[0]["settings"]["seed"] == 5
    assert result.lines[0]["settings"]["system"] == "Own."
    assert result.lines[0]["finish_reason"] == "length"


def test_a_system_message_wins_over_the_option(scripted: ScriptedEngine) -> None:
    messages = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]
    call("pipe", "-s", "Common.", stdin=lines({"messages": messages}))
    assert shown(scripted) == [("system", ["Mine."]), ("user", ["Hi"])]


USER = {"role": "user", "content": "Hi"}
BAD: list[tuple[bytes, str, str]] = [
    (b"\xff\xfe", "bad-input", "Line 2 is not UTF-8."),
    (b'{"id": 1, "prompt"', "bad-input", "Line 2 is not JSON: "),
    (b'{"prompt": NaN}', "bad-input", "NaN is no JSON number"),
    (b'{"id": ' + b"[" * 100_000, "bad-input", "Line 2 is not JSON: "),
    (b'{"prompt": "\\ud800"}', "bad-input", "half a character"),
    (lines({"prompt": "x", "tmperature": 1}), "bad-input", "Line 2 has the unknown key 'tmperature'."),
    (lines({"prompt": "x", "temperature": "hot"}), "usage", "Line 2: temperature must be a number, not 'hot'."),
    (lines({"prompt": "x", "top_p": 7}), "usage", "Line 2: top_p must be above 0 and at most 1, not 7."),
    (lines({"prompt": "x", "seed": True}), "usage", "Line 2: seed must be a whole number"),
    (lines({}), "bad-input", "Line 2 asks nothing."),
    (lines({"prompt": " "}), "bad-input", "Line 2 asks nothing."),
    (lines({"prompt": 3}), "bad-input", "Line 2 has a prompt that is no text."),
    (lines({"images": "a.png"}), "bad-input", "Line 2 has images that are no list of paths."),
    (lines({"images": [1]}), "bad-input", "Line 2 has images that are no list of paths."),
    (lines({"images": ["/nowhere.png"]}), "bad-image", "There is no file /nowhere.png."),
    (lines({"images": ["a\0b"]}), "bad-image", "is no path."),
    (lines({"images": ["http://127.0.0.1/a.png"]}), "bad-image", "leads to 127.0.0.1, an address of this machine"),
    (lines({"images": ["x" * 5000]}), "bad-image", "cannot be read"),
    (lines({"prompt": "x", "video": "a.mp4"}), "bad-video", "a.mp4 cannot be read"),
    (lines({"prompt": "x", "messages": [USER]}), "bad-input", "has messages beside a prompt, images or a video"),
    (lines({"messages": []}), "bad-input", "has messages that are no list"),
    (lines({"messages": "Hi"}), "bad-input", "has messages that are no list"),
    (lines({"messages": [{"role": "user"}]}), "bad-input", "has a message without role and content"),
    (lines({"messages": [{"role": "tool", "content": "x"}]}), "bad-input", "has a message without role and content"),
    (lines({"messages": [{"role": [], "content": "x"}]}), "bad-input", "has a message without role and content"),
    (lines({"messages": [{**USER, "name": "x"}]}), "bad-input", "has a message without role and content"),
    (lines({"messages": [{"role": "user", "content": 3}]}), "bad-input", "content is neither text nor a list"),
    (lines({"messages": [{"role": "user", "content": []}]}), "bad-input", "content is neither text nor a list"),
    (lines({"messages": [{"role": "user", "content": ["x"]}]}), "bad-input", "a part of a message that is no text"),
    (lines({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "bad-input", "a part of a message"),
    (lines({"messages": [{"role": "user", "content": [{"type": "image", "image": 3}]}]}), "bad-input", "a part of"),
    (
        lines({"messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]}),
        "bad-video",
        "a.mp4 cannot be read",
    ),
    (lines({"messages": [USER, {"role": "system", "content": "x"}, USER]}), "bad-input", "that is not the first"),
    (lines({"messages": [{"role": "system", "content": "x"}]}), "bad-input", "Line 2 asks nothing."),
    (b"/nowhere/plain.png", "bad-image", "There is no file /nowhere/plain.png."),
    (b"[1, 2]", "bad-image", "There is no file [1, 2]."),
]


@pytest.mark.parametrize(("bad", "code", "says"), BAD, ids=range(len(BAD)))
def test_a_bad_line_is_an_error_object_and_the_next_goes_on(
    scripted: ScriptedEngine, bad: bytes, code: str, says: str
) -> None:
    good = lines({"id": "good", "prompt": "Hi"})
    result = call("pipe", stdin=good + bad.rstrip(b"\n") + b"\n" + good)
    assert result.code == 8
    first, error, last = result.lines
    assert (first["id"], last["id"]) == ("good", "good")
    assert set(error) == {"id", "error"}
    assert set(error["error"]) == {"code", "message", "hint"}
    assert error["error"]["code"] == code
    assert says in error["error"]["message"]
    assert error["error"]["hint"]


def test_errors_carry_the_id(scripted: ScriptedEngine) -> None:
    scripted.answers = [OutOfMemory("Full.", "Ask less."), ("fine",)]
    result = call("pipe", stdin=lines({"id": "a", "prompt": "Hi"}, {"id": "b", "x": 1}, {"id": [1], "prompt": "Hi"}))
    assert result.lines[0] == {"id": "a", "error": {"code": "out-of-memory", "message": "Full.", "hint": "Ask less."}}
    assert result.lines[1]["id"] == "b"
    assert (result.lines[2]["id"], result.lines[2]["text"]) == (None, "fine")
    assert result.code == 8


@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
def test_an_id_json_cannot_say_is_null(scripted: ScriptedEngine, number: bytes) -> None:
    assert call("pipe", stdin=b'{"id": ' + number + b', "prompt": "x"}').lines[0]["id"] is None


def test_text_format_is_the_texts_alone(scripted: ScriptedEngine) -> None:
    result = call("pipe", "--format", "text", stdin=lines({"prompt": "Hi"}) + b"{\n" + lines({"prompt": "Hi"}))
    assert (result.code, result.out) == (8, "A red circle.\nA red circle.\n")
    assert result.err.startswith("line 2: Line 2 is not JSON")


def test_a_line_that_is_too_long_is_skipped_whole(scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LONGEST_LINE", 100)
    long = lines({"id": "long", "prompt": "x" * 5000})
    exact = b'{"prompt": "' + b"y" * 85 + b'"}\n'
    assert len(exact) == 100
    result = call("pipe", stdin=long + exact + long.rstrip(b"\n"))
    assert [line.get("error", {}).get("message", "fine") for line in result.lines] == [
        "Line 1 is longer than 100 bytes.",
        "fine",
        "Line 3 is longer than 100 bytes.",
    ]


def test_what_ends_the_whole_run(scripted: ScriptedEngine) -> None:
    assert call("pipe", "-m", "nothing:1b", stdin=lines({"prompt": "Hi"})).code == 3
    assert call("pipe", "--format", "xml", stdin=b"").code == 2
    scripted.load_error = CheckpointError("Broken.", "Fetch it again.")
    result = call("pipe", stdin=lines({"prompt": "Hi"}))
    assert (result.code, result.out, result.err) == (7, "", "Broken.\nhint: Fetch it again.\n")


@pytest.mark.parametrize("stdin", [b"", b"\n\n  \n"])
def test_nothing_in_nothing_out_and_nothing_loaded(scripted: ScriptedEngine, stdin: bytes) -> None:
    result = call("pipe", stdin=stdin)
    assert (result.code, result.out, scripted.loads) == (0, "", [])


def test_results_are_flushed_as_they_come() -> None:
    with started({}, "pipe", stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for number in range(3):
            running.stdin.write(lines({"id": number, "prompt": "Hi"}))
            readable, _, _ = select.select([running.stdout], [], [], 30)
            assert readable, "a line was answered before the next one came"
            assert json.loads(os.read(running.stdout.fileno(), 100_000))["id"] == number
        running.stdin.close()
        assert running.wait(30) == 0


def test_ctrl_c_writes_what_the_line_had_so_far() -> None:
    script = {"answers": [["done"], ["word "] * 1000], "delay": 0.02}
    with started(script, "pipe", stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(lines({"id": 1, "prompt": "Hi"}, {"id": 2, "prompt": "Hi"}, {"id": 3, "prompt": "Hi"}))
        assert json.loads(os.read(running.stdout.fileno(), 100_000))["text"] == "done"
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(0.3)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    value = json.loads(out)
    assert (value["id"], value["finish_reason"]) == (2, "interrupted")
    assert value["text"].startswith("word word")


def test_ctrl_c_while_waiting_for_a_line() -> None:
    with started({}, "pipe", stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(lines({"prompt": "Hi"}))
        os.read(running.stdout.fileno(), 100_000)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130


def test_a_closed_pipe_is_quiet() -> None:
    with started({}, "pipe", stdin=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        _, err = running.communicate(lines({"prompt": "Hi"}) * 3, timeout=30)
    assert running.returncode == 141
    assert err == b""


def test_memory_stays_flat(picture_file: Path, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        """Kilobytes that this one process held at most."""
        requests_file = tmp_path / "requests.jsonl"
        requests_file.write_bytes(lines({"prompt": "Hi " * 50, "images": [str(picture_file)]}) * count)
        with requests_file.open("rb") as stdin:
            running = subprocess.Popen(command({}, "pipe"), stdin=stdin, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        assert running.returncode == 0
        return used.ru_maxrss

    assert peak(3000) - peak(10) < 10_000


def test_a_bad_line_is_answered_at_once_even_behind_a_slow_source() -> None:
    with started({}, "pipe", "--batch-size", "4", stdin=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for number in range(4):
            running.stdin.write(lines({"id": number, "colour" if number % 2 else "prompt": "Hi"}))
            readable, _, _ = select.select([running.stdout], [], [], 30)
            assert readable, "nothing waits for a batch to fill"
            assert json.loads(os.read(running.stdout.fileno(), 100_000))["id"] == number
        running.stdin.close()
        assert running.wait(30) == 8


def test_a_batch_keeps_the_order_and_each_line_its_own_error(scripted: ScriptedEngine) -> None:
    scripted.answers = [["slow"] * 50, OutOfMemory("Full.", "Ask less."), ["a", "b"], ["c"]]
    asked = [{"id": number, "prompt": "Hi"} for number in range(4)]
    result = call("pipe", "--batch-size", "3", stdin=lines(*asked[:2], {"id": "bad"}, *asked[2:]))
    assert result.code == 8
    assert [line["id"] for line in result.lines] == [0, 1, "bad", 2, 3]
    assert [line.get("text", "")[:4] for line in result.lines] == ["slow", "", "", "ab", "c"]
    assert result.lines[1]["error"]["code"] == "out-of-memory"
    assert result.lines[0]["timing"]["load_s"] > 0
    assert call("pipe", "--batch-size", "0", stdin=b"").code == 2


def test_answers_are_held_to_a_schema(scripted: ScriptedEngine) -> None:
    scripted.answers = [['{"n": ', "3", "}"], ["{"]]
    result = call("pipe", "--schema", "n int", stdin=lines({"id": 1, "prompt": "Hi"}, {"id": 2, "prompt": "Hi"}))
    assert result.code == 8
    assert (result.lines[0]["value"], set(result.lines[0]["probabilities"])) == ({"n": 3}, {"n"})
    assert result.lines[1]["error"]["code"] == "schema"
    assert json.loads(str(scripted.requests[0].schema))["required"] == ["n"]
    assert call("pipe", "--schema", "{", stdin=b"").code == 2


def test_progress_has_rate_and_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 110.0])
    monkeypatch.setattr("vlmchat.cli.progress.time.monotonic", lambda: next(clock))
    progress = LineProgress(1000)
    progress.skip(100)
    progress.begin()
    assert progress.text == "0 lines, 0.0 a second"
    for end in (120, 150):
        progress.count(end, failed=end == 150)
    assert progress.text == "2 lines, 1 failed, 0.2 a second, 0:02:50 left"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [*sorted(requests._OWN_KEYS | GENERATION_KEYS), "colour"]
near_misses = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4).map(
    lambda item: json.dumps(item).encode()
)
any_line = st.binary(max_size=60) | near_misses | st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace"))


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(any_line, max_size=4))
@example([b"{}", b"\x00", b"{", b"\xef\xbb\xbf{}", b'{"id": "\\u0000", "prompt": "x"}'])
@example([b"/dev/null", b".", b"~", b"~no-such-user/x", b"data:", b"data:;base64,"])
def test_any_bytes_in_never_a_crash_never_a_lost_line(
    monkeypatch: pytest.MonkeyPatch, given_lines: list[bytes]
) -> None:
    monkeypatch.setattr(opening, "create_engine", lambda **_: ScriptedEngine())
    stdin = b"\n".join(given_lines)
    result = call("pipe", stdin=stdin)
    wanted = sum(1 for line in stdin.split(b"\n") if line.strip())
    assert len(result.lines) == wanted, result.err
    assert result.out.count("\n") == wanted
    failed = sum("error" in line for line in result.lines)
    assert result.code == (8 if failed else 0)
    assert result.err == ""
