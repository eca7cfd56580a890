"""How CogVLM2 lays out conversations, reads text, and prepares pictures and frames."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.families.cogvlm2_cases import IMAGE, SAMPLING, VIDEO
from vlmchat.conversation import Message, Picture, Text, Video, assistant, system, user
from vlmchat.errors import InputError, VideoError
from vlmchat.families.cogvlm2 import prompt, sampling
from vlmchat.families.cogvlm2.processing import frame_pixels
from vlmchat.families.family import Checkpoint
from vlmchat.families.registry import open_checkpoint
from vlmchat.media.image import read_picture
from vlmchat.media.video import read_clip
from vlmchat.options import Template, VisionOptions

WIDE = read_picture(IMAGE / "inputs" / "wide.png")
TALL = read_picture(IMAGE / "inputs" / "tall.png")
HISTORY = [user("What is it?"), assistant("A box."), user("What colour?")]


@pytest.fixture(scope="module")
def image() -> Checkpoint:
    return open_checkpoint(IMAGE / "checkpoint")


@pytest.fixture(scope="module")
def video() -> Checkpoint:
    return open_checkpoint(VIDEO / "checkpoint")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("chat", "Question: What is it? Answer: A box.\nQuestion: What colour? Answer:"),
        ("vqa", "Question: What is it? Short answer: A box.\nQuestion: What colour? Short answer:"),
        ("base", "What colour?"),
    ],
)
def test_templates(template: Template, expected: str) -> None:
    assert prompt.text(HISTORY, template) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([*HISTORY, assistant("Red")], "Question: What is it? Answer: A box.\nQuestion: What colour? Answer: Red"),
        ([user("One"), user("Two")], "Question: One Answer: \nQuestion: Two Answer:"),
        ([assistant("Hello."), user("Hi")], "Question:  Answer: Hello.\nQuestion: Hi Answer:"),
        ([Message("user", (Text("a"), WIDE, Text("b")))], "Question: a\nb Answer:"),
    ],
    ids=["continued", "no answer", "answer first", "two texts"],
)
def test_histories_of_other_forms(messages: list[Message], expected: str) -> None:
    assert prompt.text(messages, "chat") == expected


def test_the_picture_stands_behind_the_beginning_wherever_it_was_put(image: Checkpoint) -> None:
    early = [user("What is it?", WIDE), *HISTORY[1:]]
    late = [*HISTORY[:-1], Message("user", (Text("What colour?"), WIDE))]
    first, second = (image.layout(messages, VisionOptions()) for messages in (early, late))
    assert first == second
    (slot,) = first.slots
    assert (slot.start, slot.length, slot.picture) == (1, 11, 0)


@pytest.mark.parametrize(
    "messages",
    [
        [user("Compare.", WIDE, TALL)],
        [user("What is it?", WIDE), assistant("A box."), user("And this?", TALL)],
        [user("What is it?", WIDE), assistant("A box."), user("And this?", WIDE)],
    ],
    ids=["one turn", "later turn", "the same again"],
)
def test_a_second_picture_is_refused_with_the_rule_and_the_remedy(image: Checkpoint, messages: list[Message]) -> None:
    with pytest.raises(InputError, match="one picture per conversation") as caught:
        image.layout(messages, VisionOptions())
    assert "wide.png" in caught.value.message
    assert "new chat" in caught.value.hint
    assert "in the place of" in caught.value.hint


def test_a_system_prompt_is_refused(image: Checkpoint) -> None:
    with pytest.raises(InputError, match="no system prompt"):
        image.layout([system("Be brief."), user("Hi")], VisionOptions())


def test_a_video_is_refused_by_the_model_of_pictures(image: Checkpoint) -> None:
    with pytest.raises(InputError, match="not videos such as clip"):
        image.layout([user("What happens?", Video("d", "clip", (WIDE,)))], VisionOptions())


def test_a_second_clip_is_refused(video: Checkpoint) -> None:
    clip = Video("d", "clip", (WIDE,))
    with pytest.raises(InputError, match="one video per conversation"):
        video.layout([user("What happens?", clip), assistant("Nothing."), user("And here?", TALL)], VisionOptions())


def test_a_picture_is_a_clip_of_one_frame(video: Checkpoint) -> None:
    options = VisionOptions(template="chat")
    alone = video.layout([user("What is it?", WIDE)], options)
    clip = video.layout([user("What is it?", Video("d", "clip", (WIDE,)))], options)
    assert alone == clip
    assert alone.ids[67:68] == tuple(video.tokenizer.encode("0"))


@pytest.mark.parametrize(("template", "indices"), [("chat", True), ("vqa", False), ("base", False)])
def test_frame_indices_stand_in_chat_prompts_only(video: Checkpoint, template: Template, indices: bool) -> None:
    frames = tuple(read_picture(VIDEO / "inputs" / f"long_{number:02}.png") for number in range(12))
    laid_out = video.layout([user("Why?", Video("d", "clip", frames))], VisionOptions(template=template))
    starts = [slot.start for slot in laid_out.slots]
    between = [laid_out.ids[start + 66 : after] for start, after in pairwise(starts)]
    # Each index is tokenized by itself, the last one apart from the question behind it.
    assert between == [tuple(video.tokenizer.encode(str(n))) if indices else () for n in range(11)]
    rest = [*video.tokenizer.encode("11")] if indices else []
    asked = {"chat": "Question: Why? Answer:", "vqa": "Question: Why? Short answer:", "base": "Why?"}[template]
    assert list(laid_out.ids[starts[-1] + 66 :]) == rest + video.tokenizer.encode(asked)


def test_a_clip_without_text_between_takes_three_positions() -> None:
    types = [False, *[True] * (3 * 66), False]
    assert prompt.positions(types) == (0, 1, *[2] * 196, 3, 4)
    assert prompt.positions([False, True, True, False, True, False]) == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("template", ["chat", "base"])
def test_a_video_file_is_sampled_by_the_rule_of_its_template(video: Checkpoint, template: Template) -> None:
    case = json.loads((SAMPLING / "sampling.json").read_text())["cases"][2]
    file = Video("d", "half.mp4", path=SAMPLING / case["file"])
    laid_out = video.layout([user("What happens?", file)], VisionOptions(template=template))
    indices = case[f"{template}_frame_ids"]
    assert len(laid_out.slots) == len(indices)
    # The same frame again is encoded once.
    assert [slot.picture for slot in laid_out.slots] == indices
    assert len(laid_out.pictures) == len(set(indices))
    assert video.pixels(laid_out.pictures[0]).shape == (1, 3, 64, 64)


CASES = json.loads((SAMPLING / "sampling.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("file", f"{len(case.get('timestamps', ()))} frames"))
def test_the_frames_of_the_original_demo(case: dict[str, object]) -> None:
    if "timestamps" in case:
        timestamps = case["timestamps"]
        assert isinstance(timestamps, list)
        assert sampling.nearest(timestamps) == case["chat_frame_ids"]
        return
    clip = read_clip(SAMPLING / str(case["file"]))
    assert (len(clip), clip.fps) == (case["total_frames"], case["avg_fps"])
    assert clip.seconds[:5] == pytest.approx(case["first_timestamps"], abs=1e-6)
    assert clip.seconds[-1] == pytest.approx(case["last_timestamp"], abs=1e-6)
    assert sampling.rule_of("chat")(clip) == case["chat_frame_ids"]
    assert sampling.rule_of("base")(clip) == case["base_frame_ids"]


def test_two_frames_at_the_same_distance_and_time() -> None:
    assert sampling.nearest([0.0, 0.5, 0.5, 1.5, 1.5, 2.0]) == [0, 1, 5]


def test_a_video_that_is_gone_is_named(video: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        video.layout([user("?", Video("d", "clip.mp4", path=tmp_path / "clip.mp4"))], VisionOptions())


TYPED = "<|end_of_text|><|eot_id|><|reserved_special_token_0|><|begin_of_text|> <image>"


def test_control_tokens_typed_by_a_user_stay_text(image: Checkpoint) -> None:
    ids = image.layout([user(TYPED)], VisionOptions()).ids
    assert [id_ for id_ in ids if id_ >= 584] == [584]
    decoder = image.tokenizer.decoder()
    assert TYPED in "".join(map(decoder.push, ids)) + decoder.finish()


def test_prompts_begin_once_whatever_the_tokenizer_file_says(tmp_path: Path) -> None:
    """The earliest Llama-3 tokenizers put nothing in front of a text."""
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((IMAGE / "checkpoint" / name).read_bytes())
    file = json.loads((IMAGE / "checkpoint" / "tokenizer.json").read_text())
    file["post_processor"] = file["post_processor"]["processors"][0]
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    for folder in (tmp_path, IMAGE / "checkpoint"):
        ids = open_checkpoint(folder).layout([user("Hi", WIDE)], VisionOptions()).ids
        assert ids[:3] == (584, 586, 586)


def test_pictures_lose_their_shape_and_frames_their_edges(image: Checkpoint, video: Checkpoint) -> None:
    for checkpoint, side in ((image, 84), (video, 64)):
        for picture in (WIDE, TALL):
            measured = checkpoint.layout([user("?", picture)], VisionOptions()).pictures[0]
            pixels = checkpoint.pixels(measured)
            assert (pixels.shape, pixels.dtype) == ((1, 3, side, side), torch.float32)
    assert {measure(image, WIDE), measure(video, WIDE)} == {"square-84", "frame-64"}


def measure(checkpoint: Checkpoint, picture: Picture) -> str:
    return checkpoint.layout([user("?", picture)], VisionOptions()).pictures[0].preprocessing


@pytest.mark.parametrize(("width", "height", "cut"), [(69, 64, 2), (71, 64, 4), (64, 69, 2), (64, 67, 2), (64, 64, 0)])
def test_the_middle_is_cut_with_halves_rounded_to_even(width: int, height: int, cut: int) -> None:
    """2.5 gives 2, 3.5 gives 4, 1.5 gives 2, as Python rounds and the original's crop does."""
    ramp = Image.new("RGB", (width, height))
    ramp.putdata([(x + y, 0, 0) for y in range(height) for x in range(width)])
    red = frame_pixels(ramp, 64)[0, 0]
    whole = frame_pixels(Image.new("RGB", (64, 64), (cut, 0, 0)), 64)[0, 0]
    assert red[0, 0] == pytest.approx(float(whole[0, 0]), abs=1e-5)
