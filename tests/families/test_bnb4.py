"""fp4 layers by bitsandbytes' own kernels. There is no GPU here; its kernels for CPUs stand for those of a GPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vlmchat.families.packed import bnb4
from vlmchat.families.packed.bnb4 import Bnb4Linear, kernels_are_right, usual_codes


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a CPU have kernels, as far as layers know; what was found out before and here is forgotten."""
    monkeypatch.setattr(bnb4, "_WITH_KERNELS", ("cpu",))
    kernels_are_right.cache_clear()
    yield
    kernels_are_right.cache_clear()


def layer_of(inputs: int, outputs: int, bias: bool = False) -> Bnb4Linear:
    layer = Bnb4Linear(inputs, outputs, bias)
    layer.weight = torch.randint(256, (inputs * outputs // 2, 1), dtype=torch.uint8)
    layer.absmax = torch.rand(-(-inputs * outputs // 64)) + 0.5
    layer.quant_map = usual_codes()
    if bias:
        layer.bias = nn.Parameter(torch.randn(outputs), requires_grad=False)
    return layer


@pytest.fixture
def multiplied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the rows of each call of the kernels."""
    rows: list[int] = []
    real = Bnb4Linear.multiplied

    def counted(self: Bnb4Linear, inputs: Tensor) -> Tensor:
        rows.append(inputs.numel() // inputs.shape[-1])
        return real(self, inputs)

    monkeypatch.setattr(Bnb4Linear, "multiplied", counted)
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_the_kernels_give_what_unpacking_gives(
    dtype: torch.dtype, rows: int, bias: bool, multiplied: list[int]
) -> None:
    torch.manual_seed(0)
    layer = layer_of(256, 192, bias)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.to(dtype), requires_grad=False)
    inputs = torch.randn(2, rows, 512).to(dtype)[..., ::2]
    expected = nn.functional.linear(inputs, layer.unpack(dtype), layer.bias).float()
    found = layer(inputs)
    assert (found.dtype, found.shape) == (dtype, (2, rows, 192))
    assert multiplied == [1, 4, 2 * rows], "the trial of both kernels, and this call"
    # bfloat16 is rounded at the end, by some kernels before the bias too; a sum in another order tips a rounding.
    allowed = 1e-5 * expected.std() if dtype == torch.float32 else 2**-7 * expected.abs() + 1e-2 * expected.std()
    assert ((found.float() - expected).abs() <= allowed).all()


@pytest.mark.parametrize("odd", ["width", "codebook"])
def test_what_the_kernels_do_not_know_is_unpacked(odd: str, multiplied: list[int]) -> None:
    layer = layer_of(96 if odd == "width" else 128, 8)
    if odd == "codebook":
        layer.quant_map = usual_codes() * 2
    inputs = torch.randn(3, layer.in_features)
    assert torch.equal(layer(inputs), nn.functional.linear(inputs, layer.unpack(torch.float32)))
    assert 3 not in multiplied


@pytest.mark.parametrize("fault", ["numbers", "refusal"])
def test_kernels_that_are_wrong_or_missing_are_left_alone(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A logger of its own: tools that set logging up in this process switch off those they find.
    monkeypatch.setattr(bnb4, "_log", logging.getLogger(f"bnb4, {fault}"))
    caplog.set_level("INFO")
    calls = []

    def faulty(self: Bnb4Linear, inputs: Tensor) -> Tensor:
        calls.append(len(inputs))
        if fault == "refusal":
            raise RuntimeError("CUDA binary not found")
        return super(Bnb4Linear, self).forward(inputs) * 1.02

    monkeypatch.setattr(Bnb4Linear, "multiplied", faulty)
    layer, inputs = layer_of(128, 8), torch.randn(3, 128)
    for _ in range(2):
        assert torch.equal(layer(inputs), nn.functional.linear(inputs, layer.unpack(torch.float32)))
    assert 3 not in calls
    assert ("CUDA binary not found" in caplog.text) == (fault == "refusal")


def test_where_weights_are_unpacked_for_good_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, multiplied: list[int]
) -> None:
    monkeypatch.setattr(bnb4, "_WITH_KERNELS", ("cuda",))
    layer_of(128, 8)(torch.randn(3, 128))
    assert multiplied == []
