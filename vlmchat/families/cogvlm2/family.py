"""CogVLM2's front door: a folder of the hub layout -> a :class:`~vlmchat.families.family.Checkpoint`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vlmchat.conversation import Message, Picture, Video
from vlmchat.families.assembly import assemble
from vlmchat.families.cogvlm2 import processing, prompt, sampling, weights
from vlmchat.families.cogvlm2.config import ARCHITECTURES, CogVLM2Config, translate
from vlmchat.families.cogvlm2.modeling import CogVLM2Network
from vlmchat.families.cogvlm2.tokenizer import open_tokenizer
from vlmchat.families.family import Config, Cut, PictureInput, Prompt
from vlmchat.families.fast_tokenizer import FastTokenizer
from vlmchat.families.mapping import Rule
from vlmchat.media.image import load_rgb
from vlmchat.media.video import with_frames
from vlmchat.options import VisionOptions


class CogVLM2Checkpoint:
    """One CogVLM2 folder, of pictures or of video, config and tokenizer read."""

    family = "cogvlm2"

    def __init__(self, folder: Path, config: CogVLM2Config, tokenizer: FastTokenizer) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.dtype = config.dtype
        self.context_tokens = config.context_tokens
        self.stop_ids = config.stop_ids
        self.kv_elements_per_token = config.layers * 2 * config.kv_heads * config.head_size
        self._config = config
        self._placeholder = tokenizer.name(config.placeholder_id)

    def build(self) -> CogVLM2Network:
        """Return the network, parameters on the meta device."""
        return CogVLM2Network(self._config)

    def rules(self) -> Sequence[Rule]:
        """Return the weight rules, those of packed layers where the checkpoint is quantized."""
        return weights.rules(self._config.quantized)

    def layout(self, messages: Sequence[Message], vision: VisionOptions) -> Prompt:
        """Lay out ``messages``; see :mod:`vlmchat.families.cogvlm2.prompt` for the rules.

        Raises:
            InputError: a second picture or clip, a clip for a model of pictures, a system message.
            VideoError: the video file cannot be read.
        """
        video = self._config.video
        template = vision.template or self._config.template
        prompt.one_medium(messages, video)
        messages = with_frames(messages, sampling.rule_of(template))
        shown = _pictures(prompt.one_medium(messages, video))
        # A clip shorter than the rule's grid shows the same frame again; it is encoded once.
        unique = {picture.digest: self._measured(picture) for picture in shown}
        numbers = {digest: number for number, digest in enumerate(unique)}
        frames = [(numbers[picture.digest], self._config.vision.features) for picture in shown]
        pieces = prompt.render(messages, template, frames, video)
        laid_out = assemble(pieces, self.tokenizer, self._placeholder, tuple(unique.values()))
        types = [False] * len(laid_out.ids)
        for slot in laid_out.slots:
            types[slot.start : slot.start + slot.length] = [True] * slot.length
        experts = None if video else prompt.vision_experts(types)
        return replace(laid_out, positions=prompt.positions(types), experts=experts)

    def pixels(self, picture: PictureInput) -> Tensor:
        """Return the pixels [1, 3, side, side] of a picture or frame."""
        make = processing.frame_pixels if self._config.video else processing.picture_pixels
        return make(load_rgb(picture.picture), self._config.vision.side)

    def cut(self, picture: PictureInput) -> Cut:
        """Return the one square that a picture or frame becomes."""
        return Cut(mean=processing.MEAN, std=processing.STD)

    def _measured(self, picture: Picture) -> PictureInput:
        vision = self._config.vision
        return PictureInput(picture, 1, vision.features, f"{'frame' if self._config.video else 'square'}-{vision.side}")


def _pictures(medium: Picture | Video | None) -> tuple[Picture, ...]:
    """Return the pictures that ``medium`` shows the model: one, or each frame of a clip."""
    if medium is None:
        return ()
    return (medium,) if isinstance(medium, Picture) else medium.frames


class CogVLM2Family:
    """Recognises and opens CogVLM2 folders."""

    name = "cogvlm2"

    def claims(self, config: Config) -> bool:
        """Say yes to both class names; CogVLM v1, which shares one, is refused by name on opening."""
        return any(name in (config.get("architectures") or ()) for name in ARCHITECTURES)

    def open(self, folder: Path, config: Config) -> CogVLM2Checkpoint:
        """Read config and tokenizer of ``folder``.

        Raises:
            CheckpointError: as in :func:`~vlmchat.families.cogvlm2.config.translate`.
        """
        translated = translate(config)
        return CogVLM2Checkpoint(folder, translated, open_tokenizer(folder, translated.bos_id))


FAMILY = CogVLM2Family()
