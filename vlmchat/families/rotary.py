"""How far a decode step turns its queries and keys: rotary tables of single positions, kept where they stay."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

_PLACES, _BLOCKS = 256, 64
"""Positions whose turns are computed together, and how many such blocks are kept: 17 MB with heads of 128."""
_FIXED = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary tables in which a position's turn is the same in every sequence."""


class Shared(NamedTuple):
    """A table that many lengths of a sequence have."""

    name: Hashable
    places: int
    """How many positions it is asked for."""


@runtime_checkable
class Choosing(Protocol):
    """A rotary module whose table depends on the length of the whole sequence."""

    def shared(self) -> Shared | None:
        """Return the one table of all rows as they are now; None where there is none that other tokens have too."""
        ...


class RotaryTables:
    """Turns of positions by a decoder's own rotary module; made anew for each token on a CPU they took 0.1 ms."""

    def __init__(self, rotary: Any, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Read from ``rotary``.

        Args:
            rotary: states and positions -> cosines and sines: Transformers' module, or a :class:`Choosing` one.
            dtype: of the states, which the tables are rounded to.
            device: of the states.
        """
        self._rotary, self._dtype, self._device = rotary, dtype, device
        self._choosing = rotary if isinstance(rotary, Choosing) else None
        kind = getattr(rotary, "rope_type", None)
        self._fixed = Shared(kind, sys.maxsize) if kind in _FIXED else None
        self._known: dict[tuple[Shared, int], Tensor] = {}

    def of(self, positions: Sequence[int]) -> Tensor:
        """Return cosines and sines of the next token of each row, float32 [2, rows, turned part of a head]."""
        table = self._fixed if self._choosing is None else self._choosing.shared()
        if table is None:
            return self._turned(torch.tensor(positions, device=self._device)[:, None])
        found = [self._block(table, place // _PLACES)[:, place % _PLACES] for place in positions]
        return torch.stack(found, dim=1)

    def _block(self, table: Shared, number: int) -> Tensor:
        """Return the turns of up to ``_PLACES`` positions, float32 [2, positions, turned part of a head]."""
        if (table, number) not in self._known:
            if len(self._known) >= _BLOCKS:
                self._known.clear()
            end = min((number + 1) * _PLACES, table.places)
            self._known[table, number] = self._turned(torch.arange(number * _PLACES, end, device=self._device)[None])
        return self._known[table, number]

    def _turned(self, positions: Tensor) -> Tensor:
        """Return the turns of all ``positions`` [sequences, length], which may depend on the sequence."""
        states = torch.empty(*positions.shape, 1, dtype=self._dtype, device=self._device)
        waves = self._rotary(states, position_ids=positions)
        return torch.stack([wave.flatten(0, 1).float() for wave in waves])
