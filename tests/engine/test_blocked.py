"""Weights in oneDNN's own layout: the same numbers, used by every answer, never a second copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.bench.checkpoints import build_internvl2
from tests.engine.test_quantize import GEOMETRY, logits
from vlmchat.conversation import user
from vlmchat.demo import CHECKPOINT
from vlmchat.engine import blocked
from vlmchat.engine.api import Request
from vlmchat.engine.blocked import BlockedLinear, available, lay_out
from vlmchat.engine.events import Finished
from vlmchat.engine.loader import Model, load_now
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions, Quantization, Sampling

needs_kernels = pytest.mark.skipif(not available(), reason="this processor or torch has no bfloat16 kernels of oneDNN")
BFLOAT16 = LoadOptions(device="cpu", dtype="bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_internvl2(tmp_path_factory.mktemp("blocked") / "checkpoint", GEOMETRY, torch.bfloat16)


def laid_out(module: nn.Module) -> int:
    return sum(isinstance(layer, BlockedLinear) for layer in module.modules())


@needs_kernels
@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_layer_multiplies_as_before(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 56, bias=bias, dtype=torch.bfloat16)
    inputs = torch.randn(2, rows, 96).bfloat16()
    exact = nn.functional.linear(inputs.double(), linear.weight.double(), linear.bias.double() if bias else None)
    outputs: Tensor = BlockedLinear(linear)(inputs)
    assert outputs.shape == (2, rows, 56)
    # One rounding to 8 bits of mantissa at the end; sums are kept in float32.
    assert ((outputs.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()


@needs_kernels
def test_a_model_computes_the_same(folder: Path) -> None:
    plain, other = load_now(folder, BFLOAT16), load_now(folder, BFLOAT16)
    events = list(lay_out(other))
    assert laid_out(other.network.module) == 2 * 7 + 1
    assert events[-1].stage == "arranging"
    assert events[-1].done == events[-1].total > 0
    exact = logits(plain)
    # Of the order of bfloat16 itself: the kernels sum in another order and results are rounded in every layer.
    assert (logits(other) - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize(("quantization", "count"), [("8-bit", 1), ("4-bit", 1)])
@needs_kernels
def test_quantized_layers_stay_and_the_head_is_laid_out(folder: Path, quantization: Quantization, count: int) -> None:
    model = load_now(folder, LoadOptions(device="cpu", dtype="bfloat16", quantization=quantization))
    list(lay_out(model))
    assert laid_out(model.network.module) == count


def test_float32_and_machines_without_the_kernels_stay_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(lay_out(load_now(folder, LoadOptions(device="cpu", dtype="float32"))))
    monkeypatch.setattr(blocked, "available", lambda: False)
    assert not list(lay_out(load_now(folder, BFLOAT16)))


@needs_kernels
def test_weights_stay_mapped_where_laying_them_out_would_fill_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_now(folder, BFLOAT16)
    for free, count in ((int(decoder_bytes(model) / 0.75) - 1, 0), (int(decoder_bytes(model) / 0.75) + 2, 15)):
        monkeypatch.setattr(blocked, "memory", lambda free=free: (free, 2 * free))
        list(lay_out(model))
        assert laid_out(model.network.module) == count


def decoder_bytes(model: Model) -> int:
    parts = (*model.network.blocks().modules(), model.network.module.get_submodule("lm_head"))
    return sum(2 * part.weight.numel() for part in parts if type(part) is nn.Linear)


@needs_kernels
def test_a_stop_between_two_layers_leaves_a_model_that_works(folder: Path) -> None:
    plain, other = load_now(folder, BFLOAT16), load_now(folder, BFLOAT16)
    asked = iter([False, False, False, True])
    list(lay_out(other, lambda: next(asked)))
    assert laid_out(other.network.module) == 3
    exact = logits(plain)
    assert (logits(other) - exact).norm() / exact.norm() < 0.02


@needs_kernels
def test_every_answer_of_the_engine_uses_it() -> None:
    engine = TorchEngine()
    stages = [event.stage for event in engine.load(CHECKPOINT, BFLOAT16)]
    assert "arranging" in stages
    *_, finished = engine.generate(Request((user("Hello"),), Sampling(max_new_tokens=3)))
    assert isinstance(finished, Finished)
    network = engine.runner.model.network
    assert isinstance(network.module.get_submodule("lm_head"), BlockedLinear)
    assert not [layer for layer in network.blocks().modules() if type(layer) is nn.Linear]
    assert network.lean.calls > 1  # type: ignore[attr-defined]
    engine.close()
