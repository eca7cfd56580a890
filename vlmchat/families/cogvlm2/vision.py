"""CogVLM2's vision tower (EVA2-CLIP-E) and its adapter (facts §4).

Every block is post-norm: attention and MLP first, each normed before it is added. There is no norm
behind the last block. The grid of patches shrinks by a convolution of two by two; an odd last row
and column fall away. A learned mark stands before and behind the features of each picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from vlmchat.families.cogvlm2.config import CogVLM2Config, VisionConfig
from vlmchat.families.tower_attention import tower_attention


class VisionBlock(nn.Module):
    """One post-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.attention_norm = nn.LayerNorm(config.hidden, eps=config.norm_eps)
        self.fc1 = nn.Linear(config.hidden, config.intermediate)
        self.fc2 = nn.Linear(config.intermediate, config.hidden)
        self.mlp_norm = nn.LayerNorm(config.hidden, eps=config.norm_eps)
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [pictures, positions, hidden] to the same shape."""
        hidden = hidden + self.attention_norm(self._attend(hidden))
        mapped: Tensor = hidden + self.mlp_norm(self.fc2(self.activation(self.fc1(hidden))))
        return mapped

    def _attend(self, hidden: Tensor) -> Tensor:
        # The fused projection is q, k, v in thirds, each of them head by head.
        query, key, value = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = tower_attention(query, key, value, query.shape[-1] ** -0.5)
        projected: Tensor = self.dense(attended.flatten(2))
        return projected


class Adapter(nn.Module):
    """From the tower's width to the decoder's, with a gated MLP."""

    def __init__(self, config: CogVLM2Config) -> None:
        super().__init__()
        self.project = nn.Linear(config.vision.hidden, config.hidden, bias=False)
        self.norm = nn.LayerNorm(config.hidden)
        self.gate = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.up = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.down = nn.Linear(config.intermediate, config.hidden, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map [pictures, tokens, tower's width] to [pictures, tokens, hidden]."""
        hidden = functional.gelu(self.norm(self.project(features)))
        mapped: Tensor = self.down(functional.silu(self.gate(hidden)) * self.up(hidden))
        return mapped


class VisionTower(nn.Module):
    """Pixels of pictures or frames -> what stands at their positions of the prompt."""

    def __init__(self, config: CogVLM2Config) -> None:
        super().__init__()
        vision = config.vision
        self.patches = nn.Conv2d(vision.channels, vision.hidden, vision.patch, stride=vision.patch)
        self.class_token = nn.Parameter(torch.empty(1, vision.hidden))
        self.positions = nn.Parameter(torch.empty(vision.positions, vision.hidden))
        self.blocks = nn.ModuleList(VisionBlock(vision) for _ in range(vision.layers))
        self.shrink = nn.Conv2d(vision.hidden, vision.hidden, 2, stride=2)
        self.adapter = Adapter(config)
        self.boi = nn.Parameter(torch.empty(1, 1, config.hidden))
        self.eoi = nn.Parameter(torch.empty(1, 1, config.hidden))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features [pictures, tokens, hidden] of ``pixels`` [pictures, 3, side, side]."""
        grid = self.patches(pixels)
        count = len(pixels)
        hidden = torch.cat((self.class_token.expand(count, 1, -1), grid.flatten(2).transpose(1, 2)), dim=1)
        hidden = hidden + self.positions
        for block in self.blocks:
            hidden = block(hidden)
        shrunk = self.shrink(hidden[:, 1:].transpose(1, 2).reshape(grid.shape))
        features = self.adapter(shrunk.flatten(2).transpose(1, 2))
        return torch.cat((self.boi.expand(count, -1, -1), features, self.eoi.expand(count, -1, -1)), dim=1)
