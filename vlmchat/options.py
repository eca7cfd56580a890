"""What a user may choose about a load, a picture and an answer, as frozen values.

The names are those of the command line, of ``config.toml`` and of the JSON fields, so there is
one spelling of each choice in the whole program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlmchat.errors import UsageError

Quantization: TypeAlias = Literal["none", "8-bit", "4-bit"]
Dtype: TypeAlias = Literal["auto", "bfloat16", "float16", "float32"]
SHORT_DTYPES: Mapping[str, str] = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""As sentences and narrow places name them."""
Template: TypeAlias = Literal["chat", "base", "vqa"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a checkpoint is brought into memory."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    dtype: Dtype = "auto"
    """``auto``: the checkpoint's own dtype where the device computes in it, else float32."""
    quantization: Quantization = "none"
    """Quantization on the fly; a checkpoint that is already quantized ignores it."""


@dataclass(frozen=True, slots=True)
class VisionOptions:
    """How pictures and prompts are laid out."""

    max_tiles: int | None = None
    """Tiles of one picture, thumbnail apart; None: the checkpoint's own limit."""
    template: Template | None = None
    """CogVLM2's prompt forms; None: the checkpoint's own."""

    def __post_init__(self) -> None:
        """Refuse a limit below one tile."""
        if self.max_tiles is not None and self.max_tiles < 1:
            raise UsageError(f"--max-tiles must be at least 1, not {self.max_tiles}.")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The default is greedy, as the model cards do."""

    max_new_tokens: int = 1024
    temperature: float = 0.0
    """0 is greedy; then ``top_p`` and ``top_k`` have no say."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches this; 1 keeps all."""
    top_k: int = 0
    """Keep this many tokens; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Over the generated tokens only (CTRL, arXiv:1909.05858, eq. 1.4); 1 is none."""
    seed: int | None = None
    """Same seed, same text on the same device and dtype; None draws one."""

    def __post_init__(self) -> None:
        """Refuse values outside their range, naming the option."""
        for name, value, good, rule in (
            ("max-new-tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, 0 <= self.temperature <= 100, "between 0 and 100"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top-k", self.top_k, self.top_k >= 0, "0 or more"),
            ("repetition-penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0"),
            ("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "between 0 and 2**63 - 1"),
        ):
            if not good:
                raise UsageError(f"--{name} must be {rule}, not {value}.")
