"""The contract that every family fills: config -> weights -> inputs -> prompt.

A family opens a local folder as a :class:`Checkpoint` without touching its weights. The engine
then asks it, in this order, for an empty network, the rules that place each tensor of the files,
the layout of a conversation, and the pixels of a picture. Nothing in a folder is ever executed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from vlmchat.conversation import Message, Picture
from vlmchat.families.mapping import Rule
from vlmchat.options import VisionOptions

if TYPE_CHECKING:
    from vlmchat.families.recorded import RecordedStep, Steady

Config: TypeAlias = Mapping[str, Any]
"""A parsed config.json."""
Position: TypeAlias = int | tuple[int, int, int]
"""A rotary position, on one axis or on three (time, row, column)."""


@dataclass(frozen=True, slots=True)
class PictureInput:
    """One picture (or video frame) of a prompt and how it is cut."""

    picture: Picture
    tiles: int
    """Forward passes of the vision tower, thumbnail included."""
    features: int
    """Feature positions in the prompt."""
    preprocessing: str
    """Everything apart from the picture that its features depend on, as a stable word."""

    @property
    def key(self) -> str:
        """Identity of the features: same picture bytes, same preprocessing."""
        return f"{self.picture.digest}/{self.preprocessing}"


@dataclass(frozen=True, slots=True)
class Cut:
    """How the tiles of one picture lie in it and how their colours became numbers: for people who look at them."""

    columns: int = 1
    rows: int = 1
    thumbnail: Literal["none", "first", "last"] = "none"
    """Where the whole picture stands among the tiles when it comes beside its cells."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Per RGB channel: a pixel is (value - mean) / std of a value in 0..1."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A stretch of prompt positions that hold features ``offset`` … of one picture."""

    start: int
    length: int
    picture: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation laid out for one checkpoint."""

    ids: tuple[int, ...]
    """Token ids; feature positions hold the family's placeholder id."""
    slots: tuple[Slot, ...] = ()
    pictures: tuple[PictureInput, ...] = ()
    text: str = field(default="", repr=False)
    """The prompt as one string, placeholders written out, for people and tests."""
    positions: tuple[Position, ...] | None = None
    """Rotary positions where they are not 0, 1, 2, … (CogVLM2: the patches of a picture share one)."""
    experts: tuple[bool, ...] | None = None
    """Positions that are computed as picture: CogVLM2's vision expert branch, Gemma 3's attention in both
    directions; None where all are computed alike."""
    whole_slots: bool = False
    """The features of a slot see each other, so that none is computed without the others."""
    regime: Hashable = None
    """Which rotary table the prompt is computed with, where that depends on its length."""

    @property
    def image_tokens(self) -> int:
        """Positions that hold picture features."""
        return sum(slot.length for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of consecutive prompt positions on its way through the language model, one for each row of a batch.

    Shapes: ``embeddings`` [rows, length, hidden], ``positions`` [rows, length] int64 ([rows, length, 3] on three
    axes), ``experts`` [rows, length] bool or None. A row whose stretch is shorter is filled up behind its end;
    what is computed there is never seen.
    """

    embeddings: Tensor
    positions: Tensor
    totals: tuple[int, ...]
    """Length of each row's whole sequence, as if it were computed in one call."""
    experts: Tensor | None = None
    starts: tuple[int, ...] = ()
    """Positions of each row that the cache holds, where they differ; empty where all rows are equally far."""


def following(position: Position, steps: int) -> Position:
    """Return the position of text ``steps`` behind ``position``: on all axes behind its greatest."""
    if isinstance(position, int):
        return position + steps
    place = max(position) + steps
    return place, place, place


class Decoder(Protocol):
    """Turns the ids of one answer into text, never half a character."""

    def push(self, token_id: int) -> str:
        """Return the text that became certain with this token; may be empty."""

    def finish(self) -> str:
        """Return what was held back; incomplete characters as U+FFFD."""


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer; families build it from the checkpoint's own files."""

    def begin(self, text: str, before: str = "") -> list[int]:
        """Return the ids at the front of a prompt: bos if there is one, and ``text`` in front of token ``before``."""

    def encode(self, text: str, after: str = "") -> list[int]:
        """Return the ids of plain ``text`` behind control token ``after`` (empty: behind features).

        Names of control tokens in ``text`` stay plain characters.
        """

    def control(self, token: str) -> int:
        """Return the id of control token ``token``."""

    def decoder(self) -> Decoder:
        """Return a fresh decoder for one answer."""

    def token_bytes(self) -> Mapping[int, bytes]:
        """Return what each id adds to an answer, in UTF-8; control tokens are left out."""


class Network(Protocol):
    """A family's native model, weights in place. All methods run under ``torch.inference_mode``."""

    module: nn.Module
    """What the weights rules name their targets in."""
    joins_tiles: bool
    """Tiles of several pictures may share a call of :meth:`encode`."""
    recorded: RecordedStep | None
    """Computes a token of each row by recorded kernels, where the engine sets it."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Return projected features [tiles, tokens, hidden] of ``pixels`` [tiles, 3, side, side]."""

    def embed(self, ids: Tensor) -> Tensor:
        """Return token embeddings [rows, length, hidden] of ``ids`` [rows, length]."""

    def hidden_states(self, span: Span, cache: Cache) -> Tensor:
        """Run ``span`` behind what ``cache`` holds; return the last hidden states [rows, length, hidden]."""

    def next_logits(
        self, ids: Sequence[int], positions: Sequence[Position], totals: tuple[int, ...], cache: Cache
    ) -> Tensor | None:
        """Run a new token of each row behind what ``cache`` holds, by what was made for that; None where there is none.

        Args:
            ids: of the tokens.
            positions: their rotary positions.
            totals: length of each row's whole sequence.
            cache: not empty.

        Returns:
            float32 logits [rows, vocab], which stay until the next call.
        """

    def steady(self, dtype: torch.dtype, device: torch.device) -> Steady | None:
        """Return the decoder as something whose steps can be recorded; None where they differ from token to token."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [.., vocab] of hidden states [.., hidden]."""

    def decoder_layers(self) -> int:
        """Return how many layers the cache has to hold."""

    def blocks(self) -> nn.ModuleList:
        """Return the language model's decoder layers: what quantization on the fly applies to."""


class Checkpoint(Protocol):
    """One folder, understood but not loaded."""

    family: str
    folder: Path
    dtype: torch.dtype | None
    """The dtype of its tensors by ``torch_dtype`` of config.json; None where that does not say, then the
    files decide."""
    context_tokens: int
    kv_elements_per_token: int
    """Numbers the KV cache holds per token: layers x 2 x kv heads x head size."""
    stop_ids: frozenset[int]
    tokenizer: Tokenizer

    def build(self) -> Network:
        """Return the network with every parameter on the meta device."""

    def rules(self) -> Sequence[Rule]:
        """Return where each tensor of the files belongs in ``build().module``."""

    def layout(self, messages: Sequence[Message], vision: VisionOptions) -> Prompt:
        """Lay out ``messages``; pictures are measured, not decoded.

        Raises:
            InputError: the family cannot take this conversation.
        """

    def pixels(self, picture: PictureInput) -> Tensor:
        """Return the float32 pixels [tiles, 3, side, side] of ``picture``.

        Raises:
            ImageError: it cannot be read any more.
        """

    def cut(self, picture: PictureInput) -> Cut:
        """Return how the tiles that :meth:`pixels` makes of ``picture`` are to be looked at."""


class Family(Protocol):
    """A family's front door."""

    name: str

    def claims(self, config: Config) -> bool:
        """Say whether a folder with this config.json is of this family."""

    def open(self, folder: Path, config: Config) -> Checkpoint:
        """Read config and tokenizer of ``folder``.

        Raises:
            CheckpointError: a key is missing or has a value this program has no native code for.
        """
