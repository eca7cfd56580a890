"""What the model sees: the tiles are those of the vision tower, colour for colour, and so is their grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.families.cogvlm2_cases import IMAGE, VIDEO
from tests.families.generic_cases import QWEN, write
from tests.families.ovis2_cases import TIED
from tests.reference_cases import REFERENCE
from vlmchat.conversation import Picture, Video, user
from vlmchat.engine.api import Request
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.engine.view import Sight, sights
from vlmchat.errors import ModelError
from vlmchat.families.internvl2 import processing as internvl2
from vlmchat.families.ovis2 import processing as ovis2
from vlmchat.families.registry import open_checkpoint
from vlmchat.media.image import load_rgb, read_picture
from vlmchat.options import VisionOptions

QWEN2 = REFERENCE / "internvl2" / "qwen2-vit300m"


@pytest.fixture
def wide(tmp_path: Path) -> Picture:
    """A picture of all colours, 90 by 40 pixels, in which no two places look alike."""
    levels = np.random.default_rng(3).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "noise.png")
    return read_picture(tmp_path / "noise.png")


def seen(folder: Path, *media: Picture | Video, vision: VisionOptions | None = None) -> tuple[Sight, ...]:
    checkpoint = open_checkpoint(folder / "checkpoint")
    return sights(checkpoint, [user("What is it?", *media)], vision or VisionOptions(), draw=True)


def same(image: Image.Image, other: Image.Image) -> bool:
    return bool((np.asarray(image) == np.asarray(other)).all())


def test_internvl2_shows_its_grid_row_by_row_and_the_whole_picture_last(wide: Picture) -> None:
    (sight,) = seen(QWEN2, wide, vision=VisionOptions(max_tiles=6))
    assert (sight.columns, sight.rows, sight.thumbnail, sight.tiles) == (2, 1, "last", 3)
    side = sight.images[0].width
    tiling = internvl2.Tiling(side, 1, 6, thumbnail=True)
    cut = internvl2.cut_tiles(load_rgb(wide), tiling)
    assert len(sight.images) == len(cut) == sight.tiles
    assert all(same(shown, tile) for shown, tile in zip(sight.images, cut, strict=True))
    assert same(sight.images[-1], load_rgb(wide).resize((side, side), Image.Resampling.BICUBIC))
    assert sight.tokens % sight.tiles == 0


def test_ovis2_shows_the_whole_picture_first_and_the_mean_where_none_is(wide: Picture) -> None:
    (sight,) = seen(TIED, wide)
    assert sight.thumbnail == ("first" if sight.tiles > 1 else "none")
    side = sight.images[0].width
    cut = ovis2.cut_tiles(load_rgb(wide), ovis2.Grid(sight.rows, sight.columns), side)
    assert len(cut) == sight.tiles == len(sight.images)
    for shown, tile in zip(sight.images, cut, strict=True):
        left, top = (side - tile.width) // 2, (side - tile.height) // 2
        assert same(shown.crop((left, top, left + tile.width, top + tile.height)), tile)
    if cut[0].height < side:
        assert len(set(sight.images[0].crop((0, 0, side, (side - cut[0].height) // 2)).getcolors() or ())) == 1


def test_cogvlm2_shows_one_square(wide: Picture) -> None:
    (sight,) = seen(IMAGE, wide)
    assert (sight.tiles, sight.columns, sight.rows, sight.thumbnail) == (1, 1, 1, "none")
    side = sight.images[0].width
    assert same(sight.images[0], load_rgb(wide).resize((side, side), Image.Resampling.BICUBIC))


def test_frames_of_a_video_are_shown_one_by_one(wide: Picture) -> None:
    other = read_picture(IMAGE / "inputs" / "tall.png")
    frames = seen(VIDEO, Video("d", "clip", frames=(wide, other)))
    assert [sight.picture.digest for sight in frames] == [wide.digest, other.digest]
    assert all(len(sight.images) == 1 for sight in frames)


def test_a_generic_model_is_shown_the_whole_picture(wide: Picture, tmp_path: Path) -> None:
    folder = tmp_path / "generic"
    write(QWEN, folder)
    (sight,) = sights(open_checkpoint(folder), [user("What is it?", wide)], VisionOptions(), draw=True)
    assert same(sight.images[0], load_rgb(wide))


def test_costs_come_without_decoding_and_add_up(wide: Picture) -> None:
    gone = Picture(wide.digest, wide.name, wide.media_type, wide.width, wide.height)
    checkpoint = open_checkpoint(QWEN2 / "checkpoint")
    messages = [user("What is it?", gone, gone)]
    found = sights(checkpoint, messages, VisionOptions(), draw=False)
    assert sum(sight.tokens for sight in found) == checkpoint.layout(messages, VisionOptions()).image_tokens
    assert not any(sight.images for sight in found)


def test_without_a_model_there_is_nothing_to_see(wide: Picture) -> None:
    with pytest.raises(ModelError, match="No model is loaded"):
        TorchEngine().view(Request((user("What is it?", wide),)))
