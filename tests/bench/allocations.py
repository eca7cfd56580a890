"""Counts the bytes of tensors that live at once, on any device: on ``meta`` nothing is computed or allocated."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every operation inside its ``with``; :attr:`bytes` is the most that its results took at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._now = 0
        self._live: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and count the storages that it made."""
        results = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        for leaf in tree_leaves(results):
            if _is_tensor(leaf) and leaf.untyped_storage()._cdata not in given | self._live:
                self._count(leaf.untyped_storage())
        self.bytes = max(self.bytes, self._now)
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        self._live.add(storage._cdata)
        self._now += storage.nbytes()
        weakref.finalize(storage, self._drop, storage._cdata, storage.nbytes())

    def _drop(self, identity: int, size: int) -> None:
        self._live.discard(identity)
        self._now -= size


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)
