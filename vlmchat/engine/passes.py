"""Stretches of several rows -> one pass of the language model -> logits for each row.

A row of one is the common case and pays nothing for the others: no padding, no mask.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import Model
from vlmchat.engine.turn import Turn
from vlmchat.families.family import Position, Prompt, Span


@dataclass(frozen=True, slots=True)
class Stretch:
    """Positions ``start`` to ``end`` of one turn's prompt."""

    turn: Turn
    start: int
    end: int


class Passes:
    """The language model of one checkpoint, a pass at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.layers = model.network.decoder_layers()
        self.forward_tokens = 0
        """Positions that went through the language model since the load; tests count them."""

    def prefill(self, stretches: Sequence[Stretch], cache: RowCache, last: bool) -> Tensor | None:
        """Run a stretch of each row's prompt; return logits [rows, vocab] behind each if it is the ``last`` one."""
        spans = [self.span(s.turn.prompt, s.turn.features, s.start, s.end) for s in stretches]
        hidden = self._run(side_by_side(spans, cache.starts), cache, [s.turn.marks[s.start : s.end] for s in stretches])
        if not last:
            return None
        ends = torch.tensor([s.end - s.start - 1 for s in stretches], device=hidden.device)
        return self._model.network.logits(hidden[torch.arange(len(ends), device=hidden.device), ends])

    def step(self, turns: Sequence[Turn], cache: RowCache) -> Tensor:
        """Run each row's next generated id; return logits [rows, vocab], which stay until the next step."""
        network = self._model.network
        ids, positions = [turn.new[turn.run] for turn in turns], [turn.position() for turn in turns]
        totals = tuple(len(turn.prompt.ids) + turn.run + 1 for turn in turns)
        marks = [[turn.mark()] for turn in turns]
        logits = network.next_logits(ids, positions, totals, cache.native)
        if logits is None:
            logits = network.logits(
                self._run(self._next_span(turns, ids, positions, totals, cache), cache, marks)[:, -1]
            )
        else:
            self._note(cache, marks)
        for turn in turns:
            turn.run += 1
        return logits

    def _next_span(
        self,
        turns: Sequence[Turn],
        ids: Sequence[int],
        positions: Sequence[Position],
        totals: tuple[int, ...],
        cache: RowCache,
    ) -> Span:
        """Make a span of one new token of each row."""
        device = self._model.device
        experts = None
        if any(turn.prompt.experts is not None for turn in turns):
            experts = torch.zeros(len(turns), 1, dtype=torch.bool, device=device)
        embeddings = self._model.network.embed(torch.tensor(ids, device=device)[:, None])
        return Span(embeddings, torch.tensor(positions, device=device)[:, None], totals, experts, cache.starts)

    def _run(self, span: Span, cache: RowCache, marks: Sequence[Sequence[Hashable]]) -> Tensor:
        hidden = self._model.network.hidden_states(span, cache.native)
        self._note(cache, marks)
        return hidden

    def _note(self, cache: RowCache, marks: Sequence[Sequence[Hashable]]) -> None:
        cache.note(marks)
        self.forward_tokens += sum(map(len, marks))

    def span(self, prompt: Prompt, features: Mapping[int, Tensor], start: int, end: int) -> Span:
        """Embed positions ``start`` to ``end``, features in their slots."""
        device = self._model.device
        embeddings = self._model.network.embed(torch.tensor([prompt.ids[start:end]], device=device)).clone()
        for slot in prompt.slots:
            low, high = max(slot.start, start), min(slot.start + slot.length, end)
            if low < high:
                first = slot.offset + low - slot.start
                embeddings[0, low - start : high - start] = features[slot.picture][first : first + high - low]
        positions: Sequence[Position] = range(start, end)
        if prompt.positions is not None:
            positions = prompt.positions[start:end]
        experts = None if prompt.experts is None else torch.tensor([prompt.experts[start:end]], device=device)
        return Span(embeddings, torch.tensor([list(positions)], device=device), (len(prompt.ids),), experts)


def side_by_side(spans: Sequence[Span], starts: tuple[int, ...]) -> Span:
    """Make one span of one for each row, the shorter ones filled up behind their end."""
    if len(spans) == 1:
        return spans[0]
    experts = [span.experts for span in spans if span.experts is not None]
    return Span(
        _filled([span.embeddings for span in spans]),
        _filled([span.positions for span in spans]),
        tuple(total for span in spans for total in span.totals),
        _filled(experts) if experts else None,
        starts,
    )


def _filled(rows: Sequence[Tensor]) -> Tensor:
    """Join tensors [1, length, ..] of different lengths to [rows, longest, ..], zeros behind their ends."""
    length = max(row.shape[1] for row in rows)
    return torch.cat([functional.pad(row, (0, 0) * (row.ndim - 2) + (0, length - row.shape[1])) for row in rows])


def chunk_end(prompt: Prompt, end: int, rest: int = 0) -> int:
    """Return where a chunk ends that should end at ``end``: behind a slot that must not be cut.

    What is left behind it goes along if it is no more than ``rest`` positions.
    """
    if prompt.whole_slots:
        end = next((behind for slot in prompt.slots if slot.start < end < (behind := slot.start + slot.length)), end)
    length = len(prompt.ids)
    return length if end + rest >= length else end
