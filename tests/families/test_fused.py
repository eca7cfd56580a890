"""Compiled decode steps give what torch's modules give, whatever the weights' form, the rows and the threads."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llvmlite import binding
from torch import Tensor

from tests.bench.checkpoints import build_internvl2
from tests.engine.test_quantize import GEOMETRY as EVEN
from tests.families.batching_cases import answered, off, questions, steered
from tests.reference_cases import QWEN2, REFERENCE
from vlmchat.conversation import user
from vlmchat.engine import fuse as fusing
from vlmchat.engine.api import Request
from vlmchat.engine.arrange import BlockedLinear, arrange
from vlmchat.engine.fuse import compiled, fuse, fusible
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import Model, load_now
from vlmchat.engine.quantize import int4_layout_is_known
from vlmchat.engine.reference import read_cases
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.families.fused import kernels, sharing, table, team
from vlmchat.families.fused.step import SERVED, FusedStep
from vlmchat.families.fused.table import MOST_ROWS
from vlmchat.families.native import NativeNetwork
from vlmchat.options import Dtype, LoadOptions, Quantization, Sampling
from vlmchat.paths import environment_of_a_child

FOLDERS = sorted(path.parent for family in ("internvl2", "ovis2") for path in (REFERENCE / family).glob("*/cases.json"))
TOLERANCE = 3e-5
"""On fp32 logits in units of their spread, as for batches and the lean decoder."""
# An odd vocabulary, as InternVL2-1B's: outputs are multiplied in pairs.
GEOMETRY: dict[str, Any] = EVEN | {"language": EVEN["language"] | {"vocab_size": 573}}
needs_layout = pytest.mark.skipif(
    not int4_layout_is_known(), reason="torch packs 4 bits in another layout on this processor"
)
FORMS = [
    pytest.param("float32", "none", TOLERANCE, id="float32"),
    # bfloat16 rounds at the same places; a sum in another order tips a rounding here and there.
    pytest.param("bfloat16", "none", 0.05, id="bfloat16"),
    pytest.param("float32", "8-bit", TOLERANCE, id="8-bit, float32"),
    pytest.param("bfloat16", "8-bit", 0.08, id="8-bit, bfloat16"),
    pytest.param("bfloat16", "4-bit", 0.08, id="4-bit", marks=needs_layout),
]


@pytest.fixture(autouse=True)
def small_models_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "SMALL_MODEL", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_internvl2(tmp_path_factory.mktemp("fused") / "checkpoint", GEOMETRY, torch.float32)


def step_of(runner: Runner) -> FusedStep:
    network = runner.model.network
    assert isinstance(network, NativeNetwork)
    assert network.lean is not None
    assert network.lean.fused is not None
    return network.lean.fused


def runners(folder: Path, dtype: Dtype, quantization: Quantization = "none", threads: int = 2) -> tuple[Runner, Runner]:
    """Return the same model computed in compiled code and by torch's operations."""
    options = LoadOptions(device="cpu", dtype=dtype, quantization=quantization)
    plain, other = load_now(folder, options), load_now(folder, options)
    list(arrange(other, fused=True))
    assert fusible(other)
    fuse(other, threads)
    return Runner(other), Runner(plain)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_step_is_that_of_the_library(folder: Path) -> None:
    model = load_now(folder / "checkpoint", LoadOptions(device="cpu", dtype="float32"))
    fuse(model, 2)
    runner = Runner(model)
    requests = [replace(case.request(), sampling=Sampling(max_new_tokens=5)) for case in read_cases(folder)[:3]]
    mine = [answered(runner, requests, width) for width in (1, 3)]
    if SERVED == MOST_ROWS:
        assert step_of(runner).spans >= 2, "short prompts, and the rest of one that is known"
    # Four steps behind the first token of each, alone and together.
    assert step_of(runner).steps >= 4 * (len(requests) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.network, "lean", None)
        theirs = [answered(runner, requests, width) for width in (1, 3)]
    for fused, plain in zip(mine, theirs, strict=True):
        assert [row.tokens for row in fused] == [row.tokens for row in plain]
        assert off(fused, plain) < TOLERANCE


@pytest.mark.parametrize(("dtype", "quantization", "limit"), FORMS)
@pytest.mark.parametrize("rows", [1, 2, 4, 7, 16, SERVED])
def test_every_form_of_weights_in_any_number_of_rows(
    folder: Path, dtype: Dtype, quantization: Quantization, limit: float, rows: int
) -> None:
    fused, plain = runners(folder, dtype, quantization)
    mine, theirs = (steered(runner, questions(rows), rows) for runner in (fused, plain))
    assert step_of(fused).steps >= 4
    assert off(mine, theirs) < limit


@pytest.mark.skipif(SERVED < MOST_ROWS, reason="on this processor torch computes the prompts of this test")
@pytest.mark.parametrize(("dtype", "quantization", "limit"), FORMS)
def test_a_short_turn_is_computed_together(
    folder: Path, dtype: Dtype, quantization: Quantization, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows 90 known words, behind keys and values that torch computed."""
    pair, found = runners(folder, dtype, quantization), []
    for runner in pair:
        rows = steered(runner, asked("red " * 90), 1)
        with monkeypatch.context() as patch:
            patch.setattr(runner, "forget", lambda: None)
            before = runner.passes.forward_tokens
            rows += steered(runner, asked("red " * 90 + "blue " * 9), 1)
        assert 20 < runner.passes.forward_tokens - before < MOST_ROWS
        found.append(rows)
    assert step_of(pair[0]).spans == 1, "the long one is torch's"
    assert off(*found) < limit


def asked(text: str) -> list[Request]:
    return [Request((user(text),), Sampling(max_new_tokens=3))]


def test_more_rows_than_a_step_has_are_torchs(folder: Path) -> None:
    fused, plain = runners(folder, "float32")
    requests = questions(SERVED + 1)
    mine, theirs = (answered(runner, requests, SERVED + 1) for runner in (fused, plain))
    assert off(mine, theirs) < TOLERANCE
    assert step_of(fused).steps == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_long_prompts_and_growing_buffers(folder: Path, dtype: Dtype) -> None:
    """More keys than are scored at once, and a step at which the buffers of keys and values move."""
    fused, plain = runners(folder, dtype)
    request = Request((user("7" * (2 * kernels.PLACES - 90)),), Sampling(max_new_tokens=60))
    size = fused.measure(request).prompt_tokens
    assert 2 * kernels.PLACES - 50 < size < 2 * kernels.PLACES < size + 60
    mine, theirs = (steered(runner, [request], 1) for runner in (fused, plain))
    assert off(mine, theirs) < (TOLERANCE if dtype == "float32" else 0.05)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of this kind")
def test_older_processors_compute_the_same() -> None:
    """The code for AVX2, without products of bfloat16, runs on every newer one: the tests above once more."""
    features = binding.get_host_cpu_features()
    older = {name: on and not name.startswith(("avx512", "avx10", "amx")) for name, on in features.items()}
    flags = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(older.items()))
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": flags}
    chosen = "test_every_form_of_weights or test_a_short_turn or test_long_prompts"
    asked = "from vlmchat.families.fused.vectors import DOTS; print(DOTS)"
    told = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "False", told.stderr
    command = [sys.executable, "-m", "pytest", "--no-cov", "-n", "0", "-p", "no:cacheprovider"]
    command += ["-k", f"{chosen} or test_widened", __file__, str(Path(__file__).with_name("test_widen.py"))]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout


def test_the_threads_change_nothing(folder: Path) -> None:
    """Every output is one thread's sum, whoever takes it: bit by bit the same, also with more threads than cores."""
    found = [answered(runners(folder, "bfloat16", threads=threads)[0], questions(3, 40), 3) for threads in (1, 2, 5)]
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.logits, other.logits, strict=True))


def test_a_thread_that_comes_late_does_nothing(folder: Path) -> None:
    """It finds more rows of the next step already, and all pieces of its own taken."""
    fused, _ = runners(folder, "float32", threads=1)
    answered(fused, questions(1), 1)
    tables = step_of(fused).tables
    layer: Any = fused.cache.native.layers[0]
    before = layer.keys.clone(), tables.counters.copy(), tables.queries.copy()
    tables.control[table.ROWS] = MOST_ROWS
    # The decoder's operations ran in the step before that of the head.
    decoder = len(tables.operations) - 1
    for step in range(int(tables.control[table.STEP]) + 1):
        sharing.work(tables, 0, step, 0, decoder)
    assert torch.equal(before[0], layer.keys)
    assert (before[1] == tables.counters).all()
    assert (before[2] == tables.queries).all()


def test_a_wrong_place_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fused, plain = runners(folder, "float32")
    step, right = step_of(fused), steered(plain, questions(1), 1)
    turns = step._turns.of
    monkeypatch.setattr(step._turns, "of", lambda positions: turns([2 * place for place in positions]))
    assert off(steered(fused, questions(1), 1), right) > 1e-3


@pytest.mark.parametrize("epsilon", [1e-2])
def test_a_wrong_norm_is_seen(folder: Path, epsilon: float) -> None:
    fused, plain = runners(folder, "float32")
    step = step_of(fused)
    step.tables = step.tables._replace(epsilon=np.float32(epsilon))
    step._team = team.Team(step.tables, 1)
    assert off(steered(fused, questions(1), 1), steered(plain, questions(1), 1)) > 1e-3


def test_helpers_sleep_between_answers_and_go_with_the_model(folder: Path) -> None:
    before = set(threading.enumerate())
    fused, _ = runners(folder, "float32", threads=3)
    helpers = set(threading.enumerate()) - before
    assert len(helpers) == 2
    answered(fused, questions(1), 1)
    inside = step_of(fused).tables.control
    until(lambda: not any(inside[table.INSIDE + 8 * number] for number in (1, 2)))
    answered(fused, questions(1), 1)  # they come back
    assert all(helper.is_alive() for helper in helpers)
    del fused
    gc.collect()
    until(lambda: not any(helper.is_alive() for helper in helpers))


def until(happens: Any, patience_s: float = 20) -> None:
    end = time.monotonic() + patience_s
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def model_of(folder: Path, **options: Any) -> Model:
    return load_now(folder, LoadOptions(device="cpu", **({"dtype": "float32"} | options)))


def test_who_is_not_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fusible(model_of(folder))
    assert not fusible(model_of(folder, dtype="float16"))
    other = model_of(folder)
    network = other.network
    assert isinstance(network, NativeNetwork)
    assert network.lean is not None
    network.lean.text.config.hidden_act = "gelu"
    assert not fusible(other)
    monkeypatch.setattr(fusing, "SMALL_MODEL", 1 << 40)
    assert not fusible(model_of(folder))


def test_what_turns_out_unknown_is_left_to_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(folder)
    network: Any = model.network
    embedding = torch.nn.Embedding(573, 32)
    monkeypatch.setattr(network.lean.text, "embed_tokens", embedding.half())
    fuse(model, 1)
    assert network.lean.fused is None


@pytest.mark.parametrize("missing", ["numba", "system", "compiler"])
def test_without_numba_or_where_it_fails_torch_computes(
    folder: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "numba":
        monkeypatch.setattr(fusing, "find_spec", lambda name: None)
    elif missing == "system":
        monkeypatch.setitem(sys.modules, "vlmchat.families.fused.team", None)
    else:
        monkeypatch.setattr(team, "take_part", fails)
    engine = TorchEngine()
    list(engine.load(folder, LoadOptions(device="cpu", dtype="float32")))
    network = engine.runner.model.network
    assert isinstance(network, NativeNetwork)
    assert network.lean is not None
    assert network.lean.fused is None
    assert list(engine.generate(questions(1)[0]))
    engine.close()


def fails(*_: object) -> None:
    raise RuntimeError("cannot cache function 'take_part': no locator available")


def test_every_answer_of_the_engine_uses_it(folder: Path) -> None:
    engine = TorchEngine()
    stages = [event.stage for event in engine.load(folder, LoadOptions(device="cpu", dtype="bfloat16"))]
    assert "compiling" in stages
    assert "arranging" not in stages
    module = engine.runner.model.network.module
    assert not any(isinstance(part, BlockedLinear) for part in module.modules()), "weights stay mapped"
    assert list(engine.generate(questions(1)[0]))
    assert step_of(engine.runner).steps == 4
    engine.close()


def test_one_compilation_is_told_before_it_begins(folder: Path) -> None:
    told: Iterator[Any] = compiled(model_of(folder))
    assert next(told).stage == "compiling"
    with pytest.raises(StopIteration) as end:
        next(told)
    assert end.value.value is True


def test_a_stop_ends_the_compilation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "on_disk", lambda: False)
    monkeypatch.setattr(fusing, "_COMPILE", "import time; time.sleep(60)")
    looks = iter([False, False, True, True])
    told: Iterator[Any] = compiled(model_of(folder), lambda: next(looks))
    assert next(told).stage == "compiling"
    begun = time.monotonic()
    with pytest.raises(StopIteration) as end:
        next(told)
    assert end.value.value is False
    assert time.monotonic() - begun < 30


def test_what_another_process_compiled_is_found_and_old_code_goes(tmp_path: Path) -> None:
    """In a new home, with the code of four versions in it."""
    versions = tmp_path / "cache" / "compiled"
    for age in range(4):
        (versions / f"old-{age}").mkdir(parents=True)
        os.utime(versions / f"old-{age}", (1000 - age, 1000 - age))
    script = """
from vlmchat.engine.fuse import _compile_beside
from vlmchat.families.fused.team import on_disk
before = on_disk()
_compile_beside(lambda: False)
print(before, on_disk())
"""
    environment = environment_of_a_child() | {"VLMCHAT_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert ran.stdout.split() == ["False", "True"]
    assert sorted(path.name for path in versions.glob("old-*")) == ["old-0", "old-1"]
    (code,) = (path for path in versions.iterdir() if not path.name.startswith("old-"))
    assert list(code.rglob("*take_part*.nbc"))


def test_the_originals_answers_are_given() -> None:
    """Tokens of the original's own code, from the fixtures, through the engine."""
    engine = TorchEngine()
    list(engine.load(QWEN2 / "checkpoint", LoadOptions(device="cpu", dtype="float32")))
    for case in read_cases(QWEN2):
        wanted = case.said("tokens")
        request = replace(case.request(), sampling=Sampling(max_new_tokens=len(wanted)))
        (row,) = answered(engine.runner, [request], 1)
        assert row.tokens == list(wanted)
    assert step_of(engine.runner).steps > 0
    engine.close()


def test_the_exponential_and_the_rounding() -> None:
    values = np.concatenate([np.linspace(-87, 87, 20001), [-1e30, 0.0]]).astype(np.float32)
    mine = np.array([kernels.exponential(value) for value in values])
    exact = np.exp(np.maximum(values.astype(np.float64), -87))
    assert np.abs(mine / exact - 1).max() < 4.5e-6
    near = np.abs(values) < 5
    assert np.abs(mine / exact - 1)[near].max() < 1e-6
    numbers = torch.cat([torch.randn(5000), torch.tensor([0.0, 1 + 2**-8, 1 + 3 * 2**-8, -1e-30])])
    rounded = Tensor([kernels.rounded(number, True) for number in numbers.numpy()])
    assert torch.equal(rounded, numbers.bfloat16().float())
