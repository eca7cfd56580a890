"""InternVL2's front door: a folder of the hub layout -> a :class:`~vlmchat.families.family.Checkpoint`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vlmchat.conversation import Message, Picture
from vlmchat.families.assembly import assemble
from vlmchat.families.bytelevel import ByteLevelTokenizer
from vlmchat.families.family import Config, Cut, PictureInput, Prompt, Tokenizer
from vlmchat.families.fast_tokenizer import FastTokenizer
from vlmchat.families.internvl2 import processing, prompt, weights
from vlmchat.families.internvl2.config import InternVL2Config, translate
from vlmchat.families.internvl2.modeling import InternVL2Network
from vlmchat.families.internvl2.processing import Tiling
from vlmchat.families.internvl2.sampling import choose_frames
from vlmchat.families.mapping import Rule
from vlmchat.families.sentencepiece import SentencePieceTokenizer
from vlmchat.families.turns import pictures_of
from vlmchat.media.image import load_rgb
from vlmchat.media.video import with_frames
from vlmchat.options import VisionOptions


class InternVL2Checkpoint:
    """One InternVL2 folder, config and tokenizer read."""

    family = "internvl2"

    def __init__(self, folder: Path, config: InternVL2Config, tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.dtype = config.dtype
        self.context_tokens = config.language.context_tokens
        self.stop_ids = frozenset({tokenizer.control(config.template.end.token)})
        self._config = config
        text = config.language.native
        head_size = text.hidden_size // text.num_attention_heads
        self.kv_elements_per_token = text.num_hidden_layers * 2 * text.num_key_value_heads * head_size

    def build(self) -> InternVL2Network:
        """Return the network, parameters on the meta device."""
        return InternVL2Network(self._config.native, self._config.language.awq_group)

    def rules(self) -> Sequence[Rule]:
        """Return the weight rules of this checkpoint's vision tower, projector and language model."""
        return (*weights.VISION_RULES, *weights.PROJECTOR_RULES, *self._config.language.rules)

    def layout(self, messages: Sequence[Message], vision: VisionOptions) -> Prompt:
        """Lay out ``messages``; see :mod:`vlmchat.families.internvl2.prompt` for the rules."""
        messages = with_frames(messages, choose_frames)
        pictures = tuple(self._pictures(messages, vision))
        config = self._config
        pieces = prompt.render(
            messages, config.template, config.system_message, [picture.features for picture in pictures]
        )
        laid_out = assemble(pieces, self.tokenizer, prompt.IMAGE_CONTEXT, pictures)
        return replace(laid_out, regime=config.language.regime(len(laid_out.ids)))

    def pixels(self, picture: PictureInput) -> Tensor:
        """Return the pixels [tiles, 3, side, side] of ``picture``, cut as its ``preprocessing`` says."""
        return processing.to_pixels(processing.cut_tiles(load_rgb(picture.picture), self._tiling(picture)))

    def cut(self, picture: PictureInput) -> Cut:
        """Return the grid of ``picture``; its thumbnail comes last."""
        shown = picture.picture
        columns, rows = processing.choose_grid(shown.width, shown.height, self._tiling(picture))
        last = picture.tiles > columns * rows
        return Cut(columns, rows, "last" if last else "none", processing.MEAN, processing.STD)

    def _tiling(self, picture: PictureInput) -> Tiling:
        return replace(self._config.tiling, max_tiles=int(picture.preprocessing.removeprefix("tiles-")))

    def _pictures(self, messages: Sequence[Message], vision: VisionOptions) -> Iterator[PictureInput]:
        """Yield pictures and frames in conversation order; frames are one tile each (model card)."""
        for message in messages:
            for picture, is_frame in pictures_of(message):
                yield self._measured(picture, 1 if is_frame else vision.max_tiles or self._config.tiling.max_tiles)

    def _measured(self, picture: Picture, max_tiles: int) -> PictureInput:
        tiling = replace(self._config.tiling, max_tiles=max_tiles)
        tiles = processing.count_tiles(picture.width, picture.height, tiling)
        return PictureInput(picture, tiles, tiles * self._config.tokens_per_tile, f"tiles-{max_tiles}")


class InternVL2Family:
    """Recognises and opens InternVL2 folders."""

    name = "internvl2"

    def claims(self, config: Config) -> bool:
        """Say yes to ``InternVLChatModel``, the class of every InternVL2 repository."""
        return "InternVLChatModel" in (config.get("architectures") or ())

    def open(self, folder: Path, config: Config) -> InternVL2Checkpoint:
        """Read config and tokenizer of ``folder``.

        Raises:
            CheckpointError: as in :func:`~vlmchat.families.internvl2.config.translate`.
        """
        return InternVL2Checkpoint(folder, translate(config), read_tokenizer(folder))


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer by the files that are there.

    40B-AWQ also holds a tokenizer.json; the model file beside it is what the original reads.

    Raises:
        CheckpointError: the files are missing or broken.
    """
    if (folder / "tokenizer.model").exists():
        return SentencePieceTokenizer.from_folder(folder)
    if (folder / "tokenizer.json").exists() and not (folder / "vocab.json").exists():
        return FastTokenizer.from_folder(folder)
    return ByteLevelTokenizer.from_folder(folder)


FAMILY = InternVL2Family()
