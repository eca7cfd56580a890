"""The sentences ``show`` prints, held against what the families do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.harness import call
from tests.hub.test_local import fill
from tests.reference_cases import QWEN2, REFERENCE
from vlmchat.catalog.index import catalog
from vlmchat.conversation import Message, Picture, Text, Video, assistant, system, user
from vlmchat.errors import InputError
from vlmchat.families.family import Checkpoint
from vlmchat.families.registry import load_family, open_checkpoint
from vlmchat.families.rules import (
    COGVLM2,
    COGVLM2_VIDEO,
    COGVLM2_VIDEO_BASE,
    INTERNVL2,
    OVIS2,
    Rules,
    rules_of,
    rules_of_folder,
)
from vlmchat.media.image import read_picture
from vlmchat.options import VisionOptions

FOLDERS = {
    "internvl2": QWEN2 / "checkpoint",
    "ovis2": REFERENCE / "ovis2" / "ovis2_tied" / "checkpoint",
    "cogvlm2": REFERENCE / "cogvlm2" / "cogvlm2-image" / "checkpoint",
    "cogvlm2-video": REFERENCE / "cogvlm2" / "cogvlm2-video" / "checkpoint",
}
RULES = {"internvl2": INTERNVL2, "ovis2": OVIS2, "cogvlm2": COGVLM2, "cogvlm2-video": COGVLM2_VIDEO}
SECOND = pytest.mark.parametrize("family", ["internvl2", "ovis2"])


@pytest.fixture
def checkpoint(family: str) -> Checkpoint:
    return open_checkpoint(FOLDERS[family])


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    found = []
    for name in ("red", "green", "blue"):
        Image.new("RGB", (400, 130), name).save(tmp_path / f"{name}.png")
        found.append(read_picture(tmp_path / f"{name}.png"))
    return found


def of(name: str) -> Rules:
    spec = catalog().find(name)
    assert spec is not None
    rules = rules_of(spec)
    assert rules is not None
    return rules


def test_every_row_has_rules_and_each_kind_its_own() -> None:
    assert all(rules_of(spec) for spec in catalog().filter(""))
    assert of("demo") is of("internvl2:76b-awq") is INTERNVL2
    assert of("ovis2:34b-gptq-int8") is OVIS2
    assert of("cogvlm2:19b-zh-int4") is COGVLM2
    assert of("cogvlm2-video:12b-chat") is COGVLM2_VIDEO
    assert of("cogvlm2-video:12b-base") is COGVLM2_VIDEO_BASE


@pytest.mark.parametrize("family", FOLDERS)
def test_a_folder_has_the_rules_of_the_family_that_claims_it(family: str) -> None:
    config = json.loads((FOLDERS[family] / "config.json").read_text(encoding="utf-8"))
    assert load_family(family.removesuffix("-video")).claims(config)
    assert rules_of_folder(FOLDERS[family]) in {
        RULES[family],
        COGVLM2_VIDEO_BASE if "video" in family else RULES[family],
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"architectures": ["CogVLMVideoForCausalLM"], "template_version": "base"}', COGVLM2_VIDEO_BASE),
        ('{"architectures": ["CogVLMVideoForCausalLM"], "template_version": "chat"}', COGVLM2_VIDEO),
        ('{"architectures": ["OtherModel"]}', None),
        ('{"architectures": "Ovis"}', None),
        ("{}", None),
        ("no json", None),
    ],
)
def test_a_folder_is_known_by_its_config(tmp_path: Path, config: str, expected: Rules | None) -> None:
    assert rules_of_folder(fill(tmp_path / "mine", {"config.json": config})) is expected


@SECOND
def test_pictures_in_any_turn_stay_in_it(checkpoint: Checkpoint, pictures: list[Picture]) -> None:
    red, green, blue = pictures
    turns = [user("One?", red), assistant("Red."), user("Two?", green, blue)]
    text = checkpoint.layout(turns, VisionOptions()).text
    assert text.index("One?") < text.index("Red.") < text.index("mage-2" if "mage-2" in text else "mage 2: ")
    assert len(checkpoint.layout(turns, VisionOptions()).pictures) == 3


@SECOND
def test_a_system_prompt_replaces_the_models_own(checkpoint: Checkpoint) -> None:
    own = checkpoint.layout([user("Hi")], VisionOptions()).text
    other = checkpoint.layout([system("Be brief."), user("Hi")], VisionOptions()).text
    assert "Be brief." in other
    assert len(other) != len(own)
    assert other.count("system") == own.count("system") == 1


@pytest.mark.parametrize("family", ["ovis2"])
def test_ovis2_cuts_a_picture_alone_finer(checkpoint: Checkpoint, pictures: list[Picture]) -> None:
    alone = checkpoint.layout([user("?", pictures[0])], VisionOptions()).pictures[0].preprocessing
    each = checkpoint.layout([user("?", *pictures)], VisionOptions()).pictures[0].preprocessing
    assert f"at most {alone.removeprefix('cells-')} tiles, each of several into {each.removeprefix('cells-')}" in (
        OVIS2.pictures
    )


@pytest.mark.parametrize("family", ["cogvlm2", "cogvlm2-video"])
def test_cogvlm2_takes_one_and_no_system_prompt(checkpoint: Checkpoint, pictures: list[Picture]) -> None:
    red, green, _ = pictures
    late = [user("Hi"), assistant("Hello."), user("What?", red)]
    prompt = checkpoint.layout(late, VisionOptions(template="chat"))
    assert prompt.slots[0].start == 1, "before all text"
    assert "Hello." in prompt.text
    for refused in ([*late, assistant("Red."), user("And?", green)], [system("Be brief."), user("Hi")]):
        with pytest.raises(InputError):
            checkpoint.layout(refused, VisionOptions())


@pytest.mark.parametrize("family", ["cogvlm2-video"])
def test_base_sees_the_last_text_alone(checkpoint: Checkpoint) -> None:
    history = [user("One"), assistant("Two"), user("Three")]
    assert "One" in checkpoint.layout(history, VisionOptions(template="chat")).text
    assert "One" not in checkpoint.layout(history, VisionOptions(template="base")).text


@pytest.mark.parametrize("family", FOLDERS)
def test_text_only_and_frames_are_taken_as_the_rules_say(checkpoint: Checkpoint, pictures: list[Picture]) -> None:
    rules = rules_of_folder(checkpoint.folder)
    assert rules is not None
    assert rules.text_only == "yes"
    assert checkpoint.layout([user("Hi")], VisionOptions()).ids
    turn = [Message("user", (Video("clip", "clip", tuple(pictures)), Text("?")))]
    if rules.video.startswith("none"):
        with pytest.raises(InputError):
            checkpoint.layout(turn, VisionOptions())
    else:
        assert [picture.tiles for picture in checkpoint.layout(turn, VisionOptions()).pictures] == [1, 1, 1]


def test_show_prints_them() -> None:
    text = call("show", "cogvlm2:19b").out
    for label, sentence in COGVLM2.labelled():
        assert f"\n{label:<14}{sentence}\n" in text
    assert "one frame a second from the start, at most 24" in call("show", "cogvlm2-video:12b-chat").out
    assert "24 frames spread evenly over the first 60 seconds" in call("show", "cogvlm2-video:12b-base").out
    assert call("show", "internvl2:1b", "--json").json["conversation"]["video"] == INTERNVL2.video
    assert INTERNVL2.video.startswith("8 frames")
    assert OVIS2.video.startswith("12 frames")


def test_show_prints_them_for_a_folder(tmp_path: Path) -> None:
    folder = str(FOLDERS["ovis2"])
    assert f"\nin one turn   {OVIS2.pictures}\n" in call("show", folder).out
    assert call("show", folder, "--json").json["conversation"]["history"] == OVIS2.history
    unknown = str(fill(tmp_path / "mine", {"config.json": "{}"}))
    assert call("show", unknown, "--json").json["conversation"] is None
    assert "in one turn" not in call("show", unknown).out
