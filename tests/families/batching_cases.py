"""What a batch gives for each of its requests, with the logits behind every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from vlmchat.conversation import user
from vlmchat.engine import batch
from vlmchat.engine.api import Request
from vlmchat.engine.arrivals import Listed
from vlmchat.engine.events import Failed, Finished
from vlmchat.engine.generate import Runner
from vlmchat.engine.sampling import Sampler, choose
from vlmchat.engine.turn import Turn
from vlmchat.options import Sampling


@dataclass
class Row:
    """One answer of a batch."""

    logits: list[Tensor] = field(default_factory=list)
    """Of each token [vocab], float32."""
    end: Finished | Failed | None = None

    @property
    def tokens(self) -> list[int]:
        """Generated ids."""
        assert isinstance(self.end, Finished)
        return list(self.end.token_ids)


def answered(runner: Runner, requests: Sequence[Request], width: int) -> list[Row]:
    """Answer ``requests``, ``width`` at a time, from empty caches."""
    rows = [Row() for _ in requests]
    owners: dict[Sampler, int] = {}
    begin = runner._begin

    def begun(number: int, request: Request) -> Turn:
        turn = begin(number, request)
        owners[turn.sampler] = number
        return turn

    def chosen(samplers: Sequence[Sampler], logits: Tensor) -> list[int]:
        for sampler, scores in zip(samplers, logits, strict=True):
            rows[owners[sampler]].logits.append(scores.clone())
        return choose(samplers, logits)

    runner.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_begin", begun)
        patch.setattr(batch, "choose", chosen)
        for number, event in runner.answer_many(Listed(requests), width, lambda: False):
            if isinstance(event, Finished | Failed):
                assert rows[number].end is None
                rows[number].end = event
    return rows


def off(found: Sequence[Row], expected: Sequence[Row]) -> float:
    """Return the largest difference of any logit of any token, in units of their spread."""
    pairs = []
    for row, other in zip(found, expected, strict=True):
        # Where one ended before the other (a changed rule), what both have.
        both = min(len(row.logits), len(other.logits))
        pairs.append((torch.stack(row.logits[:both]), torch.stack(other.logits[:both])))
    spread = torch.cat([theirs.flatten() for _, theirs in pairs]).std()
    return max(float((ours - theirs).abs().max() / spread) for ours, theirs in pairs)


def steered(runner: Runner, requests: Sequence[Request], width: int) -> list[Row]:
    """Answer with the same tokens whatever is computed: random weights leave two tokens as good as each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "choose", lambda samplers, _: [7] * len(samplers))
        return answered(runner, requests, width)


def questions(rows: int, tokens: int = 5) -> list[Request]:
    """Return prompts of different lengths."""
    return [Request((user("red " * (3 + 5 * (row % 16))),), Sampling(max_new_tokens=tokens)) for row in range(rows)]
