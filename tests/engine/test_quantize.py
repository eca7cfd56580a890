"""Quantization on the fly: near the full-precision weights, small in memory, vision tower untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.bench.checkpoints import build_internvl2
from vlmchat.conversation import user
from vlmchat.engine import quantize
from vlmchat.engine.api import Request
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import INT4_GROUP
from vlmchat.engine.loader import Model, load_now
from vlmchat.engine.quantize import BitsAndBytesLinear, Int4Linear, Int8Linear, QuantizedLinear
from vlmchat.options import LoadOptions, Quantization, Sampling

GEOMETRY = {
    "vision": {
        "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 56,
    },
    "language": {
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 256, "vocab_size": 572,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_internvl2(tmp_path_factory.mktemp("quantize") / "checkpoint", GEOMETRY, torch.float32)


def relative_error(layer: QuantizedLinear, linear: nn.Linear) -> float:
    inputs = torch.randn(3, 5, linear.in_features)
    exact = linear(inputs)
    return float((layer(inputs) - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        (Int8Linear, 0.012),  # uniform rounding to 255 levels of a Gaussian's 4-sigma range: 0.8 % rms
        (Int4Linear, 0.11),  # 16 levels over a group's range of about 4 sigma: 7.5 % rms
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_one_layer_stays_near(kind: type[QuantizedLinear], limit: float, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(128, 64, bias=bias)
    layer = kind(linear)
    layer.take(linear.weight.data)
    assert 0 < relative_error(layer, linear) < limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "name"), [(Int8Linear, "INT8_ROWS"), (Int4Linear, "INT4_ROWS")])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_many_rows_give_what_few_rows_give(
    kind: type[QuantizedLinear], name: str, bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 192, bias=bias, dtype=dtype)
    layer = kind(linear)
    layer.take(linear.weight.data)
    inputs = torch.randn(2, 7, 96, dtype=dtype)
    exact = nn.functional.linear(inputs.double(), held(layer), linear.bias.double() if bias else None)
    for rows in (14, 15):  # 14 rows from the widened weights, then from the packed ones
        monkeypatch.setattr(quantize, name, rows)
        off = (layer(inputs).double() - exact).norm() / exact.norm()
        # Of bfloat16 four roundings of 8 bits meet: weights, scales, product, bias.
        assert off < (1e-6 if dtype == torch.float32 else 6e-3)


def held(layer: QuantizedLinear) -> torch.Tensor:
    """Return the weights [out, in] that ``layer`` holds, in float64: the plain rule, without a kernel."""
    if isinstance(layer, Int8Linear):
        return layer.weight.double() * layer.scales.double()[:, None]
    assert isinstance(layer, Int4Linear)
    levels = quantize.int4_levels(layer.packed, torch.float64)
    scale, zero = layer.scales_and_zeros.double().repeat_interleave(INT4_GROUP, dim=0).unbind(dim=-1)
    return (levels * scale + zero).T


@torch.no_grad()
def test_an_unknown_layout_is_left_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(32, 64, bias=False)
    layer = Int4Linear(linear)
    layer.take(linear.weight.data)
    inputs = torch.randn(quantize.INT4_ROWS, 32)
    monkeypatch.setattr(quantize, "int4_layout_is_known", lambda: False)
    monkeypatch.setattr(Int4Linear, "widened", lambda self: pytest.fail("must not be read"))
    assert layer(inputs).shape == (quantize.INT4_ROWS, 64)


@torch.no_grad()
def test_a_vocabulary_is_quantized_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(32, 77, bias=False)
    whole, parts = Int8Linear(linear), Int8Linear(linear)
    whole.take(linear.weight.data)
    monkeypatch.setattr(quantize, "_ROWS_AT_ONCE", 10)
    parts.take(linear.weight.data)
    assert torch.equal(whole.weight, parts.weight)
    assert torch.equal(whole.scales, parts.scales)
    assert relative_error(parts, linear) < 0.012


@torch.no_grad()
def test_what_eight_bits_can_hold_is_held_exactly() -> None:
    linear = nn.Linear(32, 16, bias=False)
    linear.weight.data = torch.randint(-127, 128, (16, 32)).float() / 127
    linear.weight.data[:, 0] = 1.0
    layer = Int8Linear(linear)
    layer.take(linear.weight.data)
    assert relative_error(layer, linear) < 1e-6


@torch.no_grad()
def test_what_four_bits_can_hold_is_held_exactly() -> None:
    linear = nn.Linear(64, 16, bias=False)
    linear.weight.data = torch.arange(16).float().repeat(16, 4) / 4 - 1
    layer = Int4Linear(linear)
    layer.take(linear.weight.data)
    assert relative_error(layer, linear) < 1e-6


@torch.no_grad()
def test_a_constant_group_of_weights_divides_by_nothing() -> None:
    linear = nn.Linear(32, 16, bias=False)
    linear.weight.data.fill_(0.0)
    for kind in (Int8Linear, Int4Linear):
        layer = kind(linear)
        layer.take(linear.weight.data)
        assert torch.equal(layer(torch.ones(1, 32)), torch.zeros(1, 16))


@torch.no_grad()
def test_the_gpu_layer_computes_with_bitsandbytes_on_a_cpu_too() -> None:
    pytest.importorskip("bitsandbytes", reason="the quantization extra is not installed")
    torch.manual_seed(0)
    linear = nn.Linear(128, 64)
    layer = BitsAndBytesLinear(linear, bits=4)
    layer.take(linear.weight.data)
    assert 0 < relative_error(layer, linear) < 0.13  # NF4 in blocks of 64: 9.5 % rms on Gaussian weights


def logits(model: Model) -> torch.Tensor:
    runner = Runner(model)
    prompt = model.checkpoint.layout([user("Hello there")], Request((user("x"),)).vision)
    with torch.inference_mode():
        hidden = model.network.hidden_states(runner.passes.span(prompt, {}, 0, len(prompt.ids)), runner.cache.native)
        return model.network.logits(hidden)


@pytest.mark.parametrize(("quantization", "bits", "limit"), [("8-bit", 8.25, 0.03), ("4-bit", 6.0, 0.35)])
def test_a_model_loads_quantized(folder: Path, quantization: Quantization, bits: float, limit: float) -> None:
    whole = load_now(folder)
    small = load_now(folder, LoadOptions(quantization=quantization))
    assert small.about.quantization == quantization
    decoder = [layer for layer in small.network.blocks().modules() if isinstance(layer, QuantizedLinear)]
    assert len(decoder) == 2 * 7
    assert isinstance(small.network.module.get_submodule("lm_head"), Int8Linear)
    tower = small.network.module.get_submodule("model.vision_tower")
    assert not [layer for layer in tower.modules() if isinstance(layer, QuantizedLinear)]
    weights = sum(layer.in_features * layer.out_features for layer in decoder)
    saved = whole.about.weight_bytes - small.about.weight_bytes
    assert saved >= weights * (32 - bits) / 8
    exact, near = logits(whole), logits(small)
    assert 0 < (near - exact).norm() / exact.norm() < limit
    *_, finished = Runner(small).answer(Request((user("Hello"),), Sampling(max_new_tokens=4)), lambda: False)
    assert finished.usage.completion_tokens == 4  # type: ignore[union-attr]
