"""The one event stream: what an engine tells while it loads a checkpoint and while it answers.

``ask``, ``pipe``, the app, the tests and the benchmarks all consume these and nothing else. The
order within one answer is ``Encoding* Prefill+ Delta* Finished``; errors are raised from the
iterator as :class:`vlmchat.errors.VlmchatError`. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlmchat.errors import VlmchatError

Stage: TypeAlias = Literal[
    "waiting", "libraries", "config", "tokenizer", "weights", "unpacking", "audit", "compiling", "arranging", "ready"
]
"""``waiting``: a kept engine works for another program; ``compiling``: once on a machine, the code of a decode step;
``arranging``: weights are laid out for the CPU's kernels."""
FinishReason: TypeAlias = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True, slots=True)
class Loading:
    """Progress of bringing a checkpoint into memory."""

    stage: Stage
    done: int = 0
    """Bytes of weights placed so far (stage ``weights``)."""
    total: int = 0
    """Bytes of weights in all; 0 when the stage has no measure."""
    shard: int = 0
    """The weights file at work, from 1."""
    shards: int = 0


@dataclass(frozen=True, slots=True)
class Encoding:
    """Progress of the vision tower; ``tile`` counts finished tiles of the picture at work."""

    picture: int
    """From 1, over the pictures that have to be encoded in this turn."""
    pictures: int
    tile: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """Progress of the prompt through the language model."""

    done: int
    """Prompt tokens that are in the KV cache, reused ones included."""
    total: int
    """Prompt tokens of this turn, image tokens included."""
    cached: int
    """Prompt tokens that an earlier turn had left in the KV cache."""


@dataclass(frozen=True, slots=True)
class Delta:
    """New text. ``text`` holds whole characters only; it may be empty while one is unfinished."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer."""

    prompt_tokens: int
    """The whole prompt, image tokens included."""
    image_tokens: int
    """Positions of the prompt that hold picture features."""
    completion_tokens: int
    """Generated tokens, the stop token included."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall-clock seconds of one answer."""

    load_s: float
    """Spent loading the model for this answer; 0 when it was loaded already."""
    image_s: float
    """Decoding pictures and running the vision tower."""
    prefill_s: float
    first_token_s: float
    """From the request to the first generated token, pictures and prefill included."""
    total_s: float
    decode_tokens_per_s: float
    """Tokens after the first over the time after the first; 0 for fewer than two tokens."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one answer, whatever ended it; what was produced is all here."""

    reason: FinishReason
    text: str
    """The whole answer as the family presents it (special tokens gone, stripped)."""
    token_ids: tuple[int, ...]
    """Generated ids, the stop token included when there was one."""
    usage: Usage
    timing: Timing
    probabilities: tuple[float, ...] = ()
    """Of each generated id, among those that could come next; only for an answer that is held to a schema."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of one of several answers that could not be given; the others go on."""

    problem: VlmchatError


LoadEvent: TypeAlias = Loading
AnswerEvent: TypeAlias = Encoding | Prefill | Delta | Finished
RowEvent: TypeAlias = tuple[int, AnswerEvent | Failed]
"""An event of the answer to one of several requests, with the request's number, from 0."""
Event: TypeAlias = LoadEvent | AnswerEvent
