"""Turns of single positions are those of the decoder's own rotary module, at any length, kept or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.reference_cases import REFERENCE
from vlmchat.engine.loader import load_now
from vlmchat.families.internvl2.modeling import WholePromptRotary
from vlmchat.families.rotary import RotaryTables
from vlmchat.options import LoadOptions

INTERNVL2 = REFERENCE / "internvl2"


def rotary_of(folder: Path) -> Any:
    network: Any = load_now(folder / "checkpoint", LoadOptions(device="cpu", dtype="float32")).network
    return network.lean.text.rotary_emb


def turned(rotary: Any, positions: list[int]) -> Tensor:
    """Return what the library gives for one new token of each row."""
    waves = rotary(torch.empty(len(positions), 1, 1), position_ids=Tensor(positions).long()[:, None])
    return torch.stack([wave[:, 0] for wave in waves])


def test_far_positions_in_any_order_and_again() -> None:
    """More of them than are kept."""
    rotary = rotary_of(INTERNVL2 / "qwen2-vit300m")
    tables = RotaryTables(rotary, torch.float32)
    places = [*range(0, 70_000, 300), 5, 255, 256, 69_900]
    for some in (places, places[::-1]):
        assert torch.equal(tables.of(some), turned(rotary, some))


@pytest.mark.parametrize("name", ["internlm2-vit300m", "phi3-vit300m"])
def test_tables_that_depend_on_the_length(name: str) -> None:
    """From short to beyond the trained length and back, rows of both kinds together too."""
    rotary = rotary_of(INTERNVL2 / name)
    assert isinstance(rotary, WholePromptRotary)
    tables, trained = RotaryTables(rotary, torch.float32), rotary._trained
    lengths = ([5], [trained], [trained + 1], [trained + 7], [6], [3, trained + 9], [trained - 1, 4])
    for totals in lengths:
        rotary.totals = tuple(totals)
        positions = [total - 1 for total in totals]
        assert torch.equal(tables.of(positions), turned(rotary, positions)), totals
    rotary.totals = (trained + 1,)
    beyond = tables.of([trained])
    rotary.totals = (trained,)
    assert not torch.equal(beyond, tables.of([trained - 1]))


def test_what_many_lengths_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rotary = rotary_of(INTERNVL2 / "internlm2-vit300m")
    tables, calls = RotaryTables(rotary, torch.float32), list[int]()
    made = tables._turned

    def counted(positions: Tensor) -> Tensor:
        calls.append(positions.numel())
        return made(positions)

    monkeypatch.setattr(tables, "_turned", counted)
    for total in range(2, 40):
        rotary.totals = (total,)
        tables.of([total - 1])
    assert calls == [min(256, rotary._trained)]
    for total in (rotary._trained + 1, rotary._trained + 2):
        rotary.totals = (total,)
        tables.of([total - 1])
    assert calls[1:] == [1, 1]
