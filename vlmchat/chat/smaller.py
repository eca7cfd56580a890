"""Smaller settings for a device whose memory ran out, with what each of them saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from vlmchat.engine.api import LoadedModel, PromptSize
from vlmchat.options import LoadOptions, Quantization

Kind: TypeAlias = Literal["tiles", "quantization", "cpu"]
_BITS: dict[str, int] = {"float32": 32, "bfloat16": 16, "float16": 16}
_SMALLER: tuple[tuple[Quantization, int], ...] = (("8-bit", 8), ("4-bit", 4))


@dataclass(frozen=True, slots=True)
class Smaller:
    """One setting that needs less memory."""

    kind: Kind
    load: LoadOptions | None = None
    """How to load the model again; None keeps it."""
    max_tiles: int | None = None
    """Tiles of one picture; None keeps the limit."""
    before: int = 0
    """Bytes of weights, or image tokens for ``tiles``, now."""
    after: int = 0
    """The same with this setting: at least, since only the language model is quantized."""


def smaller(
    options: LoadOptions, loaded: LoadedModel | None, tiles: tuple[tuple[int | None, PromptSize], ...] = ()
) -> Iterator[Smaller]:
    """Yield what needs less memory than ``options``, the mildest first.

    Args:
        options: how the model was loaded.
        loaded: the model in memory; None when the load itself ran out.
        tiles: limits of tiles with what the question costs then, the present one first.
    """
    for limit, size in tiles[1:]:
        now = tiles[0][1].image_tokens
        if size.image_tokens < now:
            yield Smaller("tiles", None, limit, now, size.image_tokens)
            break
    weights = loaded.weight_bytes if loaded is not None else 0
    bits = _BITS.get(loaded.dtype, 16) if loaded is not None else 16
    for quantization, after in _SMALLER:
        if options.quantization == "none" and (loaded is None or loaded.quantization == "none"):
            changed = replace(options, quantization=quantization)
            yield Smaller("quantization", changed, None, weights, weights * after // bits)
    if options.quantization == "8-bit":
        yield Smaller("quantization", replace(options, quantization="4-bit"), None, weights, weights // 2)
    if options.device != "cpu" and (loaded is None or loaded.device != "cpu"):
        yield Smaller("cpu", replace(options, device="cpu"), None, weights, weights)
