"""A loaded model and what it remembers between turns: requests in, events out.

Everything here runs on the engine's thread under ``torch.inference_mode``. What an earlier turn
left in the caches is used first: only positions behind the common prefix are computed, and only
pictures that have a feature among them are encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from vlmchat.conversation import Message
from vlmchat.engine.api import PromptSize, Request
from vlmchat.engine.arrivals import Arrivals, Listed
from vlmchat.engine.batch import Batch
from vlmchat.engine.detokenize import AnswerText
from vlmchat.engine.events import AnswerEvent, Failed, RowEvent
from vlmchat.engine.grain import PREFILL_CHUNK
from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import Model
from vlmchat.engine.passes import Passes
from vlmchat.engine.pictures import Pictures
from vlmchat.engine.sampling import Sampler
from vlmchat.engine.turn import Turn
from vlmchat.errors import ContextOverflow, InputError, VlmchatError
from vlmchat.families.family import Prompt, following

if TYPE_CHECKING:
    from vlmchat.engine.constrain import Constraint, Vocabulary


@dataclass(frozen=True, slots=True)
class _LastAnswer:
    """The exact ids of the answer given last, so that continuing it needs no second tokenization."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str


class Runner:
    """One loaded model and what it remembers between turns."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.passes = Passes(model)
        self.pictures = Pictures(model)
        self.cache = RowCache(model.network.decoder_layers())
        self._last: _LastAnswer | None = None
        self._vocabulary: Vocabulary | None = None

    def forget(self) -> None:
        """Empty all caches."""
        self.cache.reset()
        self.pictures.cache.clear()
        self._last = None

    def measure(self, request: Request) -> PromptSize:
        """Return what ``request`` would cost; nothing is computed.

        Raises:
            InputError: there is no question, or the family cannot lay it out.
        """
        prompt, _ = self._layout(request)
        tiles = tuple(picture.tiles for picture in prompt.pictures)
        return PromptSize(len(prompt.ids), prompt.image_tokens, self.model.checkpoint.context_tokens, tiles)

    def answer(self, request: Request, stopped: Callable[[], bool]) -> Iterator[AnswerEvent]:
        """Answer ``request``, a batch of one; see :meth:`vlmchat.engine.api.Engine.generate`."""
        problem: VlmchatError | None = None
        for _, event in self.answer_many(Listed([request]), 1, stopped):
            if isinstance(event, Failed):
                problem = event.problem
            else:
                yield event
        if problem is not None:
            raise problem

    @torch.inference_mode()
    def answer_many(self, arrivals: Arrivals, width: int, stopped: Callable[[], bool]) -> Iterator[RowEvent]:
        """Answer all that arrives; see :meth:`vlmchat.engine.api.Engine.generate_many`."""
        chunk = PREFILL_CHUNK.get(self.model.device.type, 256)
        batch = Batch(self.passes, self.pictures, self.cache, chunk, self._begin, self._remember)
        yield from batch.run(arrivals, width, stopped)
        arrivals.close()

    def _begin(self, number: int, request: Request) -> Turn:
        """Lay ``request`` out.

        Raises:
            ContextOverflow: the prompt leaves no room for an answer.
            InputError: as in :meth:`measure`.
        """
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
        sampler = Sampler(request.sampling, already, self._constraint(request))
        limit = min(request.sampling.max_new_tokens, room)
        return Turn(number, request, prompt, already, text, sampler, limit, self.model.checkpoint.stop_ids)

    def _constraint(self, request: Request) -> Constraint | None:
        """Return what holds the answer to the request's schema; its vocabulary is read with the first one.

        Raises:
            InputError: it is an answer to be continued, whose beginning was held to nothing.
            UsageError: the schema cannot be held.
        """
        if request.schema is None:
            return None
        if _continues(request.messages):
            raise InputError("An answer that is continued cannot be held to a schema.", "End with a user message.")
        # Late: most answers are free, and the library takes a moment.
        from vlmchat.engine.constrain import Constraint, Vocabulary

        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self.model.checkpoint.tokenizer, self.model.checkpoint.stop_ids)
        return Constraint(self._vocabulary, request.schema)

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

    def _remember(self, turn: Turn) -> None:
        """Keep the ids of an answer for a continuation."""
        ids = turn.said()
        prompt_ids = turn.prompt.ids[: len(turn.prompt.ids) - len(turn.already)]
        before = turn.request.messages[-1].text if turn.already else ""
        fresh = not _continues(turn.request.messages) or bool(turn.already)
        self._last = _LastAnswer(prompt_ids, ids, before + turn.text.text) if fresh and ids else None


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
