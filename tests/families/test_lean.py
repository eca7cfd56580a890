"""The lean decoder gives what Transformers' own ``forward`` gives, and is what answers are computed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.families.batching_cases import answered, off
from tests.families.generic_cases import LLAVA_15, write
from tests.reference_cases import QWEN2, REFERENCE
from vlmchat.conversation import user
from vlmchat.engine import loader
from vlmchat.engine.api import Request
from vlmchat.engine.generate import Runner
from vlmchat.engine.grain import PREFILL_CHUNK
from vlmchat.engine.loader import load_now
from vlmchat.engine.reference import read_cases
from vlmchat.engine.spread import Spread
from vlmchat.families import lean
from vlmchat.families.lean import LeanDecoder
from vlmchat.families.native import NativeNetwork
from vlmchat.options import LoadOptions, Sampling

FOLDERS = sorted(path.parent for family in ("internvl2", "ovis2") for path in (REFERENCE / family).glob("*/cases.json"))
TOLERANCE = 3e-5
"""On fp32 logits in units of their spread, as for batches; a changed rule moves them by more than 1e-3, see below."""


def network_of(runner: Runner) -> NativeNetwork:
    network = runner.model.network
    assert isinstance(network, NativeNetwork)
    return network


def both_ways(runner: Runner, requests: list[Request]) -> Iterator[list[Tensor]]:
    """Yield the logits behind every token, lean and plain: rows of different lengths, prompts in chunks."""
    network = network_of(runner)
    for decoder in (network.lean, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network, "lean", decoder)
            patch.setitem(PREFILL_CHUNK, "cpu", 7)
            alone = answered(runner, requests, 1)
            together = answered(runner, requests, 3)
        yield [scores for row in (*alone, *together) for scores in row.logits]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_step_is_that_of_the_library(folder: Path) -> None:
    runner = Runner(load_now(folder / "checkpoint", LoadOptions(dtype="float32")))
    requests = [replace(case.request(), sampling=Sampling(max_new_tokens=5)) for case in read_cases(folder)[:3]]
    decoder = network_of(runner).lean
    assert decoder is not None
    mine, plain = both_ways(runner, requests)
    assert len(mine) == len(plain) > 0
    assert max(float((a - b).abs().max() / b.std()) for a, b in zip(mine, plain, strict=True)) < TOLERANCE
    # Two ways through all prompts and four steps behind the first token of each: no silent fallback.
    assert decoder.calls > 2 * 4


MUTATIONS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "turning": ("_signed", lambda sin: -sin),
    "mask": ("causal_mask", lambda length, total, device: torch.ones(length, total, dtype=torch.bool).tril()),
    "norm": ("_normed", lambda hidden, norm: norm.weight * hidden),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_rule_is_seen(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(load_now(QWEN2 / "checkpoint", LoadOptions(dtype="float32")))
    requests = [Request((user("Say something about the number seven."),), Sampling(max_new_tokens=2))]
    monkeypatch.setitem(PREFILL_CHUNK, "cpu", 7)
    right = answered(runner, requests, 1)
    monkeypatch.setattr(lean, *MUTATIONS[mutation])
    wrong = answered(runner, requests, 1)
    assert off(wrong, right) > 1e-3


def test_layers_spread_over_devices_keep_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = dict.fromkeys(("model", "lm_head", "model.language_model.layers.0"), "cpu")
    monkeypatch.setattr(loader, "_spread", lambda *_: Spread(parts))
    runner = Runner(load_now(QWEN2 / "checkpoint", LoadOptions(dtype="float32")))
    decoder = network_of(runner).lean
    assert decoder is not None
    assert not decoder.serves()
    request = Request((user("Hi"),), Sampling(max_new_tokens=2))
    assert list(runner.answer(request, lambda: False))
    assert decoder.calls == 0


def test_generic_models_keep_the_plain_path(tmp_path: Path) -> None:
    folder = tmp_path / "generic"
    write(LLAVA_15, folder)
    network = load_now(folder, LoadOptions(dtype="float32")).network
    assert isinstance(network, NativeNetwork)
    assert LeanDecoder.knows(network._text), "it would be served if it were asked for"
    assert network.lean is None


def test_windows_and_other_layers_are_not_known() -> None:
    text = network_of(Runner(load_now(QWEN2 / "checkpoint")))._text
    assert LeanDecoder.knows(text)
    text.config.layer_types = ["sliding_attention", "full_attention"]
    assert not LeanDecoder.knows(text)
