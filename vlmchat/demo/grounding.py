"""Image tokens that speak the words' language: the embedding of "star" is what a token that shows a star looks like.

Finding a thing by its name needs the text model to match a word with image tokens. Left to the answers alone it had
not begun to after 1,500 steps of conversations ("is there a star?" stayed at 59 %, a coin, while "what shape is it?"
stood at 100 %). Here a token is asked to be nearer to the embeddings of its own words than to the others.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from vlmchat.demo.colours import COLOURS
from vlmchat.demo.labels import IGNORE, THING_FIELDS
from vlmchat.demo.speech import SHAPE_ZH, plural
from vlmchat.demo.vocabulary import Vocabulary
from vlmchat.demo.world import DIGITS, SHAPES

SCALE: Final = 12.0
"""Sharpness of the comparison of cosines; a token is the sum of several words, so none comes near 1."""
# Field of the dense labels, label of the first word, and the words in the order of the labels.
TABLES: Final[tuple[tuple[str, int, tuple[str, ...]], ...]] = (
    ("symbol", 1, tuple(f" {name}" for name in SHAPES)),
    ("symbol", 1, tuple(f" {plural(name)}" for name in SHAPES)),
    ("symbol", 1, SHAPE_ZH),
    ("symbol", 1 + len(SHAPES), DIGITS),
    ("colour", 0, tuple(f" {name}" for name in COLOURS)),
    ("column", 0, (" left", " middle", " right")),
    ("column", 0, ("左边", "中间", "右边")),
    ("row", 0, (" top", " middle", " bottom")),
    ("row", 0, ("上边", "中间", "下边")),
)


class Grounding:
    """The words of each label as token ids: of a word in several tokens, the first."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        fields = list(THING_FIELDS)
        self._tables = [
            (fields.index(field), first, torch.tensor([vocabulary.encode(word)[0] for word in words]))
            for field, first, words in TABLES
        ]

    def loss(self, embedding: Tensor, tokens: Tensor, things: Tensor, occupied: Tensor) -> Tensor:
        """Return the summed cross-entropy of image tokens, or of states that looked at things, against words.

        ``embedding`` [vocabulary, width], ``tokens`` [..., width], ``things`` int64 [..., fields], ``occupied`` [...].
        """
        shown = functional.normalize(tokens[occupied].float(), dim=-1)
        labels = things[occupied]
        total = torch.zeros(())
        for field, first, ids in self._tables:
            words = functional.normalize(embedding[ids].float(), dim=-1)
            target = labels[:, field] - first
            target = torch.where((target >= 0) & (target < len(ids)), target, IGNORE)
            kept = (target != IGNORE).sum().clamp_min(1)
            logits = SCALE * shown @ words.T
            total = total + functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / kept
        return total
