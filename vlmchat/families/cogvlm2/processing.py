"""Pictures and frames -> pixels (facts §5, §7): a picture is squeezed to a square, a frame is cropped to one."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's statistics per RGB channel, on values in 0..1."""


def picture_pixels(image: Image.Image, side: int) -> Tensor:
    """Return float32 pixels [1, 3, side, side]: resized with PIL's bicubic filter, aspect ratio given up."""
    return _normalised(image.resize((side, side), Image.Resampling.BICUBIC))


def frame_pixels(image: Image.Image, side: int) -> Tensor:
    """Return float32 pixels [1, 3, side, side] of a video frame.

    The shorter edge comes to ``side`` by bilinear interpolation without antialiasing, of pixels
    already normalised, the longer one in proportion, rounded down; then the middle is cut out.
    """
    width, height = image.size
    if width < height:
        new_width, new_height = side, math.floor(height / width * side)
    else:
        new_width, new_height = math.floor(width / height * side), side
    scaled = functional.interpolate(
        _normalised(image), size=(new_height, new_width), mode="bilinear", align_corners=False
    )
    # Python's rounding, half to even, as the original's crop does.
    top, left = round((new_height - side) / 2), round((new_width - side) / 2)
    return scaled[:, :, top : top + side, left : left + side]


def _normalised(image: Image.Image) -> Tensor:
    """Return float32 [1, 3, height, width], scaled to 0..1 and normalised with MEAN and STD."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).to(torch.float32).div(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std
