"""Videos through the command line: a file for the family to sample, or frames used as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.cli.harness import call
from tests.fakes import ScriptedEngine
from tests.reference_cases import REFERENCE
from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.conversation import Picture, Text, Video
from vlmchat.options import VisionOptions

pytestmark = pytest.mark.usefixtures("model")
CLIP = REFERENCE / "cogvlm2" / "video_sampling" / "s25_5s.mp4"


def test_ask_takes_a_video_before_the_text(scripted: ScriptedEngine, picture_file: Path) -> None:
    assert call("ask", "-i", str(picture_file), "--video", str(CLIP), "What happens?").code == 0
    picture, video, text = scripted.requests[-1].messages[-1].parts
    assert isinstance(picture, Picture)
    assert isinstance(video, Video)
    assert (video.name, video.frames) == (CLIP.name, ())
    assert video.digest == hashlib.sha256(CLIP.read_bytes()).hexdigest()
    assert text == Text("What happens?")


def test_pipe_takes_a_file_and_a_list_of_frames(scripted: ScriptedEngine, picture_file: Path) -> None:
    frames = [str(picture_file), str(picture_file)]
    content = [{"type": "text", "text": "Look: "}, {"type": "video", "video": frames}]
    asked = [
        {"prompt": "What happens?", "video": str(CLIP)},
        {"messages": [{"role": "user", "content": content}]},
    ]
    result = call("pipe", stdin=b"".join(json.dumps(item).encode() + b"\n" for item in asked))
    assert result.code == 0
    file, text = scripted.requests[0].messages[-1].parts
    assert isinstance(file, Video)
    assert file.path == CLIP.resolve()
    assert text == Text("What happens?")
    look, given = scripted.requests[1].messages[-1].parts
    assert look == Text("Look: ")
    assert isinstance(given, Video)
    assert [frame.name for frame in given.frames] == ["red square.png"] * 2


@pytest.mark.parametrize("video", [[], {}, 7, ["a.png", 3], ""], ids=str)
def test_what_is_no_video_is_said(video: object) -> None:
    result = call("pipe", stdin=json.dumps({"prompt": "x", "video": video}).encode() + b"\n")
    assert result.code == 8
    assert result.lines[0]["error"]["code"] in ("bad-input", "bad-video")


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a video at all")
    result = call("ask", "--video", str(tmp_path / "a.mp4"), "What?")
    assert (result.code, result.out) == (4, "")
    assert "a.mp4" in result.err


@pytest.mark.parametrize(("typed", "used"), [((), "chat"), (("--template", "vqa"), "vqa")])
def test_the_publishers_prompt_form_is_used_unless_another_is_chosen(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: tuple[str, ...], used: str
) -> None:
    target = Target("cogvlm2-video:12b-chat", tmp_path, "", template="chat")
    monkeypatch.setattr(opening, "find", lambda *_: target)
    call("ask", *typed, "Hi")
    call("pipe", *typed, stdin=b'{"prompt": "Hi"}\n')
    assert [request.vision for request in scripted.requests] == [VisionOptions(template=used)] * 2  # type: ignore[arg-type]
