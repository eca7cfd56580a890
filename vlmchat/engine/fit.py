"""Will it fit: bytes of weights, KV cache and activations from a config alone, beside what a machine has.

No torch here. The rules are those of the engine itself (``quantize.py``, ``kv.py``, ``generate.py``,
``families/packed``); ``tests/engine/test_fit.py`` holds them to the bytes really held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vlmchat.engine.grain import INT4_GROUP, INT4_OUTPUTS, QUANTIZING_BYTES, TILE_BATCH, longest_pass
from vlmchat.engine.machine import Kind
from vlmchat.families.packed.layout import UNPACKING_BYTES, packed_bytes
from vlmchat.families.sizes import Linear, Part, Sizes
from vlmchat.options import Dtype, Quantization

ITEM_BYTES: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
_USUAL_DTYPE = "bfloat16"
"""Where config.json names none: that of every released checkpoint without the key (CogVLM2, facts §2)."""
_FLOAT32, _BOOL = 4, 1
_CHUNK_WIDTHS, _CHUNK_MLPS = 6, 3
"""Tensors of the model's width, and of its MLP's, that live at once while a chunk of the prompt is read."""
_LOGITS = 3
"""Copies of the last position's float32 logits: computed, widened, sampled from."""
_NF4_BLOCK, _NF4_NESTED, _NF4_TABLES = 64, 256, (16 + 256) * 4
"""bitsandbytes' 4 bits on a GPU: a byte for each 64 weights, a float32 for each 256 of those, two codebooks."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one network takes in one setting on one kind of device, in bytes."""

    quantization: str
    """``none``, ``8-bit``, ``4-bit``; ``packed`` or ``unpacked`` for a checkpoint that comes quantized."""
    dtype: str
    kind: Kind
    weights: int
    vision: int
    """The share of the visual side in ``weights``."""
    kv_per_token: int
    copies_per_token: int
    """Of keys, values and mask, for each token of the context, while a chunk of the prompt is read."""
    working: int
    """Activations: of the largest picture or of a chunk of the prompt, whichever is more."""
    loading: int
    """What the largest layer takes on top while it is quantized or unpacked; gone once loaded."""
    untouched: int
    """Of ``weights``: the embedding, where it stays mapped from its file and only the rows of the prompt are read."""
    picture_tokens: int
    """Prompt positions of the largest picture, or of a video."""
    picture_features: int
    """Bytes of its features, kept for later turns."""

    @property
    def per_token(self) -> int:
        """Bytes that one more token of context takes."""
        return self.kv_per_token + self.copies_per_token

    def needs(self, tokens: int, pictures: int = 0) -> int:
        """Return the peak for a conversation of ``tokens`` (those of its ``pictures`` included)."""
        answering = self.working + tokens * self.per_token + pictures * self.picture_features
        return self.weights - self.untouched + max(answering, self.loading)


def estimate(sizes: Sizes, quantization: Quantization, dtype: Dtype, kind: Kind, bfloat16: bool) -> Estimate:
    """Count what ``sizes`` takes.

    Args:
        sizes: of the network.
        quantization: on the fly; a checkpoint that comes quantized pays no heed to it.
        dtype: as chosen; ``auto`` follows ``engine.device.choose_dtype``.
        kind: where it runs.
        bfloat16: whether the CPU computes in bfloat16.
    """
    word = _dtype(sizes, dtype, kind, bfloat16)
    held = Held(sizes, quantization, kind, ITEM_BYTES[word])
    shape, item = sizes.attention, ITEM_BYTES[word]
    repeated = 2 * shape.heads * shape.head_size * item if shape.heads != shape.kv_heads else 0
    return Estimate(
        quantization=held.word,
        dtype=word,
        kind=kind,
        weights=held.part(sizes.decoder, decoder=True) + held.vision() + held.ends(),
        vision=held.vision(),
        kv_per_token=sizes.kv_numbers_per_token * item,
        copies_per_token=repeated + longest_pass(kind) * (item + _BOOL),
        working=_working(sizes, kind, item, held.word),
        loading=held.loading(),
        untouched=0 if sizes.tied else held.mapped(word) * sizes.vocabulary * shape.hidden * item,
        picture_tokens=sizes.pictures.tokens,
        picture_features=sizes.pictures.features * shape.hidden * item,
    )


@dataclass(frozen=True, slots=True)
class Held:
    """How linear layers are held in one setting."""

    sizes: Sizes
    quantization: Quantization
    kind: Kind
    item: int
    """Bytes of a number in the dtype that is computed in."""

    @property
    def word(self) -> str:
        """The setting as ``LoadedModel.quantization`` names it."""
        if self.sizes.packing is None:
            return self.quantization
        return "unpacked" if self.kind == "cpu" else "packed"

    def part(self, part: Part, decoder: bool) -> int:
        """Return the bytes of all blocks of ``part``; biases and all that is no linear layer keep the dtype."""
        linears = sum(self._weight(layer, decoder) + layer.bias * layer.outputs * self.item for layer in part.linears)
        return part.repeats * (linears + part.others * self.item)

    def vision(self) -> int:
        """Return the bytes of the visual side, which no quantization on the fly touches."""
        return sum(self.part(part, decoder=False) for part in self.sizes.vision)

    def ends(self) -> int:
        """Return the bytes of embedding, output head and last norm; on a CPU the head has 8 bits in either setting."""
        sizes, hidden = self.sizes, self.sizes.attention.hidden
        quantized = self.quantization != "none" and self.kind == "cpu" and sizes.packing is None
        if not quantized or sizes.tied or hidden % INT4_GROUP:
            return sizes.ends * self.item
        weights = sizes.vocabulary * hidden
        return (sizes.ends - weights + sizes.vocabulary) * self.item + weights

    def loading(self) -> int:
        """Return what the largest layer takes while it is quantized or, on a CPU, unpacked."""
        largest = max((layer.weights for layer in self.sizes.decoder.linears), default=0)
        if self.word == "unpacked" and self.sizes.packing is not None:
            return largest * (UNPACKING_BYTES[self.sizes.packing.method] - self.item)
        if self.kind == "cpu":
            return largest * QUANTIZING_BYTES.get(self.word, 0)
        return largest * self.item if self.word in QUANTIZING_BYTES else 0

    def mapped(self, dtype: str) -> bool:
        """Say whether weights of this dtype stay in their file: on a CPU, where nothing is converted."""
        return self.kind == "cpu" and dtype == (self.sizes.dtype or _USUAL_DTYPE)

    def _weight(self, layer: Linear, decoder: bool) -> int:
        packing = self.sizes.packing
        if packing is not None and self.word == "packed" and (decoder or packing.vision):
            return packed_bytes(layer, packing)
        if packing is None and decoder and self.quantization != "none":
            return self._quantized(layer)
        return layer.weights * self.item

    def _quantized(self, layer: Linear) -> int:
        weights, outputs = layer.weights, layer.outputs
        if self.kind != "cpu":
            if self.quantization == "8-bit":
                return weights + outputs * _FLOAT32
            blocks = -(-weights // _NF4_BLOCK)
            return -(-weights // 2) + blocks + -(-blocks // _NF4_NESTED) * _FLOAT32 + _NF4_TABLES
        if layer.inputs % INT4_GROUP or outputs % INT4_OUTPUTS:
            return weights * self.item
        if self.quantization == "8-bit":
            return weights + outputs * self.item
        return weights // 2 + 2 * outputs * (layer.inputs // INT4_GROUP) * self.item


def _dtype(sizes: Sizes, chosen: Dtype, kind: Kind, bfloat16: bool) -> str:
    """Follow ``engine.device.choose_dtype``."""
    if chosen != "auto":
        return chosen
    stored = sizes.dtype or _USUAL_DTYPE
    if kind != "cpu" or stored == "float32":
        return stored
    return "bfloat16" if bfloat16 else "float32"


def _working(sizes: Sizes, kind: Kind, item: int, held: str) -> int:
    """Return the activations that live at once: pictures are read before the prompt, never together with it."""
    pictures, shape = sizes.pictures, sizes.attention
    batch = min(TILE_BATCH[kind], pictures.tiles)
    pixels = 3 * pictures.side**2 * (pictures.tiles * _FLOAT32 + batch * item)
    picture = pixels + max(batch * pictures.tile_numbers, pictures.word_numbers) * item
    chunk = longest_pass(kind) * (_CHUNK_WIDTHS * shape.hidden + _CHUNK_MLPS * shape.inner) * item
    unpacked = 0
    if held == "packed" and sizes.packing is not None:
        largest = max(_all_linears(sizes), key=lambda layer: layer.weights).weights
        unpacked = largest * UNPACKING_BYTES[sizes.packing.method]
    return max(picture, chunk) + unpacked + sizes.vocabulary * _FLOAT32 * _LOGITS


def _all_linears(sizes: Sizes) -> Iterator[Linear]:
    yield from sizes.decoder.linears
    if sizes.packing is not None and sizes.packing.vision:
        for part in sizes.vision:
            yield from part.linears
