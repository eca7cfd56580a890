"""The demo's network under the tensor names of the original InternVL2 checkpoints, written for fast CPU training.

The running app never imports this: it loads the exported file through the InternVL2 family like any other checkpoint.
Plain matrix products instead of the fused attention: at these sizes they take half the time for bf16 forward and
backward on a CPU (68 against 155 ms in the trial).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmchat.demo.labels import PICTURE_FIELDS, PLACES, THING_FIELDS


@dataclass(frozen=True)
class Sizes:
    """Dimensions of the network; the defaults are the shipped ones (3.8 M parameters, 7.6 MB in bf16)."""

    width: int = 192
    inner: int = 512
    heads: int = 4
    vision_layers: int = 4
    text_layers: int = 4
    kv_heads: int = 2
    vocabulary: int = 1280
    tile: int = 112
    patch: int = 14
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    @property
    def grid(self) -> int:
        """Patches along one side of a tile."""
        return self.tile // self.patch


def _attention(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Attention weights of [batch, heads, length, dim] tensors; ``bias`` is added to the scores."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    return torch.as_tensor(scores.softmax(-1))


class VisionAttention(nn.Module):
    """Fused qkv self-attention over the patches of one tile."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix [tiles, 1 + patches, width] along the patches."""
        tiles, length, width = hidden.shape
        parts = self.qkv(hidden).view(tiles, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = _attention(parts[0], parts[1], None) @ parts[2]
        mixed = self.proj(mixed.transpose(1, 2).reshape(tiles, length, width))
        return torch.as_tensor(mixed)


class VisionMlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.inner)
        self.fc2 = nn.Linear(sizes.inner, sizes.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform [..., width]."""
        return torch.as_tensor(self.fc2(functional.gelu(self.fc1(hidden))))


class VisionLayer(nn.Module):
    """One InternViT layer: pre-norm, with a learnt scale on each branch."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)
        self.norm2 = nn.LayerNorm(sizes.width, eps=sizes.norm_eps)
        self.attn = VisionAttention(sizes)
        self.mlp = VisionMlp(sizes)
        self.ls1 = nn.Parameter(torch.ones(sizes.width))
        self.ls2 = nn.Parameter(torch.ones(sizes.width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform [tiles, 1 + patches, width]."""
        hidden = hidden + self.attn(self.norm1(hidden)) * self.ls1
        return torch.as_tensor(hidden + self.mlp(self.norm2(hidden)) * self.ls2)


class VisionEmbeddings(nn.Module):
    """Patches to vectors, a class token in front, learnt positions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.class_embedding = nn.Parameter(torch.randn(1, 1, sizes.width) * 0.02)
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)
        self.position_embedding = nn.Parameter(torch.randn(1, sizes.grid**2 + 1, sizes.width) * 0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed [tiles, 3, side, side] as [tiles, 1 + patches, width]; a matrix product beats the convolution."""
        tiles, _, side, _ = pixels.shape
        grid = side // self.patch
        cut = pixels.view(tiles, 3, grid, self.patch, grid, self.patch).permute(0, 2, 4, 1, 3, 5)
        flat = cut.reshape(tiles, grid * grid, 3 * self.patch**2)
        embedded = functional.linear(flat, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        start = self.class_embedding.expand(tiles, -1, -1)
        return torch.as_tensor(torch.cat([start, embedded], 1) + self.position_embedding)


class VisionModel(nn.Module):
    """InternViT: embeddings and layers, no final norm (``select_layer`` -1 takes the last layer as it is)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(sizes)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(VisionLayer(sizes) for _ in range(sizes.vision_layers))})

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return patch features [tiles, patches, width]; ``keep`` int64 [tiles, kept] drops the other patches."""
        hidden = self.embeddings(pixels)
        if keep is not None:
            chosen = torch.cat([torch.zeros_like(keep[:, :1]), keep + 1], 1)
            hidden = hidden.gather(1, chosen[..., None].expand(-1, -1, hidden.shape[-1]))
        for layer in self.encoder["layers"]:  # type: ignore[attr-defined]  # a ModuleList is iterable
            hidden = layer(hidden)
        return torch.as_tensor(hidden[:, 1:])


class RmsNorm(nn.Module):
    """Root-mean-square norm with a gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise [..., width]."""
        return functional.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


class TextAttention(nn.Module):
    """Qwen2 attention: grouped keys and values, rotary positions, biases on q, k and v."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim = sizes.heads, sizes.kv_heads, sizes.width // sizes.heads
        self.q_proj = nn.Linear(sizes.width, self.heads * self.dim)
        self.k_proj = nn.Linear(sizes.width, self.kv_heads * self.dim)
        self.v_proj = nn.Linear(sizes.width, self.kv_heads * self.dim)
        self.o_proj = nn.Linear(self.heads * self.dim, sizes.width, bias=False)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mix [rows, length, width]; cosine and sine are [rows, 1, length, dim], bias [rows, 1, length, length].

        Returns the mixed states and the attention weights [rows, heads, length, length].
        """
        rows, length, _ = hidden.shape
        query = _rotate(self.q_proj(hidden).view(rows, length, self.heads, self.dim).transpose(1, 2), cosine, sine)
        key = _rotate(self.k_proj(hidden).view(rows, length, self.kv_heads, self.dim).transpose(1, 2), cosine, sine)
        value = self.v_proj(hidden).view(rows, length, self.kv_heads, self.dim).transpose(1, 2)
        repeats = self.heads // self.kv_heads
        weights = _attention(query, key.repeat_interleave(repeats, 1), bias)
        mixed = weights @ value.repeat_interleave(repeats, 1)
        return torch.as_tensor(self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))), weights


def _rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], -1)
    return states * cosine + turned * sine


class TextMlp(nn.Module):
    """Gated SiLU layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(sizes.width, sizes.inner, bias=False)
        self.up_proj = nn.Linear(sizes.width, sizes.inner, bias=False)
        self.down_proj = nn.Linear(sizes.inner, sizes.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform [..., width]."""
        return torch.as_tensor(self.down_proj(functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden)))


class TextLayer(nn.Module):
    """One Qwen2 layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn = TextAttention(sizes)
        self.mlp = TextMlp(sizes)
        self.input_layernorm = RmsNorm(sizes.width, sizes.norm_eps)
        self.post_attention_layernorm = RmsNorm(sizes.width, sizes.norm_eps)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Transform [rows, length, width]; return the attention weights as well."""
        mixed, weights = self.self_attn(self.input_layernorm(hidden), cosine, sine, bias)
        hidden = hidden + mixed
        return torch.as_tensor(hidden + self.mlp(self.post_attention_layernorm(hidden))), weights


class TextModel(nn.Module):
    """Qwen2 decoder on given embeddings, positions and mask."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.layers = nn.ModuleList(TextLayer(sizes) for _ in range(sizes.text_layers))
        self.norm = RmsNorm(sizes.width, sizes.norm_eps)
        dim = sizes.width // sizes.heads
        inverse = sizes.rope_theta ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        self.register_buffer("inverse", inverse, persistent=False)

    def forward(
        self, embedded: Tensor, positions: Tensor, allowed: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return hidden states [rows, length, width]; ``allowed`` is [rows, length, length].

        Returns for each layer, too, the states behind it and its attention [rows, heads, length, length].
        """
        angles = positions[:, None, :, None].float() * torch.as_tensor(self.inverse).float()
        cosine = torch.cat([angles.cos()] * 2, -1).to(embedded.dtype)
        sine = torch.cat([angles.sin()] * 2, -1).to(embedded.dtype)
        bias = torch.zeros(allowed.shape, dtype=embedded.dtype).masked_fill_(~allowed, -1e4)[:, None]
        hidden = embedded
        layers: list[tuple[Tensor, Tensor]] = []
        for layer in self.layers:
            layers.append(layer(hidden, cosine, sine, bias))
            hidden = layers[-1][0]
        return torch.as_tensor(self.norm(hidden)), layers


class LanguageModel(nn.Module):
    """Decoder and output head, untied."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.model = TextModel(sizes)
        self.lm_head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)


class Network(nn.Module):
    """The whole model; ``readers`` are the linear readers of the dense labels and are not exported."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.vision_model = VisionModel(sizes)
        joined = 4 * sizes.width
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(joined), nn.Linear(joined, sizes.width), nn.GELU(), nn.Linear(sizes.width, sizes.width)
        )
        self.language_model = LanguageModel(sizes)
        outputs = sum(THING_FIELDS.values()) + len(PLACES)
        self.readers = nn.ModuleDict(
            {
                "patch": nn.Linear(sizes.width, outputs),
                "token": nn.Linear(sizes.width, outputs + sum(PICTURE_FIELDS.values())),
            }
        )
        self.apply(_initialise)

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch features [tiles, patches, width] and image tokens [tiles, patches / 4, width]."""
        patches = self.vision_model(pixels)
        return patches, self.mlp1(pixel_shuffle(patches, self.sizes.grid))

    def see_part(self, pixels: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Like :meth:`see` for the 2 x 2 ``blocks`` int64 [tiles, kept] alone, at their cost: patches, tokens."""
        keep = block_patches(self.sizes.grid)[blocks].flatten(1)
        patches = self.vision_model(pixels, keep)
        return patches, self.mlp1(patches.reshape(*blocks.shape, -1))

    def read(
        self, ids: Tensor, tokens: Tensor, features: Tensor, positions: Tensor, allowed: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return what :class:`TextModel` does for rows that hold ``tokens`` [n, width] where ``features`` >= 0."""
        embedded = self.language_model.model.embed_tokens(ids)
        if len(tokens):
            pictured = tokens[features.clamp_min(0)]
            embedded = torch.where((features >= 0)[..., None], pictured, embedded)
        hidden, layers = self.language_model.model(embedded, positions, allowed)
        return hidden, layers


def pixel_shuffle(patches: Tensor, grid: int) -> Tensor:
    """Join 2 x 2 patches: [tiles, grid², width] to [tiles, grid² / 4, 4 width], in the order of ``ps_version`` v2."""
    tiles, _, width = patches.shape
    half = grid // 2
    blocks = patches.view(tiles, half, 2, half, 2, width).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(tiles, half * half, 4 * width)


def block_patches(grid: int) -> Tensor:
    """Return int64 [grid² / 4, 4]: the patches that :func:`pixel_shuffle` joins, in its order."""
    return torch.arange(grid * grid).view(grid // 2, 2, grid // 2, 2).permute(0, 2, 1, 3).reshape(-1, 4)


INITIAL: Final = 0.05
"""Standard deviation of initial matrices, about 0.7 / sqrt(192)."""


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=INITIAL)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL)


def normalise(tiles: Tensor, dtype: torch.dtype) -> Tensor:
    """Return normalised pixels [n, 3, side, side] of uint8 tiles [n, side, side, 3] (ImageNet mean and deviation)."""
    mean = torch.tensor((0.485, 0.456, 0.406)) * 255
    deviation = torch.tensor((0.229, 0.224, 0.225)) * 255
    return ((tiles.float() - mean) / deviation).to(dtype).permute(0, 3, 1, 2).contiguous()
