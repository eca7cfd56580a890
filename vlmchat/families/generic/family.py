"""The generic family's front door: any folder of a proven architecture -> a checkpoint of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vlmchat.conversation import Message
from vlmchat.families.family import Config, Cut, PictureInput, Prompt
from vlmchat.families.generic import processing, prompt, weights
from vlmchat.families.generic.config import GenericConfig, concerns, translate
from vlmchat.families.generic.modeling import GenericNetwork
from vlmchat.families.generic.processing import PictureProcessor
from vlmchat.families.generic.sampling import middles
from vlmchat.families.generic.tokenizer import GenericTokenizer
from vlmchat.families.mapping import Rule
from vlmchat.families.registry import read_config
from vlmchat.families.turns import pictures_of
from vlmchat.media.image import load_rgb
from vlmchat.media.video import with_frames
from vlmchat.options import VisionOptions


class GenericCheckpoint:
    """One folder of a proven architecture, config and processor read."""

    family = "generic"

    def __init__(self, folder: Path, config: GenericConfig, processor: Any) -> None:
        self.folder = folder
        self.tokenizer = GenericTokenizer(processor.tokenizer)
        self.dtype = config.dtype
        self.context_tokens = config.context_tokens
        self.kv_elements_per_token = config.kv_elements_per_token
        self.stop_ids = _stop_ids(folder, config, processor.tokenizer)
        self._config = config
        self._processor = PictureProcessor(processor, config.placeholder_id, config.traits.grid_positions)
        self._names = weights.stored_names(folder)
        self._rules: tuple[Rule, ...] = ()

    def build(self) -> GenericNetwork:
        """Return the network, parameters on the meta device."""
        network = GenericNetwork(self._config, self._processor, self._names)
        self._rules = tuple(weights.rules(network.stored_as, network.module.state_dict()))
        return network

    def rules(self) -> Sequence[Rule]:
        """Return one rule for each tensor of the files; they are known with the network."""
        if not self._rules:
            self.build()
        return self._rules

    def layout(self, messages: Sequence[Message], vision: VisionOptions) -> Prompt:
        """Lay out ``messages``; see :mod:`vlmchat.families.generic.prompt`. Frames of a video come as pictures.

        The processor decides how a picture is cut; ``vision`` has no say.

        Raises:
            InputError: the chat template does not take the conversation.
            ImageError: the processor does not take a picture of this size.
            VideoError: a video file cannot be read.
        """
        messages = with_frames(messages, middles)
        pieces = prompt.render(messages, self._processor)
        shown = [picture for message in messages for picture, _ in pictures_of(message)]
        expansions = [self._processor.expansion(picture.width, picture.height) for picture in shown]
        ids = prompt.encode(pieces, expansions, self.tokenizer)
        pictures = tuple(
            PictureInput(picture, 1, expansion.features, "native")
            for picture, expansion in zip(shown, expansions, strict=True)
        )
        slots = prompt.slots(ids, self._config.placeholder_id, pictures)
        laid_out = Prompt(tuple(ids), slots, pictures, self._processor.image_token.join(pieces))
        if self._config.traits.grid_positions:
            grids = [expansion.grid for expansion in expansions]
            laid_out = replace(laid_out, positions=prompt.grid_positions(len(ids), slots, grids, self._config.merge))
        if self._config.traits.joined_pictures:
            laid_out = replace(laid_out, experts=prompt.featured(len(ids), slots), whole_slots=True)
        return laid_out

    def pixels(self, picture: PictureInput) -> Tensor:
        """Return the upright RGB picture [1, 3, height, width], values 0 to 255: the network has the processor."""
        return processing.as_pixels(load_rgb(picture.picture))

    def cut(self, picture: PictureInput) -> Cut:
        """Return the whole picture in one piece; the network's processor cuts it further, if it does."""
        return Cut(std=(1 / 255, 1 / 255, 1 / 255))


def _stop_ids(folder: Path, config: GenericConfig, tokenizer: Any) -> frozenset[int]:
    """Return the end tokens of generation_config.json, of config.json where there is none, and the tokenizer's."""
    if (folder / "generation_config.json").exists():
        ends = read_config(folder, "generation_config.json").get("eos_token_id")
    else:
        ends = config.native.get_text_config().eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(id_ for id_ in (*listed, tokenizer.eos_token_id) if isinstance(id_, int))


class GenericFamily:
    """Takes what no other family claims."""

    name = "generic"

    def claims(self, config: Config) -> bool:
        """Say yes to every architecture Transformers has for pictures and text, and to those that need remote code."""
        return concerns(config)

    def open(self, folder: Path, config: Config) -> GenericCheckpoint:
        """Read config, processor and the names of the tensors of ``folder``.

        Raises:
            CheckpointError: as in :func:`~vlmchat.families.generic.config.translate`, or a file is missing.
        """
        translated = translate(config)
        return GenericCheckpoint(folder, translated, processing.open_processor(folder, translated.native))


FAMILY = GenericFamily()
