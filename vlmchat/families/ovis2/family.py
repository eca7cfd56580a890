"""Ovis2's front door: a folder of the hub layout -> a :class:`~vlmchat.families.family.Checkpoint`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vlmchat.conversation import Message, Picture
from vlmchat.errors import CheckpointError
from vlmchat.families.assembly import assemble
from vlmchat.families.family import Config, Cut, PictureInput, Prompt
from vlmchat.families.mapping import Rule
from vlmchat.families.ovis2 import processing, prompt, sampling, weights
from vlmchat.families.ovis2.config import Ovis2Config, translate
from vlmchat.families.ovis2.limits import MAX_CELLS_ALONE, MAX_CELLS_TOGETHER
from vlmchat.families.ovis2.modeling import Ovis2Network
from vlmchat.families.ovis2.processing import Grid
from vlmchat.families.ovis2.tokenizer import Ovis2Tokenizer
from vlmchat.families.pieces import as_text
from vlmchat.families.registry import read_config
from vlmchat.families.turns import pictures_of
from vlmchat.media.image import load_rgb
from vlmchat.media.video import with_frames
from vlmchat.options import VisionOptions

_CUT = "cells-"


class Ovis2Checkpoint:
    """One Ovis2 folder, config and tokenizer read."""

    family = "ovis2"

    def __init__(self, folder: Path, config: Ovis2Config, tokenizer: Ovis2Tokenizer) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.dtype = config.dtype
        self.context_tokens = config.context_tokens
        self.stop_ids = _stop_ids(folder, tokenizer)
        self._config = config
        text = config.native.text_config
        head_size = text.hidden_size // text.num_attention_heads
        self.kv_elements_per_token = text.num_hidden_layers * 2 * text.num_key_value_heads * head_size

    def build(self) -> Ovis2Network:
        """Return the network, parameters on the meta device."""
        return Ovis2Network(self._config)

    def rules(self) -> Sequence[Rule]:
        """Return the weight rules of this checkpoint."""
        return tuple(weights.rules(self._config))

    def layout(self, messages: Sequence[Message], vision: VisionOptions) -> Prompt:
        """Lay out ``messages``; see :mod:`vlmchat.families.ovis2.prompt` for the rules.

        The prompt's text holds one ``<image>`` for each picture, as the original writes it.

        Raises:
            VideoError: a video file cannot be read.
        """
        messages = with_frames(messages, sampling.spread)
        pictures = tuple(self._pictures(messages, vision))
        written = prompt.render(messages)
        grids = [self._grid(picture) for picture in pictures]
        pieces = tuple(prompt.expanded(written, grids, self._config.tokens_per_tile))
        laid_out = assemble(pieces, self.tokenizer, prompt.IMAGE, pictures)
        return replace(laid_out, text=as_text(written, prompt.IMAGE))

    def pixels(self, picture: PictureInput) -> Tensor:
        """Return the pixels [tiles, 3, side, side] of ``picture``, cut as its ``preprocessing`` says."""
        tiles = self._config.tiles
        cut = processing.cut_tiles(load_rgb(picture.picture), self._grid(picture), tiles.side)
        return processing.to_pixels(cut, tiles)

    def cut(self, picture: PictureInput) -> Cut:
        """Return the grid of ``picture``; its thumbnail comes first, and the mean colour shows where no picture is."""
        grid, tiles = self._grid(picture), self._config.tiles
        first = grid.tiles > grid.cells
        return Cut(grid.columns, grid.rows, "first" if first else "none", tiles.mean, tiles.std)

    def _pictures(self, messages: Sequence[Message], vision: VisionOptions) -> Iterator[PictureInput]:
        """Yield pictures and frames in conversation order; frames are one tile each (model card)."""
        for message in messages:
            found = list(pictures_of(message))
            several = sum(not is_frame for _, is_frame in found) > 1
            max_cells = vision.max_tiles or (MAX_CELLS_TOGETHER if several else MAX_CELLS_ALONE)
            for picture, is_frame in found:
                yield self._measured(picture, 1 if is_frame else max_cells)

    def _measured(self, picture: Picture, max_cells: int) -> PictureInput:
        grid = processing.choose_grid(picture.width, picture.height, self._config.tiles.side, max_cells)
        return PictureInput(picture, grid.tiles, grid.tiles * self._config.tokens_per_tile, f"{_CUT}{max_cells}")

    def _grid(self, cut: PictureInput) -> Grid:
        max_cells = int(cut.preprocessing.removeprefix(_CUT))
        return processing.choose_grid(cut.picture.width, cut.picture.height, self._config.tiles.side, max_cells)


def _stop_ids(folder: Path, tokenizer: Ovis2Tokenizer) -> frozenset[int]:
    """Return generation_config.json's end tokens; where it has none, those of every released checkpoint."""
    has_file = (folder / "generation_config.json").exists()
    ends = read_config(folder, "generation_config.json").get("eos_token_id") if has_file else None
    if ends is None:
        return frozenset(tokenizer.control(end.token) for end in (prompt.TEMPLATE.end, prompt.END_OF_TEXT))
    ids = ends if isinstance(ends, list) else [ends]
    if not ids or not all(isinstance(id_, int) for id_ in ids):
        raise CheckpointError(f"generation_config.json has eos_token_id {ends!r}.", "Fetch the file again.")
    return frozenset(ids)


class Ovis2Family:
    """Recognises and opens Ovis2 folders."""

    name = "ovis2"

    def claims(self, config: Config) -> bool:
        """Say yes to ``Ovis`` on an AIMv2 tower; Ovis 1.x and 2.5 share the name, not the tower."""
        visual = config.get("visual_tokenizer_config")
        tower = visual.get("model_type") if isinstance(visual, dict) else None
        return "Ovis" in (config.get("architectures") or ()) and tower == "aimv2_visual_tokenizer"

    def open(self, folder: Path, config: Config) -> Ovis2Checkpoint:
        """Read config, preprocessor and tokenizer of ``folder``.

        Raises:
            CheckpointError: as in :func:`~vlmchat.families.ovis2.config.translate`.
        """
        quantization = config.get("quantization_config")
        if quantization is None and (folder / "quantize_config.json").exists():
            quantization = read_config(folder, "quantize_config.json")
        translated = translate(config, read_config(folder, "preprocessor_config.json"), quantization)
        return Ovis2Checkpoint(folder, translated, Ovis2Tokenizer.from_folder(folder))


FAMILY = Ovis2Family()
