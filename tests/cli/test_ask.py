"""``vlmchat ask``: what is asked, what is written where, and what is kept."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event as CancelEvent
from typing import Any

import pytest
from PIL import Image

from tests.cli.harness import call, on_terminal, process, started
from tests.conftest import png
from tests.fakes import ScriptedEngine
from vlmchat.chat import opening
from vlmchat.conversation import Picture, Text
from vlmchat.engine.events import Loading
from vlmchat.errors import CheckpointError, ContextOverflow, DownloadError, OutOfMemory, VlmchatError
from vlmchat.options import LoadOptions
from vlmchat.store.chats import ChatStore
from vlmchat.store.model import Turn

pytestmark = pytest.mark.usefixtures("model")
SLOW: dict[str, Any] = {"answers": [["One ", "two ", "three."] * 30], "delay": 0.05}


def parts(engine: ScriptedEngine) -> list[str]:
    """What the last question was made of: pictures by name, texts as they are."""
    last = engine.requests[-1].messages[-1]
    return [
        part.name if isinstance(part, Picture) else part.text if isinstance(part, Text) else "" for part in last.parts
    ]


def branch() -> tuple[Turn, ...]:
    """The latest chat on disk."""
    latest = ChatStore().latest()
    assert latest is not None
    return ChatStore().chat(latest.id).branch()


def test_the_answer_and_nothing_else(scripted: ScriptedEngine) -> None:
    result = call("ask", "What is this?")
    assert (result.code, result.out, result.err) == (0, "A red circle.\n", "")
    assert scripted.closed
    assert [turn.message.text for turn in branch()] == ["What is this?", "A red circle."]


@pytest.mark.parametrize(
    "answer",
    [
        ["  Hello", " ", "world", " \n"],
        ["\n\n", "one\n", "\n", "two", "\n"],
        ["", "x", ""],
        ["   "],
        [],
        ["中文", "，好"],
    ],
)
def test_streamed_and_whole_are_the_same(scripted: ScriptedEngine, answer: list[str]) -> None:
    scripted.answers = [answer]
    streamed, whole = call("ask", "Hi"), call("ask", "Hi", "--no-stream")
    assert streamed.out == whole.out
    assert streamed.out.strip() == "".join(answer).strip()


def test_pictures_stand_in_order_before_the_text(scripted: ScriptedEngine, picture_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "no extension"
    other.write_bytes(png("blue"))
    call("ask", "Compare.", "-i", str(picture_file), "--image", "-", "-i", str(other), stdin=png("green"))
    assert parts(scripted) == ["red square.png", "stdin", "no extension", "Compare."]


def test_a_picture_without_a_prompt_is_described(scripted: ScriptedEngine, picture_file: Path) -> None:
    call("ask", "-i", str(picture_file))
    assert parts(scripted) == ["red square.png", "Describe the picture."]


def test_a_picture_on_stdin_needs_no_name(scripted: ScriptedEngine, picture_file: Path) -> None:
    call("ask", "Compare.", "-i", str(picture_file), stdin=png("green"))
    assert parts(scripted) == ["stdin", "red square.png", "Compare."]
    call("ask", "-i", "-[1,1,3,2]", "-i", f"{picture_file}[0,0,0.5,0.5]", stdin=png("green"))
    assert parts(scripted) == ["stdin[1,1,3,2]", "red square.png[0,0,0.5,0.5]", "Describe the picture."]
    assert [(p.width, p.height) for p in scripted.requests[-1].messages[-1].pictures] == [(3, 2), (4, 3)]


def test_a_data_url_is_a_picture(scripted: ScriptedEngine) -> None:
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    assert call("ask", "-i", url, "Colour?").code == 0
    assert parts(scripted) == ["data", "Colour?"]


def test_stdin_text_comes_before_the_prompt(scripted: ScriptedEngine) -> None:
    call("ask", "Sum it up.", stdin="some notes\nin 中文\n".encode())
    assert parts(scripted) == ["some notes\nin 中文\n\nSum it up."]
    call("ask", stdin=b"only this")
    assert parts(scripted) == ["only this"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        ((), b"", 2, "There is nothing to ask."),
        (("-i", "-", "-i", "-"), b"", 2, "Stdin can be only one picture."),
        (("Hi", "-c", "--chat", "a"), b"", 2, "--continue and --chat both name a chat."),
        (("Hi", "-c", "--no-save"), b"", 2, "--no-save cannot go on with a saved chat."),
        (("Hi", "-c"), b"", 4, "There is no chat to go on with yet."),
        (("Hi", "--chat", "abc"), b"", 4, "There is no chat 'abc'."),
        (("Hi", "--temperature", "hot"), b"", 2, "--temperature must be a number, not 'hot'."),
        (("Hi", "--top-p", "2"), b"", 2, "--top-p must be above 0 and at most 1, not 2.0."),
        (("Hi", "--config", "/nowhere.toml"), b"", 2, "There is no file /nowhere.toml."),
        (("Hi", "--colour"), b"", 2, "No such option"),
        (("Hi", "there"), b"", 2, "Got unexpected extra argument"),
        (("Hi", "-m", "internvl2:9b"), b"", 3, "There is no model 'internvl2:9b'."),
        (("Hi", "-m", "internvl2:1b"), b"", 3, "InternVL2-1B is not on this machine."),
        (("-i", "/nowhere.png"), b"", 4, "There is no file /nowhere.png."),
        (("-i", "http://127.0.0.1/x.png"), b"", 4, "http://127.0.0.1/x.png leads to 127.0.0.1, an address of this"),
        (("-i", "http://127.0.0.1:9/x.png", "--private-urls"), b"", 6, "http://127.0.0.1:9/x.png cannot be fetched"),
        (("-i", "https://e.test/x.png", "--offline"), b"", 4, "https://e.test/x.png is on the web, and --offline"),
        (("-i", "-[0,0,9,9]"), png(), 4, "The box [0,0,9,9] is not inside a picture of 8 x 6 pixels."),
        (("-i", "-"), b"no picture", 4, "stdin is not a picture this program can read."),
        (("-i", "data:image/png,x"), b"", 4, "A data: URL has no ;base64, part."),
        (("-i", "data:image/png;base64,%%"), b"", 4, "A data: URL holds no valid base64."),
        (("-i", ""), b"", 4, "'' is no path."),
        (("Hi",), b"\xff\xfe", 4, "Stdin is neither UTF-8 text nor a picture"),
    ],
)
def test_what_cannot_be_asked(
    scripted: ScriptedEngine, home: Path, arguments: tuple[str, ...], stdin: bytes, code: int, says: str
) -> None:
    result = call("ask", *arguments, stdin=stdin)
    assert result.code == code, result.err
    assert result.out == ""
    assert result.err.startswith(says), result.err
    assert "\nhint: " in result.err
    assert "Traceback" not in result.err
    assert scripted.requests == []
    assert not home.exists(), "nothing is saved of a question that was not asked"


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (ContextOverflow("It is 2000 tokens, the model takes 1000.", "Ask less."), 4),
        (OutOfMemory("Memory ran out.", "Close something."), 5),
        (DownloadError("The line broke.", "Try again."), 6),
    ],
)
def test_errors_of_an_answer_and_their_codes(scripted: ScriptedEngine, problem: VlmchatError, code: int) -> None:
    scripted.answers = [problem]
    result = call("ask", "Hi")
    assert (result.code, result.out) == (code, "")
    assert result.err == f"{problem.message}\nhint: {problem.hint}\n"
    assert [turn.status for turn in branch()] == ["failed"]
    assert scripted.closed


def test_a_checkpoint_that_is_refused(scripted: ScriptedEngine, home: Path) -> None:
    scripted.load_error = CheckpointError("Two tensors are missing.", "Fetch it again.")
    assert call("ask", "Hi").code == 7
    assert not home.exists()


def test_an_error_nobody_foresaw_says_how_to_report_it(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*given: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(scripted, "generate", bug)
    result = call("ask", "Hi")
    assert result.code == 1
    assert result.err.startswith("vlmchat met an error it does not know: ZeroDivisionError: division by zero.\nhint: ")
    assert "Traceback" not in result.err
    for verbose in (("ask", "Hi", "-v"), ("-v", "ask", "Hi")):
        assert "Traceback" in call(*verbose).err


def test_json_is_exactly_the_promised_object(scripted: ScriptedEngine, model: str, picture_file: Path) -> None:
    result = call("ask", "-i", str(picture_file), "What?", "--json", "--seed", "7", "-s", "Be brief.")
    value = result.json
    assert result.out.count("\n") == 1
    assert set(value) == {
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
    assert (value["model"], value["revision"]) == (model, "f" * 64)
    assert (value["text"], value["token_ids"], value["finish_reason"]) == ("A red circle.", [1, 2, 3], "stop")
    assert set(value["usage"]) == {"prompt_tokens", "image_tokens", "completion_tokens"}
    assert set(value["timing"]) == {
        "load_s",
        "image_s",
        "prefill_s",
        "first_token_s",
        "total_s",
        "decode_tokens_per_s",
    }
    assert value["timing"]["load_s"] > 0
    assert value["settings"]["seed"] == 7
    assert value["settings"]["system"] == "Be brief."
    assert set(value["settings"]) >= {"device", "dtype", "quantization", "max_tiles", "temperature", "max_new_tokens"}
    last = branch()[-1]
    assert (value["id"], value["chat_id"]) == (last.id, last.chat_id)


def test_an_answer_is_held_to_a_schema(scripted: ScriptedEngine) -> None:
    scripted.answers = [['{"total": ', "1.5}"], ['{"total"']]
    value = call("ask", "Hi", "--schema", "total float", "--json").json
    assert (value["value"], list(value["probabilities"])) == ({"total": 1.5}, ["total"])
    assert json.loads(str(scripted.requests[0].schema))["properties"] == {"total": {"type": "number"}}
    result = call("ask", "Hi", "--schema", "total float")
    assert (result.code, result.out) == (9, '{"total"\n')
    assert result.err.startswith("The answer ended before it had the shape of the schema.\nhint: ")
    assert branch()[-1].message.text == '{"total"', "what was said is kept"
    assert call("ask", "Hi", "--schema", "total euro").code == 2


def test_no_save_leaves_nothing(scripted: ScriptedEngine, home: Path) -> None:
    value = call("ask", "Hi", "--no-save", "--json").json
    assert value["chat_id"] is None
    assert value["text"] == "A red circle."
    assert not home.exists()
    assert scripted.requests[-1].private
    call("ask", "Hi")
    assert not scripted.requests[-1].private


@pytest.mark.parametrize(("chosen", "given"), [(None, 1000), ("20", 20), ("0", 0)])
def test_the_engine_is_told_what_features_may_take(
    chosen: str | None, given: int, scripted: ScriptedEngine, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def create(interactive: bool, feature_cache: int) -> ScriptedEngine:
        told.append(feature_cache)
        return scripted

    monkeypatch.setattr(opening, "create_engine", create)
    if chosen is not None:
        monkeypatch.setenv("VLMCHAT_FEATURE_CACHE", chosen)
    assert call("ask", "Hi").code == 0
    assert told == [given]


def test_continuing_a_chat(scripted: ScriptedEngine, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call("ask", "First", "-s", "Be brief.")
    chat = ChatStore().chats()[0].id
    monkeypatch.setenv("VLMCHAT_MODEL", "internvl2:1b")
    call("ask", "Second", "-c")
    assert [message.text for message in scripted.requests[-1].messages] == [
        "Be brief.",
        "First",
        "A red circle.",
        "Second",
    ], "the chat's own model and system prompt go on"
    call("ask", "Elsewhere", "-m", model)
    call("ask", "Third", "--chat", chat[:6], "-m", model)
    assert len(ChatStore().chat(chat).branch()) == 6
    assert len(ChatStore().chats()) == 2


def test_options_reach_the_engine_from_every_place(
    scripted: ScriptedEngine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = home / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("top_k = 5\nmax_tiles = 3\ndtype = 'float32'\n", encoding="utf-8")
    monkeypatch.setenv("VLMCHAT_TOP_P", "0.9")
    call("--temperature", "0.7", "ask", "Hi", "--max-new-tokens", "2", "--device", "cpu", "--quantization", "8-bit")
    request, (_, load) = scripted.requests[-1], scripted.loads[-1]
    assert (request.sampling.top_k, request.sampling.top_p, request.sampling.temperature) == (5, 0.9, 0.7)
    assert (request.sampling.max_new_tokens, request.vision.max_tiles) == (2, 3)
    assert (load.dtype, load.device, load.quantization) == ("float32", "cpu", "8-bit")


def test_a_pipe_gets_the_text_as_it_is_and_a_terminal_nothing_it_would_obey() -> None:
    script = {"answers": [["\x1b]0;owned\x07", "A \x1b[31mred\x9b0m ", "\u202ecircle\u202c."]]}
    assert process(script, "ask", "Hi").out == "\x1b]0;owned\x07A \x1b[31mred\x9b0m \u202ecircle\u202c.\n"
    code, seen = on_terminal(script, "ask", "-q", "Hi")
    assert (code, seen) == (0, "]0;ownedA [31mred0m circle.\r\n")


def test_json_on_a_terminal_is_harmless_too() -> None:
    code, seen = on_terminal({"answers": [["\x9b0m\u202e中"]]}, "ask", "-q", "Hi", "--json")
    assert code == 0
    assert "\x9b" not in seen
    assert "\u202e" not in seen
    assert json.loads(seen)["text"] == "\x9b0m\u202e中"


def test_progress_goes_to_the_terminal_and_away_again(picture_file: Path) -> None:
    _, seen = on_terminal({}, "ask", "-i", str(picture_file), "What?")
    assert "Loading the weights: 1.0 kB of 1.0 kB" in seen
    assert "Looking at picture 1 of 1: tile 1 of 1" in seen
    assert seen.endswith("\r\x1b[KA red.\r\n")
    assert process({}, "ask", "Hi").err == ""


def test_a_cut_answer_is_noted_on_a_terminal() -> None:
    _, seen = on_terminal({"answers": [["a", "b", "c"]]}, "ask", "Hi", "--max-new-tokens", "2")
    assert "The answer was cut at --max-new-tokens 2." in seen


def test_ctrl_c_keeps_the_partial_answer() -> None:
    with started(SLOW, "ask", "Hi", stdin=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        begun = running.stdout.read(4)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    text = (begun + out).decode()
    assert text.startswith("One")
    assert text.endswith("\n")
    assert err == b""
    turns = branch()
    assert [turn.status for turn in turns] == ["complete", "interrupted"]
    assert turns[1].message.text == text.strip()


def test_ctrl_c_with_json_gives_the_object() -> None:
    with started({**SLOW, "answers": [["word "] * 1000]}, "ask", "Hi", "--json", stdin=subprocess.DEVNULL) as running:
        _wait_for_chat()
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert json.loads(out)["finish_reason"] == "interrupted"


class Interrupted(ScriptedEngine):
    """Gets Ctrl-C ``presses`` times while it loads."""

    presses = 1

    def load(self, folder: Path, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
        yield Loading("libraries")
        for _ in range(self.presses):
            signal.raise_signal(signal.SIGINT)
        yield from super().load(folder, options, cancel)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_loading(presses: int, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    engine = Interrupted()
    engine.presses = presses
    monkeypatch.setattr(opening, "create_engine", lambda **_: engine)
    before = signal.getsignal(signal.SIGINT)  # a job in the background of a script begins with SIG_IGN
    result = call("ask", "Hi")
    assert (result.code, result.out, result.err) == (130, "", "")
    assert engine.closed
    assert not home.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_closed_pipe_is_quiet_and_keeps_what_was_said() -> None:
    with started(SLOW, "ask", "Hi", stdin=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        running.stdout.read(4)
        running.stdout.close()
        assert running.wait(30) == 141
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert branch()[-1].status == "interrupted"


def test_stdout_that_was_never_open() -> None:
    finished = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m vlmchat models >&-"], capture_output=True, check=False, timeout=60
    )
    assert (finished.returncode, finished.stderr) == (141, b"")


def test_a_turned_jpeg_is_upright(scripted: ScriptedEngine, tmp_path: Path) -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 4)).save(stream, "JPEG", exif=exif)
    path = tmp_path / "phone.jpg"
    path.write_bytes(stream.getvalue())
    call("ask", "-i", str(path))
    picture = scripted.requests[-1].messages[-1].pictures[0]
    assert (picture.width, picture.height) == (4, 8)


def _wait_for_chat() -> None:
    for _ in range(600):
        if ChatStore().latest() is not None:
            return
        time.sleep(0.05)
    raise AssertionError("the question was never saved")


def test_an_answer_cut_before_it_had_its_shape_is_still_given(scripted: ScriptedEngine) -> None:
    scripted.answers = [['{"colour": "re']]
    result = call("ask", "--no-save", "--json", "--schema", "colour", "What colour?")
    assert result.code == 9
    assert json.loads(result.out)["text"] == '{"colour": "re'
    assert "value" not in json.loads(result.out)
