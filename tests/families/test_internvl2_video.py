"""InternVL2's choice of frames from a video file."""

from __future__ import annotations

import json

from tests.reference_cases import QWEN2, REFERENCE
from vlmchat.conversation import Video, user
from vlmchat.families.internvl2.sampling import choose_frames, frame_indices
from vlmchat.families.registry import open_checkpoint
from vlmchat.media.video import read_clip, read_frames
from vlmchat.options import VisionOptions

FILM = REFERENCE / "cogvlm2" / "video_sampling" / "s25_5s.mp4"


def test_the_frames_of_the_original_for_every_case() -> None:
    wrong = []
    for case in json.loads((REFERENCE / "internvl2/common/frame_index_cases.json").read_text()):
        first, last = 0, case["n_frames"] - 1
        if case["bound"]:
            # Seconds of a part of the film, which vlmchat does not offer; the rule behind it is the same.
            first, last = (round(second * case["fps"]) for second in case["bound"])
        if frame_indices(first, min(last, case["n_frames"] - 1), case["num_segments"]) != case["indices"]:
            wrong.append(case)
    assert not wrong


def test_a_video_file_becomes_eight_frames_of_one_tile() -> None:
    checkpoint = open_checkpoint(QWEN2 / "checkpoint")
    prompt = checkpoint.layout([user("What happens?", Video("d", FILM.name, path=FILM))], VisionOptions())
    clip = read_clip(FILM)
    assert choose_frames(clip) == frame_indices(0, 124, 8) == [7, 23, 38, 53, 69, 85, 100, 115]
    assert [picture.picture for picture in prompt.pictures] == list(read_frames(clip, tuple(choose_frames(clip))))
    assert [picture.tiles for picture in prompt.pictures] == [1] * 8
    given = Video("d", "film", read_frames(clip, tuple(choose_frames(clip))))
    assert checkpoint.layout([user("What happens?", given)], VisionOptions()) == prompt
