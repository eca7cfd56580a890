"""What a verification finds, as frozen rows. No torch here: the command line prints them.

Hashes of files are of :mod:`vlmchat.hub.digests`; these are the two things that need the engine, the
load audit and the comparison with a reference folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from vlmchat.engine.events import Loading

Step: TypeAlias = Literal["prompt", "ids", "positions", "pixels", "vision", "embeddings", "logits", "tokens", "text"]
STEPS: tuple[Step, ...] = get_args(Step)
"""From a conversation to its answer, in the order in which one feeds the next: the first that differs is
where to look."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A tensor of the files that the network does not need."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredAs:
    """How much of the files is stored in one dtype."""

    dtype: str
    tensors: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Audit:
    """A checkpoint in which every tensor has its place, each exactly once."""

    family: str
    tensors: int
    """In the files, leftovers included."""
    parameters: int
    """Parameters and buffers of the network that the files fill: all of them, none newly initialised."""
    leftovers: tuple[Leftover, ...]
    stored: tuple[StoredAs, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A checkpoint that did not pass; the message names the tensors."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Computing:
    """The model is in memory; what the rows that follow were computed with."""

    device: str
    dtype: str
    cases: int


@dataclass(frozen=True, slots=True)
class Comparing:
    """Progress: the case at work."""

    case: str
    number: int
    """From 1."""
    cases: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One step of one case."""

    case: str
    step: Step
    difference: float | None
    """Largest absolute difference of the numbers, or how many ids or characters differ; None where the two
    cannot be compared, because shapes differ or a number is none."""
    tolerance: float
    detail: str = ""
    """Where they differ, for steps that must be exact; why they cannot be compared."""

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance."""
        return self.difference is not None and self.difference <= self.tolerance


Finding: TypeAlias = Loading | Audit | Refusal | Computing | Comparing | Compared
