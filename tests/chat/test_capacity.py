"""A model that cannot fit is refused before a byte of it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import ScriptedEngine
from tests.hub.test_local import WHOLE, fill
from tests.reference_cases import QWEN2
from vlmchat.catalog.index import catalog
from vlmchat.chat import capacity, opening
from vlmchat.chat.capacity import fit_of, machine_now
from vlmchat.chat.shelf import offer, offers
from vlmchat.engine.api import LoadedModel
from vlmchat.engine.machine import Machine
from vlmchat.engine.wire import Running
from vlmchat.errors import DoesNotFit
from vlmchat.options import LoadOptions

TIGHT = Machine(memory_free=1_000_000, memory_total=2_000_000, disk_free=10**9, bfloat16=True)


def open_with(folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    monkeypatch.setattr(capacity, "look", lambda downloads: machine)
    engine = ScriptedEngine()
    for _ in opening.open_model(engine, opening.find(str(folder)), LoadOptions()):
        pass
    return engine


def test_a_model_that_cannot_fit_is_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DoesNotFit, match=r"checkpoint needs \d+ MB in fp32; 1 MB of memory is free"):
        open_with(QWEN2 / "checkpoint", TIGHT, monkeypatch)


def test_one_that_fits_is(monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = replace(TIGHT, memory_free=10**9)
    assert open_with(QWEN2 / "checkpoint", roomy, monkeypatch).loaded is not None


@pytest.mark.parametrize(("weight_bytes", "clients"), [(10**9, 1), (1000, 0)])
def test_a_kept_engine_that_is_used_or_too_small_is_left_alone(
    weight_bytes: int, clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LoadedModel(QWEN2, "internvl2", "cpu", "float32", "none", 1000, weight_bytes, 100, "print")
    monkeypatch.setattr(capacity, "running", lambda: Running(1, model, clients, 300.0))
    monkeypatch.setattr(capacity, "end_kept", lambda: pytest.fail("it was ended"))
    with pytest.raises(DoesNotFit, match="1 MB of memory is free"):
        open_with(QWEN2 / "checkpoint", TIGHT, monkeypatch)


def test_one_that_nobody_can_count_is_left_to_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_with(fill(tmp_path / "model", WHOLE), TIGHT, monkeypatch).loaded is not None


def test_every_row_has_a_verdict_for_the_picker() -> None:
    here = machine_now()
    fits = {found.spec.name: fit_of(found, here) for found in offers()}
    assert len(fits) == 31
    assert all(fit is not None and fit.text for fit in fits.values())
    demo = catalog().find("demo")
    assert demo is not None
    fit = fit_of(offer(demo), here)
    assert fit is not None
    assert [room.estimate.quantization for room in fit.rooms] == ["none"], "as its row says"
