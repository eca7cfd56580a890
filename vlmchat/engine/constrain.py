"""Holding an answer to a schema while it is written: before each token, which ids may come next.

llguidance keeps the state of the grammar; it knows the vocabulary as bytes, so every tokenizer serves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from torch import Tensor

from vlmchat.engine.schema import grammar_of
from vlmchat.families.family import Tokenizer

_NAMELESS = b"\xff[%d]"
"""How llguidance wants ids written that add no text: with a byte that no UTF-8 has in front."""


class Vocabulary:
    """The ids of one checkpoint, in the form llguidance reads; made once, it takes a moment."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> None:
        """Read the bytes of every id; ``stop_ids`` end an answer."""
        known = tokenizer.token_bytes()
        self.stop_ids = tuple(stop_ids)
        size = max([*known, *stop_ids]) + 1
        self.native = LLTokenizer(
            TokenizerWrapper(_Words(known, size, sorted(stop_ids))), n_vocab=size, eos_token=sorted(stop_ids)
        )


class _Words:
    """What :class:`llguidance.TokenizerWrapper` asks for."""

    def __init__(self, known: Mapping[int, bytes], size: int, stop_ids: list[int]) -> None:
        self.eos_token_id = stop_ids[0]
        self.bos_token_id = None
        self.tokens = [known.get(id_) or _NAMELESS % id_ for id_ in range(size)]
        self.special_token_ids = [id_ for id_ in range(size) if not known.get(id_)]
        self._byte_ids = {data: id_ for id_, data in known.items() if len(data) == 1}

    def __call__(self, text: bytes) -> list[int]:
        """Cut a text into ids; only forced stretches would need it, and those are not used."""
        return [self._byte_ids[text[at : at + 1]] for at in range(len(text)) if text[at : at + 1] in self._byte_ids]


class Constraint:
    """The state of one answer."""

    def __init__(self, vocabulary: Vocabulary, schema: str) -> None:
        """Begin an answer that must have the shape of ``schema``.

        Raises:
            UsageError: the schema cannot be held.
        """
        self._matcher = LLMatcher(vocabulary.native, grammar_of(schema))
        self._stop_ids = vocabulary.stop_ids

    def allowed(self, scores: Tensor) -> Tensor:
        """Return ``scores`` [vocab] with minus infinity for every id that cannot come next.

        Where the grammar has grown beyond llguidance's limits the answer ends: whoever reads it sees that
        it has not the shape.
        """
        bias = bytearray(self._matcher.compute_logit_bias())
        if self._matcher.is_error():
            bias = bytearray(len(bias))
            for id_ in self._stop_ids:
                bias[id_] = 1
        mask = torch.frombuffer(bias, dtype=torch.uint8)[: scores.numel()].to(scores.device, torch.bool)
        held = torch.full_like(scores, float("-inf"))
        held[: mask.numel()] = scores[: mask.numel()].masked_fill(~mask, float("-inf"))
        return held

    def take(self, token: int) -> None:
        """Go on behind ``token``, which was one of the allowed ones."""
        self._matcher.consume_token(token)
