"""Which keys each position of a batch attends to, where causal order alone does not say it.

The rows of a cache begin at its first column, so a key's column is its place in its row, and what lies behind a
row's end is behind all its positions: causal order hides it, no position ever has nothing to attend to, and a
sliding window is a difference of columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import Cache

from vlmchat.families.family import Span


@dataclass(frozen=True, slots=True)
class Order:
    """Where the positions of a span and their keys stand.

    Every mask made of it is bool [rows, 1, length, keys], True where a key is attended to.
    """

    places: Tensor
    """Place of each position in its row, int64 [rows, length]."""
    keys: Tensor
    """Columns of the cache, the span's own included, int64 [keys]."""

    @classmethod
    def of(cls, span: Span, cache: Cache) -> Order:
        """Read the order off ``span`` and the ``cache`` it runs behind."""
        rows, length = span.embeddings.shape[:2]
        device = span.embeddings.device
        starts = span.starts or (cache.get_seq_length(),) * rows
        places = torch.tensor(starts, device=device)[:, None] + torch.arange(length, device=device)
        return cls(places, torch.arange(max(starts) + length, device=device))

    def before(self) -> Tensor:
        """Return the causal mask: itself and everything before it."""
        return self.keys <= self.places[:, None, :, None]

    def within(self, window: int) -> Tensor:
        """Return what a window of ``window`` places that ends with each position leaves in sight."""
        return self.keys > self.places[:, None, :, None] - window

    def together(self, joined: Tensor) -> Tensor:
        """Return which positions stand in one stretch of ``joined`` (bool [rows, length]) with each other."""
        begins = joined & ~functional.pad(joined, (1, 0))[:, :-1]
        stretch = begins.cumsum(1, dtype=torch.int32).masked_fill(~joined, 0)
        by_key = stretch.new_zeros(len(stretch), len(self.keys)).scatter(1, self.places, stretch)
        return (by_key[:, None, None, :] == stretch[:, None, :, None]) & joined[:, None, :, None]
