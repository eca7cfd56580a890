"""One answer while it is made: its prompt, its sampler, its text, its clock."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from vlmchat.engine.api import Request
from vlmchat.engine.detokenize import AnswerText
from vlmchat.engine.events import AnswerEvent, Delta, Finished, FinishReason, Timing, Usage
from vlmchat.engine.kv import mark_of_token, marks_of
from vlmchat.engine.sampling import Sampler
from vlmchat.families.family import Position, Prompt, following


@dataclass(slots=True)
class Clock:
    """Seconds since the request, at the end of each phase."""

    start: float = field(default_factory=time.perf_counter)
    encoded: float = 0.0
    prefilled: float = 0.0
    first: float = 0.0

    def now(self) -> float:
        """Return seconds since the request."""
        return time.perf_counter() - self.start

    def timing(self, tokens: int) -> Timing:
        """Return the account of an answer of ``tokens`` tokens that ends now."""
        total = self.now()
        # A phase that a stop cut off took until the stop.
        encoded = self.encoded or total
        prefilled = self.prefilled or total
        decoding = total - self.first
        rate = (tokens - 1) / decoding if tokens > 1 and decoding > 0 else 0.0
        return Timing(0.0, encoded, prefilled - encoded, self.first, total, rate)


@dataclass(slots=True, eq=False)
class Turn:
    """One answer while it is made; its place in a batch comes and goes, this stays."""

    number: int
    """Of the request, from 0."""
    request: Request
    prompt: Prompt
    already: tuple[int, ...]
    """Ids of the answer that is continued, at the end of ``prompt``; empty for a new answer."""
    text: AnswerText
    sampler: Sampler
    limit: int
    """Tokens it may have."""
    stop_ids: frozenset[int]
    marks: list[Hashable] = field(init=False)
    """Identities of the prompt's positions."""
    clock: Clock = field(default_factory=Clock)
    new: list[int] = field(default_factory=list)
    """Generated ids."""
    run: int = 0
    """How many of ``new`` went through the model; the rest waits for its pass."""
    cached: int = 0
    """Prompt positions that were there before."""
    features: dict[int, Tensor] = field(default_factory=dict)
    """Features [positions, hidden] that the prompt still needs, by picture number."""
    ended: bool = False

    def __post_init__(self) -> None:
        self.marks = marks_of(self.prompt)

    @property
    def fresh(self) -> bool:
        """Nothing was said yet, so that the progress of its prompt is worth telling."""
        return not self.new

    def position(self) -> Position:
        """Return the rotary position of the next generated id to run: it follows the prompt's last one."""
        prompt = self.prompt
        last = prompt.positions[-1] if prompt.positions is not None else len(prompt.ids) - 1
        return following(last, self.run + 1)

    def mark(self) -> Hashable:
        """Return the identity of the next generated id to run."""
        return mark_of_token(self.new[self.run], self.position(), self.prompt)

    def say(self, token: int) -> tuple[Delta, FinishReason | None]:
        """Take a sampled ``token``; return what it says, and why the answer ends with it if it does."""
        self.new.append(token)
        self.clock.first = self.clock.first or self.clock.now()
        stops = token in self.stop_ids
        # Some tokenizers would show it (Phi-3's <|end|>); the original cuts the answer there.
        delta = Delta("" if stops else self.text.push(token), (token,))
        if stops:
            return delta, "stop"
        return delta, "length" if len(self.new) == self.limit else None

    def finish(self, reason: FinishReason) -> Iterator[AnswerEvent]:
        """Yield the end of the answer."""
        self.ended = True
        # A character cut in half by a stop is left out: a continuation says it whole.
        if reason != "interrupted" and (rest := self.text.finish()):
            yield Delta(rest, ())
        usage = Usage(len(self.prompt.ids), self.prompt.image_tokens, len(self.new))
        timing = self.clock.timing(len(self.new))
        yield Finished(reason, self.text.text, tuple(self.new), usage, timing, tuple(self.sampler.probabilities))

    def said(self) -> tuple[int, ...]:
        """Return the ids of the whole answer, the continued part included; a stop token is not part of it."""
        return (*self.already, *(id_ for id_ in self.new if id_ not in self.stop_ids))

    def park(self) -> None:
        """Give up its place in the batch: what it said stays, and will be run again."""
        self.run = self.cached = 0
        self.features = {}


def longest(turns: Sequence[Turn]) -> int:
    """Return the most prompt positions that one of ``turns`` has to compute."""
    return max(len(turn.prompt.ids) - turn.cached for turn in turns)
