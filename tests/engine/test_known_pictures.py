"""Pictures known from an earlier process: the vision tower is skipped, the logits stay the same to the bit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.reference_cases import QWEN2
from vlmchat.conversation import Picture, user
from vlmchat.engine import known_pictures
from vlmchat.engine.api import Request
from vlmchat.engine.events import Encoding, Finished
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.media.image import read_picture
from vlmchat.options import Dtype, LoadOptions, Sampling, VisionOptions
from vlmchat.paths import places

TILES = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of its own, so that a test may alter it."""
    return Path(shutil.copytree(QWEN2 / "checkpoint", tmp_path / "checkpoint"))


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    Image.effect_noise((200, 90), 60).convert("RGB").save(tmp_path / "noise.png")
    return read_picture(tmp_path / "noise.png")


class Process:
    """An engine as a new process would have it, closed behind the block: everything is on disk then."""

    def __init__(self, folder: Path, dtype: Dtype = "auto", feature_bytes: int = 10**8) -> None:
        self.engine = TorchEngine(feature_bytes=feature_bytes)
        for _ in self.engine.load(folder, LoadOptions(dtype=dtype)):
            pass

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def ask(self, picture: Picture, private: bool = False, tiles: int = 4) -> tuple[int, torch.Tensor, bool]:
        """Ask about ``picture``; return tiles encoded for it, the logits behind the prompt, and whether it was told."""
        seen: list[torch.Tensor] = []
        runner = self.engine.runner
        compute, before = runner.model.network.logits, runner.pictures.encoded_tiles

        def spy(hidden: torch.Tensor) -> torch.Tensor:
            seen.append(compute(hidden))
            return seen[-1]

        question = (user("What is this?", picture),)
        request = Request(question, Sampling(max_new_tokens=1), VisionOptions(max_tiles=tiles), private=private)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner.model.network, "logits", spy)
            events = list(self.engine.generate(request))
        assert isinstance(events[-1], Finished)
        told = any(isinstance(event, Encoding) for event in events)
        return runner.pictures.encoded_tiles - before, seen[-1], told


def kept() -> list[Path]:
    return sorted(places().features.glob("*"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_yesterdays_picture_skips_the_tower_and_gives_the_same_logits(
    folder: Path, picture: Picture, dtype: Dtype
) -> None:
    with Process(folder, dtype) as first:
        tiles, computed, told = first.ask(picture)
    assert (tiles, told) == (TILES, True)
    (path,) = kept()
    assert picture.digest not in path.name  # the folder does not tell which pictures were asked about
    with Process(folder, dtype) as second:
        tiles, known, told = second.ask(picture)
        assert (tiles, told) == (0, False)
        assert torch.equal(known, computed)
        shutil.rmtree(places().features)
        assert second.ask(picture)[0] == 0  # what was read stays in memory
    assert not kept()


def test_other_tiles_dtypes_and_pictures_are_other_features(folder: Path, picture: Picture, tmp_path: Path) -> None:
    Image.effect_noise((200, 90), 70).convert("RGB").save(tmp_path / "other.png")
    other = read_picture(tmp_path / "other.png")
    with Process(folder) as first:
        first.ask(picture)
    with Process(folder) as second:
        assert second.ask(picture, tiles=1)[0] == 1
        assert second.ask(other)[0] == TILES
    with Process(folder, "bfloat16") as third:
        assert third.ask(picture)[0] == TILES
    assert len(kept()) == 4


def _rewritten(path: Path) -> None:
    """Put other bytes of the same length and date in the place of ``path``, as a careful copy would."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_an_altered_checkpoint_knows_nothing(folder: Path, picture: Picture, name: str) -> None:
    with Process(folder) as first:
        first.ask(picture)
    if name.endswith("json"):
        (folder / name).write_text((folder / name).read_text() + " ")
    else:
        _rewritten(folder / name)
    with Process(folder) as second:
        assert second.ask(picture)[0] == TILES


def test_a_damaged_file_is_computed_again(folder: Path, picture: Picture) -> None:
    with Process(folder) as first:
        _, computed, _ = first.ask(picture)
    (path,) = kept()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with Process(folder) as second:
        tiles, again, _ = second.ask(picture)
        assert tiles == TILES
        assert torch.equal(again, computed)
    assert path.read_bytes() == whole


def test_a_private_question_leaves_nothing(folder: Path, picture: Picture) -> None:
    with Process(folder) as first:
        assert first.ask(picture, private=True)[0] == TILES
    assert not kept()
    with Process(folder) as second:
        second.ask(picture)
    (path,) = kept()
    os.utime(path, (1, 1))
    with Process(folder) as third:
        assert third.ask(picture, private=True)[0] == 0
    assert path.stat().st_mtime == 1


def test_switched_off_nothing_is_looked_for_or_written(folder: Path, picture: Picture) -> None:
    with Process(folder) as first:
        first.ask(picture)
    before = kept()
    with Process(folder, feature_bytes=0) as second:
        assert second.ask(picture)[0] == TILES
        assert second.ask(picture, tiles=1)[0] == 1
    assert kept() == before


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(known_pictures, "PENDING_BYTES", 0)
    yield


@pytest.mark.usefixtures("no_room")
def test_a_disk_that_cannot_keep_up_is_spared(folder: Path, picture: Picture) -> None:
    with Process(folder) as first:
        assert first.ask(picture)[0] == TILES
    assert not kept()
