"""What the model sees: the tiles a picture becomes, turned back from numbers into pictures.

The pixels are those of :meth:`~vlmchat.families.family.Checkpoint.pixels`, the very ones the vision
tower is given. No torch here before the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vlmchat.conversation import Message, Picture
from vlmchat.options import VisionOptions

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vlmchat.families.family import Checkpoint, Cut


@dataclass(frozen=True, slots=True)
class Sight:
    """One picture, or one frame of a video, as the loaded model gets it."""

    picture: Picture
    tokens: int
    """Prompt positions it takes."""
    tiles: int
    """Passes of the vision tower, the thumbnail included."""
    columns: int = 1
    rows: int = 1
    thumbnail: Literal["none", "first", "last"] = "none"
    """Where the whole picture stands among the tiles when it comes beside its cells."""
    images: tuple[Image, ...] = ()
    """The tiles in the model's order, RGB; empty unless they were asked for."""


def sights(checkpoint: Checkpoint, messages: Sequence[Message], vision: VisionOptions, draw: bool) -> tuple[Sight, ...]:
    """Return the pictures of ``messages`` in the order of the prompt; see :meth:`vlmchat.engine.api.Engine.view`."""
    seen: list[Sight] = []
    for shown in checkpoint.layout(messages, vision).pictures:
        cut = checkpoint.cut(shown)
        images = tuple(_image(tile, cut) for tile in checkpoint.pixels(shown)) if draw else ()
        seen.append(
            Sight(shown.picture, shown.features, shown.tiles, cut.columns, cut.rows, cut.thumbnail, images)
        )  # fmt: skip
    return tuple(seen)


def _image(tile: Tensor, cut: Cut) -> Image:
    """Return ``tile`` [3, height, width], normalised as ``cut`` says, as a picture of 0..255."""
    from PIL import Image

    mean, std = (tile.new_tensor(values).view(3, 1, 1) for values in (cut.mean, cut.std))
    levels = ((tile * std + mean) * 255).round().clamp(0, 255)
    return Image.fromarray(levels.byte().permute(1, 2, 0).numpy())
