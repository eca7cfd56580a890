"""Recorded decode steps give what torch's operations give.

There is no GPU here. In a graph's place stands a trace of torch's operations: like a graph it does the same operations
on the same memory, whatever Python would have done this time. That all of a step stays on the GPU, and waits for
nothing, is asked of torch's fake tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from tests.bench.checkpoints import build_internvl2
from tests.engine.test_quantize import GEOMETRY
from tests.families.batching_cases import answered, off, questions, steered
from tests.families.generic_cases import LLAVA_15, write
from tests.reference_cases import REFERENCE
from vlmchat.conversation import user
from vlmchat.engine import kv
from vlmchat.engine.api import Request
from vlmchat.engine.arrange import arrange
from vlmchat.engine.generate import Runner
from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import Model, load_now
from vlmchat.engine.record import record
from vlmchat.engine.reference import read_cases
from vlmchat.families import recorded
from vlmchat.families.native import NativeNetwork
from vlmchat.families.recorded import PLAIN_STEPS, Record, RecordedStep
from vlmchat.options import LoadOptions, Sampling

FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/*/cases.json"))
TOLERANCE = 3e-5
"""On fp32 logits in units of their spread, as for batches and the lean decoder."""


def traced(work: Callable[[], None]) -> Callable[[], None]:
    """Record the operations of ``work``, as a graph does: with the memory they read and write, without Python."""
    graph: Callable[[], None] = make_fx(work)()
    return graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_internvl2(tmp_path_factory.mktemp("recorded") / "checkpoint", GEOMETRY, torch.float32)


def recording(runner: Runner, record: Record = traced) -> RecordedStep:
    """Let the steps of ``runner`` be recorded."""
    model = runner.model
    decoder = model.network.steady(model.dtype, model.device)
    assert decoder is not None
    model.network.recorded = RecordedStep(decoder, model.device, record)
    return model.network.recorded


def runners(folder: Path, dtype: Any = "float32", record: Record = traced) -> tuple[Runner, RecordedStep, Runner]:
    """Return one whose steps are recorded, the recorded step, and the same model by torch's operations."""
    first, second = (Runner(load_now(folder, LoadOptions(device="cpu", dtype=dtype))) for _ in range(2))
    return first, recording(first, record), second


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_step_is_that_of_the_library(folder: Path) -> None:
    """Whatever the rotary table: fixed, long or short by the whole length, another one for every length."""
    runner = Runner(load_now(folder / "checkpoint", LoadOptions(device="cpu", dtype="float32")))
    requests = [replace(case.request(), sampling=Sampling(max_new_tokens=12)) for case in read_cases(folder)[:3]]
    runner.model.checkpoint.stop_ids = frozenset()
    step = recording(runner)
    mine = [steered(runner, requests, width) for width in (1, 3)]
    assert not step.flaw
    assert step.played >= (11 - PLAIN_STEPS) * (len(requests) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.model.network, "recorded", None)
        patch.setattr(runner.model.network, "lean", None, raising=False)
        theirs = [steered(runner, requests, width) for width in (1, 3)]
    assert max(off(ours, plain) for ours, plain in zip(mine, theirs, strict=True)) < TOLERANCE


def test_in_bfloat16(folder: Path) -> None:
    mine, step, plain = runners(folder, "bfloat16")
    assert off(steered(mine, questions(3, 12), 3), steered(plain, questions(3, 12), 3)) < 0.05
    assert step.played


def test_what_nobody_wrote_yet_does_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kv._buffer
    monkeypatch.setattr(kv, "_buffer", lambda *args: made(*args).fill_(torch.nan) if args[1] == 1 else made(*args))
    mine, step, plain = runners(folder)
    assert off(steered(mine, questions(1, 12), 1), steered(plain, questions(1, 12), 1)) < TOLERANCE
    assert step.played == 11 - PLAIN_STEPS


def test_longer_stretches_and_buffers_that_move_are_recorded_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "STRETCH", 50)
    monkeypatch.setattr(kv, "KV_BLOCK", 64)
    mine, step, plain = runners(folder)
    request = Request((user("red"),), Sampling(max_new_tokens=90))
    size = mine.measure(request).prompt_tokens
    assert 64 < size < 90
    assert off(steered(mine, [request], 1), steered(plain, [request], 1)) < TOLERANCE
    # At 100 and 150 places a stretch ends, at 128 the buffers do.
    assert step.recorded == 4
    assert step.played == 89 - 2 * PLAIN_STEPS


def test_the_next_turn_plays_what_is_there(folder: Path) -> None:
    mine, step, plain = runners(folder)
    before = 0
    for text in ("red " * 5, "red " * 5 + "blue", "green"):
        request = Request((user(text),), Sampling(max_new_tokens=9))
        found = []
        for runner in (mine, plain):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(runner, "forget", lambda: None)
                found.append(steered(runner, [request], 1))
        assert off(*found) < TOLERANCE
        assert step.recorded == 1
        assert step.played - before == 8 - (0 if before else PLAIN_STEPS)
        before = step.played


def test_rows_that_come_and_go_are_not_recorded_each_time(folder: Path) -> None:
    """Of six answers, two at a time, each ends a step or two after the one before."""
    requests = [
        replace(request, sampling=Sampling(max_new_tokens=3 + 2 * (number % 3)))
        for number, request in enumerate(questions(6))
    ]
    mine, step, plain = runners(folder)
    assert off(steered(mine, requests, 2), steered(plain, requests, 2)) < TOLERANCE
    assert step.recorded <= 1


def refused(work: Callable[[], None]) -> Callable[[], None]:
    raise RuntimeError("operation not permitted when stream is capturing")


def idle(work: Callable[[], None]) -> Callable[[], None]:
    """Record nothing."""
    return lambda: None


@pytest.mark.parametrize(("record", "why"), [(refused, "not permitted"), (idle, "off by")])
def test_a_recording_that_fails_or_errs_costs_nothing_but_itself(
    folder: Path, record: Record, why: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger of its own: tools that set logging up in this process switch off those they find.
    monkeypatch.setattr(recorded, "_log", logging.getLogger(f"recorded, {why}"))
    caplog.set_level("INFO")
    mine, step, plain = runners(folder, record=record)
    assert off(steered(mine, questions(2, 20), 1), steered(plain, questions(2, 20), 1)) < TOLERANCE
    assert why in step.flaw
    assert step.played == 0
    assert len([entry for entry in caplog.records if why in entry.getMessage()]) == 1, "it is not tried again"


def test_a_wrong_place_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, step, plain = runners(folder)
    placed = step._decoder.placed
    monkeypatch.setattr(step._decoder, "placed", lambda positions: placed([place + 1 for place in positions]))
    assert off(steered(mine, questions(1, 12), 1), steered(plain, questions(1, 12), 1)) > 1e-3


def test_all_of_a_step_stays_on_the_gpu_and_waits_for_nothing(folder: Path) -> None:
    """Fake tensors refuse operations between devices, and to give a number away: what a graph cannot hold."""
    runner, step, _ = runners(folder)
    answered(runner, questions(1), 1)
    network = runner.model.network
    assert isinstance(network, NativeNetwork)
    with FakeTensorMode(), Sliced(), torch.inference_mode():
        on_gpu(network.module)
        cache = RowCache(network.decoder_layers(), 2).native
        for layer in cache.layers:
            layer.lazy_initialization(*2 * [torch.empty(2, 2, 64, 32, device="cuda")])
            layer.keys, layer.values = (torch.empty(2, 2, 64, 32, device="cuda") for _ in range(2))
        inputs = torch.zeros(2, 2, dtype=torch.int64, device="cuda")
        waves = torch.zeros(2, 2, 1, 32, device="cuda")
        logits = step._step(inputs, waves, 64, cache)
        assert logits.device.type == "cuda"
        assert logits.shape == (2, GEOMETRY["language"]["vocab_size"])
        with pytest.raises(RuntimeError, match="at least two devices"):
            step._step(inputs, torch.zeros(2, 2, 1, 32), 64, cache)


class Sliced(TorchFunctionMode):
    """Slices by torch's operations: a torch without CUDA refuses brackets behind a fake of a GPU's tensor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__getitem__:
            return func(*args, **(kwargs or {}))
        tensor, wanted = args
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        if ... in wanted:
            at = wanted.index(...)
            missing = tensor.ndim - sum(part is not None for part in wanted) + 1
            wanted = (*wanted[:at], *missing * (slice(None),), *wanted[at + 1 :])
        axis = 0
        for part in wanted:
            if part is None:
                tensor = tensor.unsqueeze(axis)
            elif isinstance(part, int):
                tensor = tensor.select(axis, part)
                continue
            else:
                tensor = torch.ops.aten.slice.Tensor(tensor, axis, part.start, part.stop)
            axis += 1
        return tensor


def on_gpu(module: torch.nn.Module) -> None:
    """Put fakes on a GPU in the place of all weights."""
    for part in module.modules():
        for name, tensor in part._parameters.items():
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda") if tensor is not None else None
            part._parameters[name] = None if made is None else torch.nn.Parameter(made, requires_grad=False)


def is_recorded(model: Model) -> bool:
    """Say whether the engine would have the steps of ``model`` recorded if it were on a GPU."""
    model.network.recorded = None
    record(replace(model, device=torch.device("cuda")))
    return model.network.recorded is not None


def test_whose_steps_are_recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = LoadOptions(device="cpu", dtype="float32")
    model = load_now(folder, options)
    record(model)
    assert model.network.recorded is None, "on a CPU"
    assert is_recorded(model)
    eight = load_now(folder, replace(options, quantization="8-bit"))
    assert not is_recorded(eight)
    network: Any = model.network
    monkeypatch.setattr(network.lean.text.layers[0], "_hf_hook", None, raising=False)
    assert not is_recorded(model)
    cogvlm2 = load_now(REFERENCE / "cogvlm2" / "cogvlm2-image" / "checkpoint", options)
    assert is_recorded(cogvlm2)
    monkeypatch.setattr(cogvlm2.network.blocks()[0], "_hf_hook", None, raising=False)
    assert not is_recorded(cogvlm2)
    generic = folder.parent / "generic"
    write(LLAVA_15, generic)
    assert not is_recorded(load_now(generic, options)), "Transformers' own forward is not driven here"


def test_on_a_gpu_layers_over_the_same_inputs_become_one(folder: Path) -> None:
    model = load_now(folder, LoadOptions(device="cpu", dtype="float32"))
    plain = Runner(load_now(folder, LoadOptions(device="cpu", dtype="float32")))
    assert [event.stage for event in arrange(replace(model, device=torch.device("cuda")))] == ["arranging"] * 4
    first = model.network.blocks()[0]
    assert set(dict(first.get_submodule("self_attn").named_children())) == {"qkv_proj", "o_proj"}
    assert type(first.get_submodule("mlp.gate_up_proj")) is torch.nn.Linear
    assert is_recorded(model)
    model.network.recorded = None
    assert off(steered(Runner(model), questions(2), 2), steered(plain, questions(2), 2)) < TOLERANCE
