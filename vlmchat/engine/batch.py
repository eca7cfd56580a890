"""Rows that are answered together: one loop for one row and for many.

Whoever arrives takes a free place. Newcomers are prefilled first, several short prompts in one pass, a
long one alone in chunks; then all rows take a decode step together. A row that ends leaves at once and
the next request takes its place, so nobody waits for the longest answer. What two prompts have in common
in front is computed once: a newcomer takes it over from a row that holds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

from torch import Tensor

from vlmchat.engine.ahead import Ahead
from vlmchat.engine.api import Request
from vlmchat.engine.arrivals import Arrivals, Numbered
from vlmchat.engine.device import memory_guard, release_memory
from vlmchat.engine.events import Failed, FinishReason, Prefill, RowEvent
from vlmchat.engine.grain import PREFILL_REST
from vlmchat.engine.kv import Piece, RowCache
from vlmchat.engine.passes import Passes, Stretch, chunk_end
from vlmchat.engine.pictures import Pictures
from vlmchat.engine.sampling import choose
from vlmchat.engine.turn import Clock, Turn, longest
from vlmchat.errors import OutOfMemory, VlmchatError


class Batch:
    """The answers to a stream of requests, ``width`` of them at a time."""

    def __init__(
        self,
        passes: Passes,
        pictures: Pictures,
        cache: RowCache,
        chunk: int,
        begin: Callable[[int, Request], Turn],
        ended: Callable[[Turn], None],
    ) -> None:
        """Set up a batch over what a model remembers.

        Args:
            passes: its language model.
            pictures: its vision tower.
            cache: what was computed last; prefixes are taken from it, and one row is left in it.
            chunk: prompt tokens of one pass, over all rows.
            begin: lays a request out; may raise.
            ended: is told of every answer that ended.
        """
        self._passes, self._pictures, self._cache, self._chunk = passes, pictures, cache, chunk
        self._begin, self._ended = begin, ended
        self._width = 1
        self._rows: list[Turn | None] = [None] * len(cache)
        """Who holds each row of the cache; ended turns and None are there for their prefixes only."""
        self._waiting: deque[Turn] = deque()
        self._later: deque[Turn] = deque()
        """Turns without a place, whose pictures are encoded meanwhile; a stop takes no note of them."""
        self._coming: list[Turn] = []
        """Turns that are being prefilled and are not among the rows yet."""
        self._stopped: Callable[[], bool] = lambda: False
        self._ahead: Ahead | None = None

    def run(self, arrivals: Arrivals, width: int, stopped: Callable[[], bool]) -> Iterator[RowEvent]:
        """Answer everything that arrives; see :meth:`vlmchat.engine.api.Engine.generate_many`."""
        self._width, self._stopped = width, stopped
        self._ahead = self._pictures.ahead(stopped)
        try:
            yield from self._answer_all(arrivals)
            self._leave_one()
        except BaseException:
            # A layer may have stored what the next one never saw; only an empty cache is sure.
            self._cache.reset()
            raise
        finally:
            if self._ahead is not None:
                self._ahead.close()

    def _answer_all(self, arrivals: Arrivals) -> Iterator[RowEvent]:
        # Before the first look at the stop: who is there already always gets an end.
        yield from self._admit(arrivals)
        while not self._stopped() and (self._alive or self._waiting):
            try:
                with memory_guard("answering"):
                    if self._waiting and len(self._alive) < self._width:
                        yield from self._fill()
                    else:
                        yield from self._step()
            except OutOfMemory as problem:
                yield from self._make_room(problem)
            if not self._stopped():
                yield from self._admit(arrivals)
        for turn in (*self._alive, *self._coming, *self._waiting):
            yield from self._finish(turn, "interrupted")

    @property
    def _alive(self) -> list[Turn]:
        return [turn for turn in self._rows if turn is not None and not turn.ended]

    def _admit(self, arrivals: Arrivals) -> Iterator[RowEvent]:
        """Lay out as many requests as have a place, and as many more as may be encoded ahead."""
        while len(self._alive) + len(self._waiting) < self._width:
            if self._later:
                self._waiting.append(self._later.popleft())
                continue
            arrival = arrivals.take(wait=not (self._alive or self._waiting))
            if arrival is None:
                return
            if (turn := (yield from self._lay_out(arrival))) is not None:
                self._waiting.append(turn)
        while self._ahead is not None and len(self._later) < self._width:
            arrival = arrivals.take(wait=False)
            if arrival is None:
                return
            if (turn := (yield from self._lay_out(arrival))) is not None:
                self._later.append(turn)
                self._ahead.put(turn)

    def _lay_out(self, arrival: Numbered) -> Generator[RowEvent, None, Turn | None]:
        """Make a turn of a request; one that cannot be answered ends here."""
        number, request = arrival
        try:
            return self._begin(number, request)
        except VlmchatError as problem:
            yield number, Failed(problem)
            return None

    def _fill(self) -> Iterator[RowEvent]:
        """Prefill the next turns and let them join the rows."""
        found = self._next_group()
        if self._ahead is not None:
            self._ahead.collect(self._coming)
        failed = yield from self._pictures.encode(self._coming, self._stopped)
        if self._ahead is not None:
            self._ahead.release()
        if failed is None:
            return
        for turn, problem in failed.items():
            yield turn.number, Failed(problem)
        pieces = [piece for turn, piece in zip(self._coming, found, strict=True) if turn not in failed]
        self._coming = [turn for turn in self._coming if turn not in failed]
        for turn in self._coming:
            turn.clock.encoded = turn.clock.encoded or turn.clock.now()
        if self._coming:
            yield from self._prefill(self._set_out(pieces))

    def _next_group(self) -> list[Piece]:
        """Choose who comes next: as many short prompts as fill one pass, or one long one.

        Returns:
            For each what it can take over from the cache.
        """
        found: list[Piece] = []
        free = self._width - len(self._alive)
        while self._waiting and len(found) < free:
            turn = self._waiting[0]
            piece = self._cache.common(turn.marks)
            turn.cached = piece.length
            if found and (len(found) + 1) * longest([*self._coming, turn]) > self._chunk:
                break
            if not turn.clock.encoded:
                turn.clock = Clock()  # while it waited it was no answer yet
            self._coming.append(self._waiting.popleft())
            found.append(piece)
        return found

    def _set_out(self, pieces: Sequence[Piece]) -> RowCache:
        """Return the cache to prefill in: the one there is for a single row, so that nothing is copied."""
        if len(pieces) == 1 and not self._alive:
            self._cache.take(pieces)
            self._rows = [None]
            return self._cache
        fresh = RowCache(self._passes.layers, len(pieces))
        fresh.take(pieces)
        return fresh

    def _prefill(self, cache: RowCache) -> Iterator[RowEvent]:
        turns = self._coming
        for turn in turns:
            if turn.fresh:
                yield turn.number, Prefill(turn.cached, len(turn.prompt.ids), turn.cached)
        logits: Tensor | None = None
        while logits is None:
            if self._stopped():
                return
            logits = yield from self._chunked(turns, cache)
        for turn in turns:
            turn.features = {}
            turn.clock.prefilled = turn.clock.prefilled or turn.clock.now()
        if not self._stopped():
            self._join(cache)
            yield from self._choose(turns, logits)

    def _chunked(self, turns: Sequence[Turn], cache: RowCache) -> Generator[RowEvent, None, Tensor | None]:
        """Run the next chunk of each prompt; returns logits behind the last one. Several fit into one (the group)."""
        chunk, rest = self._chunk, self._chunk // PREFILL_REST
        ends = [chunk_end(turn.prompt, at + chunk, rest) for turn, at in zip(turns, cache.lengths, strict=True)]
        stretches = [Stretch(turn, at, end) for turn, at, end in zip(turns, cache.lengths, ends, strict=True)]
        last = all(stretch.end == len(stretch.turn.prompt.ids) for stretch in stretches)
        logits = self._passes.prefill(stretches, cache, last)
        for turn, end in zip(turns, ends, strict=True):
            if turn.fresh:
                yield turn.number, Prefill(end, len(turn.prompt.ids), turn.cached)
        return logits

    def _join(self, cache: RowCache) -> None:
        """Put the prefilled turns behind the rows; who ended makes room."""
        staying = [row for row, turn in enumerate(self._rows) if turn is not None and not turn.ended]
        turns: list[Turn | None] = [*self._alive, *self._coming]
        if cache is not self._cache and staying:
            pieces = [Piece(self._cache, row, self._cache.lengths[row]) for row in staying]
            self._cache.take([*pieces, *(Piece(cache, row, length) for row, length in enumerate(cache.lengths))])
        elif cache is not self._cache:
            self._cache.adopt(cache)
        self._rows = turns
        self._coming = []

    def _step(self) -> Iterator[RowEvent]:
        """Let every row take one decode step."""
        self._close_up([row for row, turn in enumerate(self._rows) if turn is not None and not turn.ended])
        turns = self._alive
        yield from self._choose(turns, self._passes.step(turns, self._cache))

    def _close_up(self, rows: Sequence[int]) -> None:
        """Keep only ``rows`` of the cache."""
        if len(rows) < len(self._rows):
            self._cache.take([Piece(self._cache, row, self._cache.lengths[row]) for row in rows])
            self._rows = [self._rows[row] for row in rows]

    def _choose(self, turns: Sequence[Turn], logits: Tensor) -> Iterator[RowEvent]:
        """Sample the next id of each turn that has none waiting, and end those that end with it."""
        due = [row for row, turn in enumerate(turns) if turn.run == len(turn.new)]
        tokens = choose([turns[row].sampler for row in due], logits[due] if len(due) < len(turns) else logits)
        for row, token in zip(due, tokens, strict=True):
            delta, reason = turns[row].say(token)
            yield turns[row].number, delta
            if reason is not None:
                yield from self._finish(turns[row], reason)

    def _finish(self, turn: Turn, reason: FinishReason) -> Iterator[RowEvent]:
        for event in turn.finish(reason):
            yield turn.number, event
        self._ended(turn)

    def _make_room(self, problem: OutOfMemory) -> Iterator[RowEvent]:
        """Memory ran out: go on with half as many rows, the others wait; a row alone ends with ``problem``."""
        working = [*self._alive, *self._coming]
        self._cache.reset()
        self._rows, self._coming = [None] * len(self._cache), []
        if len(working) > 1:
            self._width = len(working) // 2
            for turn in reversed(working):
                turn.park()
                self._waiting.appendleft(turn)
        else:
            self._pictures.cache.clear()
            for turn in working:
                yield turn.number, Failed(problem)
        release_memory()

    def _leave_one(self) -> None:
        """Keep one row for the next turn of its conversation: the last."""
        self._close_up([len(self._rows) - 1])
