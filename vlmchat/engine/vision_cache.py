"""Picture features kept in memory, so that an edit or a second question does not encode again."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from torch import Tensor

CAPACITY = 512 * 1024**2
"""Bytes of features kept; a 13-tile picture of InternVL2-8B takes 27 MB in bf16."""
PICTURES = 64
"""Pictures kept, more than a chat has: ten thousand lines of `pipe`, no two alike, took 146 MB without this bound."""


class VisionCache:
    """Features by :attr:`~vlmchat.families.family.PictureInput.key`, the least recently used one leaves first.

    Two threads use it: the engine's, and the one that encodes ahead.
    """

    def __init__(self, capacity: int = CAPACITY, pictures: int = PICTURES) -> None:
        """Keep at most ``capacity`` bytes and ``pictures`` pictures."""
        self._capacity = capacity
        self._pictures = pictures
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: str) -> Tensor | None:
        """Return features [positions, hidden], or None."""
        with self._lock:
            found = self._features.get(key)
            if found is not None:
                self._features.move_to_end(key)
            return found

    def put(self, key: str, features: Tensor) -> None:
        """Keep ``features``; one picture larger than the whole cache is not kept."""
        size = features.numel() * features.element_size()
        with self._lock:
            if key in self._features or size > self._capacity:
                return
            self._features[key] = features
            self._bytes += size
            while self._bytes > self._capacity or len(self._features) > self._pictures:
                _, oldest = self._features.popitem(last=False)
                self._bytes -= oldest.numel() * oldest.element_size()

    def clear(self) -> None:
        """Forget all features."""
        with self._lock:
            self._features.clear()
            self._bytes = 0
