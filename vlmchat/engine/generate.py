"""Prompt -> features -> prefill -> decode, as one generator of events.

Everything here runs on the engine's thread under ``torch.inference_mode``. What an earlier turn
left in the caches is used first: only positions behind the common prefix are computed, and only
pictures that have a feature among them are encoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vlmchat.conversation import Message
from vlmchat.engine.api import PromptSize, Request
from vlmchat.engine.detokenize import AnswerText
from vlmchat.engine.events import AnswerEvent, Delta, Encoding, Finished, FinishReason, Prefill, Timing, Usage
from vlmchat.engine.grain import PREFILL_CHUNK as PREFILL_CHUNK
from vlmchat.engine.grain import TILE_BATCH
from vlmchat.engine.kv import SequenceCache, mark_of_token, marks_of
from vlmchat.engine.loader import Model
from vlmchat.engine.sampling import Sampler
from vlmchat.engine.vision_cache import VisionCache
from vlmchat.errors import ContextOverflow, InputError
from vlmchat.families.family import PictureInput, Position, Prompt, Span, following


@dataclass(frozen=True, slots=True)
class _LastAnswer:
    """The exact ids of the answer given last, so that continuing it needs no second tokenization."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str


@dataclass(slots=True)
class _Clock:
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
        decoding = total - self.first
        rate = (tokens - 1) / decoding if tokens > 1 and decoding > 0 else 0.0
        return Timing(0.0, self.encoded, self.prefilled - self.encoded, self.first, total, rate)


@dataclass(slots=True)
class _Turn:
    """One answer while it is made."""

    request: Request
    prompt: Prompt
    already: tuple[int, ...]
    """Ids of the answer that is continued, at the end of ``prompt``; empty for a new answer."""
    text: AnswerText
    sampler: Sampler
    limit: int
    """Tokens it may have."""
    stopped: Callable[[], bool]
    clock: _Clock = field(default_factory=_Clock)
    new: list[int] = field(default_factory=list)


class Runner:
    """One loaded model and what it remembers between turns."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.sequence = SequenceCache(model.network.decoder_layers())
        self.vision = VisionCache()
        self.forward_tokens = 0
        """Positions that went through the language model since the load; tests count them."""
        self.encoded_tiles = 0
        """Tiles that went through the vision tower since the load; tests count them."""
        self._last: _LastAnswer | None = None

    def forget(self) -> None:
        """Empty all caches."""
        self.sequence.reset()
        self.vision.clear()
        self._last = None

    def measure(self, request: Request) -> PromptSize:
        """Return what ``request`` would cost; nothing is computed.

        Raises:
            InputError: there is no question, or the family cannot lay it out.
        """
        prompt, _ = self._layout(request)
        tiles = tuple(picture.tiles for picture in prompt.pictures)
        return PromptSize(len(prompt.ids), prompt.image_tokens, self.model.checkpoint.context_tokens, tiles)

    @torch.inference_mode()
    def answer(self, request: Request, stopped: Callable[[], bool]) -> Iterator[AnswerEvent]:
        """Answer ``request``; see :meth:`vlmchat.engine.api.Engine.generate`."""
        try:
            turn = self._begin(request, stopped)
            yield from self._run(turn)
        except BaseException:
            # A layer may have stored what the next one never saw; only an empty cache is sure.
            self.sequence.reset()
            raise

    def _begin(self, request: Request, stopped: Callable[[], bool]) -> _Turn:
        prompt, already = self._layout(request)
        context = self.model.checkpoint.context_tokens
        room = context - len(prompt.ids)
        if room < 1:
            raise ContextOverflow(
                f"The conversation takes {len(prompt.ids):,} tokens ({prompt.image_tokens:,} of them pictures); "
                f"this model reads at most {context:,}.",
                "Start a new chat, use fewer or smaller pictures (--max-tiles), or shorten the text.",
            )
        text = AnswerText(self.model.checkpoint.tokenizer, _continues(request.messages), already)
        sampler = Sampler(request.sampling, already)
        limit = min(request.sampling.max_new_tokens, room)
        return _Turn(request, prompt, already, text, sampler, limit, stopped)

    def _layout(self, request: Request) -> tuple[Prompt, tuple[int, ...]]:
        """Lay ``request`` out; the ids of an answer to be continued are the ones that were generated."""
        if not request.messages or request.messages[-1].role == "system":
            raise InputError("There is no question to answer.", "Type one, or attach a picture with it.")
        layout = self.model.checkpoint.layout
        if _continues(request.messages) and (last := self._last):
            question = layout(request.messages[:-1], request.vision)
            if question.ids == last.prompt_ids and request.messages[-1].text == last.text:
                return _extended(question, last.token_ids), last.token_ids
        return layout(request.messages, request.vision), ()

    def _run(self, turn: _Turn) -> Iterator[AnswerEvent]:
        marks = marks_of(turn.prompt)
        cached = self.sequence.keep_common(marks)
        reason: FinishReason = "interrupted"
        features = yield from self._encode(turn, cached)
        turn.clock.encoded = turn.clock.now()
        if features is not None:
            logits = yield from self._prefill(turn, marks, cached, features)
            turn.clock.prefilled = turn.clock.now()
            if logits is not None:
                reason = yield from self._decode(turn, logits)
        # A character cut in half by a stop is left out: a continuation says it whole.
        if reason != "interrupted" and (rest := turn.text.finish()):
            yield Delta(rest, ())
        self._remember(turn)
        size = len(turn.prompt.ids)
        usage = Usage(size, turn.prompt.image_tokens, len(turn.new))
        yield Finished(reason, turn.text.text, tuple(turn.new), usage, turn.clock.timing(len(turn.new)))

    def _encode(self, turn: _Turn, cached: int) -> Generator[AnswerEvent, None, dict[int, Tensor] | None]:
        """Bring up the features that positions from ``cached`` on need, by picture number; None when stopped."""
        prompt = turn.prompt
        needed = sorted({slot.picture for slot in prompt.slots if slot.start + slot.length > cached})
        features = {number: self.vision.get(prompt.pictures[number].key) for number in needed}
        todo = [number for number, known in features.items() if known is None]
        for place, number in enumerate(todo, 1):
            picture = prompt.pictures[number]
            encoded = yield from self._encode_picture(picture, place, len(todo), turn.stopped)
            if encoded is None:
                return None
            self.vision.put(picture.key, encoded)
            features[number] = encoded
        return {number: known for number, known in features.items() if known is not None}

    def _encode_picture(
        self, picture: PictureInput, place: int, places: int, stopped: Callable[[], bool]
    ) -> Generator[AnswerEvent, None, Tensor | None]:
        """Run the vision tower over the tiles of one picture; returns [positions, hidden]."""
        pixels = self.model.checkpoint.pixels(picture)
        batch = TILE_BATCH.get(self.model.device.type, 1)
        parts: list[Tensor] = []
        for start in range(0, picture.tiles, batch):
            if stopped():
                return None
            tiles = pixels[start : start + batch].to(self.model.device, self.model.dtype)
            parts.append(self.model.network.encode(tiles).flatten(0, 1))
            self.encoded_tiles += len(tiles)
            yield Encoding(place, places, start + len(tiles), picture.tiles)
        return torch.cat(parts)

    def _prefill(
        self, turn: _Turn, marks: Sequence[Hashable], cached: int, features: dict[int, Tensor]
    ) -> Generator[AnswerEvent, None, Tensor | None]:
        """Run the prompt behind the common prefix; returns the last logits, None when stopped."""
        total = len(turn.prompt.ids)
        chunk = PREFILL_CHUNK.get(self.model.device.type, 256)
        logits: Tensor | None = None
        yield Prefill(cached, total, cached)
        end = cached
        while end < total:
            if turn.stopped():
                return None
            start, end = end, _chunk_end(turn.prompt, end + chunk)
            logits = self._forward(self.span(turn.prompt, features, start, end), marks[start:end])
            yield Prefill(end, total, cached)
        return logits

    def span(self, prompt: Prompt, features: dict[int, Tensor], start: int, end: int) -> Span:
        """Embed positions ``start`` to ``end``, features in their slots."""
        device = self.model.device
        embeddings = self.model.network.embed(torch.tensor([prompt.ids[start:end]], device=device)).clone()
        for slot in prompt.slots:
            low, high = max(slot.start, start), min(slot.start + slot.length, end)
            if low < high:
                first = slot.offset + low - slot.start
                embeddings[0, low - start : high - start] = features[slot.picture][first : first + high - low]
        positions: Sequence[Position] = range(start, end)
        if prompt.positions is not None:
            positions = prompt.positions[start:end]
        experts = None if prompt.experts is None else torch.tensor([prompt.experts[start:end]], device=device)
        return Span(embeddings, torch.tensor([list(positions)], device=device), len(prompt.ids), experts)

    def _forward(self, span: Span, marks: Sequence[Hashable]) -> Tensor:
        hidden = self.model.network.hidden_states(span, self.sequence.native)
        self.sequence.note(marks)
        self.forward_tokens += len(marks)
        return self.model.network.logits(hidden[:, -1])

    def _decode(self, turn: _Turn, logits: Tensor) -> Generator[AnswerEvent, None, FinishReason]:
        """Generate until a stop id, the limit, or a stop from outside; returns the reason."""
        while not turn.stopped():
            token = turn.sampler.next(logits)
            turn.new.append(token)
            turn.clock.first = turn.clock.first or turn.clock.now()
            ended = token in self.model.checkpoint.stop_ids
            # Some tokenizers would show it (Phi-3's <|end|>); the original cuts the answer there.
            yield Delta("" if ended else turn.text.push(token), (token,))
            if ended:
                return "stop"
            if len(turn.new) == turn.limit:
                return "length"
            logits = self._step(turn, token)
        return "interrupted"

    def _step(self, turn: _Turn, token: int) -> Tensor:
        """Run the newest token; its rotary position follows the prompt's last one."""
        prompt, device = turn.prompt, self.model.device
        last = prompt.positions[-1] if prompt.positions is not None else len(prompt.ids) - 1
        position = following(last, len(turn.new))
        experts = None if prompt.experts is None else torch.zeros(1, 1, dtype=torch.bool, device=device)
        embeddings = self.model.network.embed(torch.tensor([[token]], device=device))
        total = len(prompt.ids) + len(turn.new)
        span = Span(embeddings, torch.tensor([[position]], device=device), total, experts)
        return self._forward(span, [mark_of_token(token, position, prompt)])

    def _remember(self, turn: _Turn) -> None:
        """Keep the ids of this answer for a continuation; a stop token is not part of it."""
        ids = [*turn.already, *(id_ for id_ in turn.new if id_ not in self.model.checkpoint.stop_ids)]
        prompt_ids = turn.prompt.ids[: len(turn.prompt.ids) - len(turn.already)]
        before = turn.request.messages[-1].text if turn.already else ""
        fresh = not _continues(turn.request.messages) or bool(turn.already)
        self._last = _LastAnswer(prompt_ids, tuple(ids), before + turn.text.text) if fresh and ids else None


def _chunk_end(prompt: Prompt, end: int) -> int:
    """Return where a chunk ends that should end at ``end``: behind a slot that must not be cut."""
    if prompt.whole_slots:
        end = next((behind for slot in prompt.slots if slot.start < end < (behind := slot.start + slot.length)), end)
    return min(end, len(prompt.ids))


def _continues(messages: Sequence[Message]) -> bool:
    return messages[-1].role == "assistant"


def _extended(prompt: Prompt, token_ids: Sequence[int]) -> Prompt:
    """Append generated ``token_ids`` to ``prompt``, with the positions and branch of text."""
    positions, experts = prompt.positions, prompt.experts
    if positions is not None:
        positions += tuple(following(positions[-1], step) for step in range(1, 1 + len(token_ids)))
    if experts is not None:
        experts += (False,) * len(token_ids)
    return replace(prompt, ids=(*prompt.ids, *token_ids), positions=positions, experts=experts)
