"""The checkpoint's own image processor, on PIL, driven one picture at a time.

Transformers' processors know what a picture becomes in the prompt (markers, rows, columns, placeholders) and what
the vision tower is given; both are asked here. torchvision is never needed: the PIL variants of the image
processors are chosen, and videos come as pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vlmchat.errors import CheckpointError, ImageError
from vlmchat.families.registry import read_config

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_SIZE_ALONE = {"do_rescale": False, "do_normalize": False, "resample": Image.Resampling.NEAREST}
"""Leaves out what has no say in the place a picture takes, which is most of the work on a large one."""
_SIZES = 256
"""Picture sizes whose place in a prompt is remembered."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one picture becomes in the prompt."""

    text: str
    """Stands in place of the image token of the chat template."""
    features: int
    """Placeholder tokens in it."""
    grid: tuple[int, int]
    """Patch rows and columns, where the processor tells them; 0 elsewhere."""


class PictureProcessor:
    """Pictures -> prompt text and inputs of the vision tower."""

    def __init__(self, processor: Any, placeholder_id: int, by_grid: bool) -> None:
        """Drive Transformers' ``processor``.

        Args:
            processor: made by :func:`open_processor`.
            placeholder_id: token that stands at feature positions.
            by_grid: its features follow one grid of patches, which the picture's size gives.
        """
        self.native = processor
        self._by_grid = by_grid
        self._placeholder: str = processor.tokenizer.convert_ids_to_tokens(placeholder_id)
        self.image_token: str = processor.image_token
        """What a chat template writes for a picture."""
        self.expansion = lru_cache(_SIZES)(self._expansion)

    def _expansion(self, width: int, height: int) -> Expansion:
        """Return what a picture of this size becomes; its colours have no say.

        Raises:
            ImageError: the processor does not take this size.
        """
        try:
            if not self._by_grid:
                return self.inputs(Image.new("RGB", (width, height)), **_SIZE_ALONE)[1]
            grid = self._grid(width, height)
        except ValueError as problem:
            raise ImageError(
                f"This model does not take a picture of {width} x {height} pixels: {problem}.", "Crop it or scale it."
            ) from problem
        return self._expanded({"image_grid_thw": torch.tensor([[1, *grid]])})

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Return patch rows and columns as Qwen2-VL's processor chooses them, without its work on the pixels."""
        native = self.native.image_processor
        tall, wide = smart_resize(
            height,
            width,
            native.patch_size * native.merge_size,
            min_pixels=native.size["shortest_edge"],
            max_pixels=native.size["longest_edge"],
        )
        return tall // native.patch_size, wide // native.patch_size

    def inputs(self, image: Image.Image, **options: Any) -> tuple[Mapping[str, Any], Expansion]:
        """Return the tensors the processor makes of ``image``, by its own names, and its place in the prompt.

        Args:
            image: upright RGB.
            options: for the image processor, in place of the checkpoint's.
        """
        native = self.native
        images = native.prepare_inputs_layout(images=[image], text=self.image_token)[0]
        merged = native._merge_kwargs(tokenizer_init_kwargs=native.tokenizer.init_kwargs, return_tensors="pt")
        made, _ = native._process_images(images, **(merged["images_kwargs"] | options))
        return made, self._expanded(made)

    def _expanded(self, made: Mapping[str, Any]) -> Expansion:
        """Return the place in the prompt of the one picture that ``made`` was made of."""
        text: str = self.native.replace_image_token(made, image_idx=0)
        grid = made.get("image_grid_thw")
        cells = (0, 0) if grid is None else (int(grid[0][1]), int(grid[0][2]))
        return Expansion(text, text.count(self._placeholder), cells)


def open_processor(folder: Path, config: PreTrainedConfig) -> Any:
    """Build the processor class that Transformers has for ``config`` from the files of ``folder``.

    Raises:
        CheckpointError: a file is missing, broken, asks for code from the repository or for another processor.
    """
    native = PROCESSOR_MAPPING[type(config)]
    if (asked := _asked_for(folder)) not in (None, native.__name__):
        raise CheckpointError(
            f"{folder.name} asks for {asked}; its architecture is proven with {native.__name__} only.",
            "Pick another model.",
        )
    kind = _pictures_only(native)
    try:
        parts = {
            "image_processor": AutoImageProcessor.from_pretrained(folder, backend="pil", config=config, **_LOCAL),
            "tokenizer": AutoTokenizer.from_pretrained(folder, config=config, **_LOCAL),
        }
        settings, _ = kind.get_processor_dict(folder, local_files_only=True)
        processor = kind.from_args_and_dict([parts.get(name) for name in kind.get_attributes()], settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as problem:
        raise CheckpointError(
            f"The processor files of {folder.name} cannot be used: {' '.join(str(problem).split())[:300]}",
            "It needs preprocessor_config.json and its tokenizer files as the hub has them.",
        ) from problem
    template = processor.chat_template or processor.tokenizer.chat_template
    processor.chat_template = template.get("default") if isinstance(template, dict) else template
    if not processor.chat_template:
        raise CheckpointError(
            f"{folder.name} has no chat template.",
            "Pick a model that was trained to converse, often named -it.",
        )
    return processor


def _asked_for(folder: Path) -> str | None:
    """Return the processor class that the files name, in the order in which Transformers asks them."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / name).exists() and (found := read_config(folder, name).get("processor_class")):
            return str(found)
    return None


def _pictures_only(kind: Any) -> Any:
    """Return processor class ``kind`` without its demands for videos: torchvision, and SmolVLM's num2words."""
    if kind.__name__ == "SmolVLMProcessor":
        from transformers.models.smolvlm import processing_smolvlm

        # It words the number of a video's frames and is asked for in the constructor all the same.
        processing_smolvlm.num2words = processing_smolvlm.num2words or str

    class PicturesOnly(kind):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            """Let the place of the video processor stay empty."""
            return argument and super().check_argument_for_proper_class(argument_name, argument)

    return PicturesOnly


def as_pixels(image: Image.Image) -> Tensor:
    """Return an RGB ``image`` as float32 [1, 3, height, width], values 0 to 255 (exact in every dtype)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()


def as_image(pixels: Tensor) -> Image.Image:
    """Return what :func:`as_pixels` made [1, 3, height, width] as an image again."""
    return Image.fromarray(pixels[0].permute(1, 2, 0).to("cpu", torch.uint8).numpy())
