"""The native Ovis2 network, cured of what Transformers 5.23 has wrong (the project's Ovis2 facts, §5).

The norm behind the last vision block is not applied, an odd patch grid is padded as a grid, and
the tie of the output head does not depend on what a file holds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Ovis2ForConditionalGeneration

from vlmchat.families.native import NativeNetwork
from vlmchat.families.ovis2.config import Ovis2Config
from vlmchat.families.ovis2.limits import INDICATORS
from vlmchat.families.ovis2.prompt import FIRST_INDICATOR
from vlmchat.families.packed.base import replace_linears
from vlmchat.families.packed.gptq import GptqFormat, GptqLinear
from vlmchat.families.tower_attention import use_tower_attention

_WHOLE_BLOCKS = ("Ovis2VisionEmbeddings", "Ovis2VisionEncoderLayer")
"""What must stay on one device: both add what two of their parts computed. Natively only the attention
inside such a layer is declared."""


class Ovis2Network(NativeNetwork):
    """One Ovis2 model, weights still on the meta device when built."""

    def __init__(self, config: Ovis2Config) -> None:
        super().__init__(Ovis2ForConditionalGeneration, config.native)
        self._tower = self._inner.vision_tower
        self._table = self._inner.visual_embeddings_table
        self._stride = config.native.vision_config.hidden_stride
        self._tower.transformer.rms_norm = nn.Identity()
        use_tower_attention(self._tower.config)
        self._tower._no_split_modules = list(_WHOLE_BLOCKS)
        language = self._inner.language_model
        if config.tied:
            self.tie_head()
        if config.packing is not None:
            _pack(language.layers, config.packing)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return features [tiles, tokens, hidden] of ``pixels`` [tiles, 3, side, side].

        One tile at a time behind the tower: its probabilities over 65,536 visual words are 34 MB
        in 16 bit, and three such tensors live at once.
        """
        patches = self.patch_features(pixels)
        return torch.cat([self._table(self.visual_tokens(tile)) for tile in patches.chunk(len(patches))])

    def patch_features(self, pixels: Tensor) -> Tensor:
        """Return the last vision block's output [tiles, tokens, stride² * width], patches merged in squares."""
        return merged_patches(self._tower.transformer(pixels).last_hidden_state, self._stride)

    def visual_tokens(self, patches: Tensor) -> Tensor:
        """Return how probable each visual word is [tiles, tokens, words]; zero for the indicators."""
        words = self._tower.head_norm(self._tower.head_linear(patches)).softmax(dim=-1)
        return functional.pad(words, (0, INDICATORS))

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings [rows, length, hidden] of ``ids`` [rows, length], indicators from the visual table.

        Both tables are read for every position: to look which one is needed would make a GPU wait.
        """
        first = self._table.num_embeddings - INDICATORS
        marks = self._table((FIRST_INDICATOR - ids).clamp(0, INDICATORS - 1) + first)
        words = super().embed(ids.clamp(min=0))
        return torch.where((ids <= FIRST_INDICATOR).unsqueeze(-1).to(words.device), marks.to(words.device), words)


def merged_patches(hidden: Tensor, stride: int) -> Tensor:
    """Join squares of ``stride`` x ``stride`` patches, their channels in the order row, column, channel.

    Args:
        hidden: [tiles, patches, width], patches row by row of a square grid. A grid that does not
            divide is filled up with zeros below and on the right.
        stride: side of a square.

    Returns:
        [tiles, squares, stride² * width].
    """
    tiles, patches, width = hidden.shape
    side = math.isqrt(patches)
    missing = -side % stride
    grid = functional.pad(hidden.view(tiles, side, side, width), (0, 0, 0, missing, 0, missing))
    squares = (side + missing) // stride
    split = grid.view(tiles, squares, stride, squares, stride, width).transpose(2, 3)
    return split.reshape(tiles, squares**2, stride**2 * width)


def _pack(layers: nn.Module, packing: GptqFormat) -> None:
    """Put packed layers in the place of the language model's seven linear layers per block."""
    names = [name for name, layer in layers.named_modules() if isinstance(layer, nn.Linear)]
    replace_linears(layers, names, lambda linear: GptqLinear.like(linear, packing))
