"""4-bit weights widened in compiled code, by one thread or by torch's own: the numbers of torch's layout."""

from __future__ import annotations

import sys

import pytest
import torch

from vlmchat.engine.quantize import Int4Linear, int4_layout_is_known, int4_levels
from vlmchat.families.fused import borrowed, widen
from vlmchat.families.fused.borrowed import together
from vlmchat.families.fused.widen import Widener, widening

pytestmark = pytest.mark.skipif(
    not int4_layout_is_known(), reason="torch packs 4 bits in another layout on this processor"
)


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> int:
    """Let torch have so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    request.addfinalizer(lambda: torch.set_num_threads(before))
    count: int = request.param
    return count


@torch.inference_mode()
def test_widened_weights_are_those_of_torch(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 320, dtype=torch.bfloat16)
    layer = Int4Linear(linear)
    layer.take(linear.weight.data)
    # Two blocks at a time: five of them are three parts.
    monkeypatch.setattr(Widener, "outputs", lambda self, inputs, whole: 128)
    levels = int4_levels(layer.packed, torch.float32).view(-1, 32, 320)
    scales, zeros = (part.unsqueeze(1).float() for part in layer.scales_and_zeros.unbind(dim=-1))
    exact = (levels * scales + zeros).bfloat16().view(96, 320)
    widener = Widener()
    for _ in range(20):
        widener._scratch.zero_()
        assert torch.equal(widener(layer.packed, layer.scales_and_zeros), exact)
    inputs = torch.randn(2, 70, 96).bfloat16()
    layer.widener = Widener()
    theirs = (inputs.view(140, 96) @ exact).view(2, 70, 320) + linear.bias
    assert (layer(inputs).float() - theirs.float()).abs().max() < 0.02


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return whether torch's threads were there, at each widening of a small matrix from now on."""
    calls: list[bool] = []

    def noted(function: int, plan: int) -> bool:
        calls.append(together(function, plan))
        return calls[-1]

    monkeypatch.setattr(widen, "together", noted)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels have another OpenMP elsewhere")
def test_torchs_threads_do_it(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    calls = calls_of(monkeypatch)
    layer = Int4Linear(linear := torch.nn.Linear(96, 64, dtype=torch.bfloat16))
    layer.take(linear.weight.data)
    Widener()(layer.packed, layer.scales_and_zeros)
    assert calls == [threads > 1]


def test_with_another_openmp_one_thread_does_it(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(borrowed, "_parallel", lambda: None)
    calls = calls_of(monkeypatch)
    layer = Int4Linear(linear := torch.nn.Linear(96, 64, dtype=torch.bfloat16))
    layer.take(linear.weight.data)
    assert Widener()(layer.packed, layer.scales_and_zeros).abs().sum() > 0
    assert calls == [False]


def test_every_thread_calls_once(threads: int) -> None:
    """A plan without blocks: each call only looks for the next one."""
    if borrowed._parallel() is None:
        pytest.skip("torch has another OpenMP here")
    plan = torch.zeros(widen.SPAN + 1, dtype=torch.int64)
    assert together(widening().address, plan.data_ptr()) == (threads > 1)
    assert plan[widen.NEXT] == (64 * threads if threads > 1 else 0)
