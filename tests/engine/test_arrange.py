"""Layers joined and in oneDNN's own layout: the same numbers, used by every answer, never a second copy."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.bench.checkpoints import build_internvl2
from tests.engine.test_quantize import GEOMETRY, logits
from tests.families.batching_cases import answered, off
from tests.reference_cases import REFERENCE
from vlmchat.conversation import user
from vlmchat.demo import CHECKPOINT
from vlmchat.engine import arrange as arranging
from vlmchat.engine.api import Request
from vlmchat.engine.arrange import BlockedLinear, arrange, available
from vlmchat.engine.events import Finished
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import Model, load_now
from vlmchat.engine.quantize import Int4Linear, Int8Linear, QuantizedLinear
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.families.native import TiedHead
from vlmchat.options import LoadOptions, Quantization, Sampling

needs_kernels = pytest.mark.skipif(not available(), reason="this processor or torch has no bfloat16 kernels of oneDNN")
TIED = REFERENCE / "ovis2" / "ovis2_tied" / "checkpoint"
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
    outputs: Tensor = BlockedLinear([linear])(inputs)
    assert outputs.shape == (2, rows, 56)
    # One rounding to 8 bits of mantissa at the end; sums are kept in float32.
    assert ((outputs.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()


@needs_kernels
def test_a_model_computes_the_same(folder: Path) -> None:
    plain, other = load_now(folder, BFLOAT16), load_now(folder, BFLOAT16)
    events = list(arrange(other))
    assert laid_out(other.network.module) == 2 * 4 + 1
    assert events[-1].stage == "arranging"
    assert events[-1].done == events[-1].total > 0
    exact = logits(plain)
    # Of the order of bfloat16 itself: the kernels sum in another order and results are rounded in every layer.
    assert (logits(other) - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_layers_that_became_one_are_let_go_of_one_by_one(folder: Path, device: str) -> None:
    """Weights in memory of the process's own, or a GPU's, are never there twice: only those of one place are."""
    quantization: Quantization = "8-bit" if device == "cpu" else "none"
    model = load_now(folder, LoadOptions(device="cpu", dtype="float32", quantization=quantization))
    names = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    layers = [
        weakref.ref(layer)
        for owner in model.network.blocks().modules()
        for name, layer in owner.named_children()
        if name in names
    ]
    left = [len(layers)]
    for _ in arrange(replace(model, device=torch.device(device))):
        left.append(sum(layer() is not None for layer in layers))
    assert left == [10, 7, 5, 2, 0]


@pytest.mark.parametrize(("quantization", "kind"), [("8-bit", Int8Linear), ("4-bit", Int4Linear)])
@torch.inference_mode()
def test_joined_layers_give_what_the_layers_gave(
    folder: Path, quantization: Quantization, kind: type[QuantizedLinear]
) -> None:
    options = LoadOptions(device="cpu", dtype="float32", quantization=quantization)
    plain, other = load_now(folder, options), load_now(folder, options)
    list(arrange(other))
    first = other.network.blocks()[0].get_submodule("self_attn")
    assert set(dict(first.named_children())) == {"qkv_proj", "o_proj"}
    assert sum(isinstance(layer, kind) for layer in other.network.blocks().modules()) == 2 * 4
    requests = [Request((user(text),), Sampling(max_new_tokens=4)) for text in ("Hello", "How many things are there?")]
    right, joined = (answered(Runner(model), requests, 2) for model in (plain, other))
    assert [row.tokens for row in joined] == [row.tokens for row in right]
    assert off(joined, right) < 1e-4


def test_layers_that_cannot_be_joined_stay(tmp_path: Path) -> None:
    narrow = {"vision": GEOMETRY["vision"], "language": GEOMETRY["language"] | {"num_key_value_heads": 1}}
    odd = build_internvl2(tmp_path / "odd", narrow, torch.float32)
    model = load_now(odd, LoadOptions(device="cpu", quantization="4-bit"))
    list(arrange(model))
    # 32 keys would cut a block of 64 of the 4-bit kernel; gate and up have 256 each.
    names = {name.rpartition(".")[2] for name, _ in model.network.blocks()[0].named_modules()}
    assert {"q_proj", "k_proj", "v_proj", "gate_up_proj"} <= names
    assert "qkv_proj" not in names
    assert logits(model).isfinite().all()


@needs_kernels
@torch.inference_mode()
def test_a_tied_head_gets_a_copy_and_the_embedding_stays() -> None:
    plain, other = (load_now(TIED, BFLOAT16) for _ in range(2))
    assert isinstance(plain.network.module.get_submodule("lm_head"), TiedHead)
    list(arrange(other))
    assert isinstance(other.network.module.get_submodule("lm_head"), BlockedLinear)
    ids = torch.arange(20)[None]
    assert torch.equal(other.network.embed(ids), plain.network.embed(ids))
    exact = logits(plain)
    assert (logits(other) - exact).norm() / exact.norm() < 0.02


def test_float32_and_machines_without_the_kernels_stay_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(arrange(load_now(folder, LoadOptions(device="cpu", dtype="float32"))))
    monkeypatch.setattr(arranging, "available", lambda: False)
    assert not list(arrange(load_now(folder, BFLOAT16)))


@needs_kernels
def test_weights_stay_mapped_where_laying_them_out_would_fill_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_now(folder, BFLOAT16)
    for free, count in ((int(decoder_bytes(model) / 0.75) - 1, 0), (int(decoder_bytes(model) / 0.75) + 2, 9)):
        monkeypatch.setattr(arranging, "memory", lambda free=free: (free, 2 * free))
        list(arrange(model))
        assert laid_out(model.network.module) == count


def decoder_bytes(model: Model) -> int:
    parts = (*model.network.blocks().modules(), model.network.module.get_submodule("lm_head"))
    linears = [part for part in parts if type(part) is nn.Linear]
    return sum(2 * tensor.numel() for part in linears for tensor in part.parameters())


@needs_kernels
def test_a_stop_between_two_layers_leaves_a_model_that_works(folder: Path) -> None:
    plain, other = load_now(folder, BFLOAT16), load_now(folder, BFLOAT16)
    asked = iter([False, False, False, True])
    list(arrange(other, lambda: next(asked)))
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
