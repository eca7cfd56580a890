"""Training: a few steps of a tiny network run, resume with equal bits, and do not depend on the helpers."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vlmchat.demo import CHECKPOINT
from vlmchat.demo.export import config
from vlmchat.demo.losses import gaze_loss
from vlmchat.demo.network import Network, Sizes, normalise
from vlmchat.demo.optim import orthogonal, parts_of
from vlmchat.demo.schedule import COURSE, MICRO, Stage
from vlmchat.demo.train import Run, prepare

TINY = Sizes(width=32, inner=48, heads=4, vision_layers=1, text_layers=3, kv_heads=2)
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the shipped tokenizer and the pictures of the micro course."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoint").mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(CHECKPOINT / name, folder / "checkpoint")
    prepare(folder, MICRO.plan, workers=1)
    return folder


def nothing() -> None:
    """What a helper does when it starts; by name, so that it can be sent to another process."""


def trained(folder: Path, helpers: int, *parts: int | None) -> Tensor:
    """Train the micro course from its start in parts of so many steps; return the weights."""
    (folder / "state.pt").unlink(missing_ok=True)
    for steps in parts:
        run = Run(folder, MICRO, TINY, helpers, nothing)
        run.train(steps)
        run.team.close()
    return run.team.master.clone()


def test_steps_resume_with_equal_bits(folder: Path) -> None:
    whole = trained(folder, 0, None)
    assert torch.equal(whole, trained(folder, 0, 1, 2, None))


def test_a_helper_changes_nothing_but_the_speed(folder: Path) -> None:
    assert torch.equal(trained(folder, 0, None), trained(folder, 1, None))


def test_an_export_has_the_names_of_the_original(folder: Path) -> None:
    run = Run(folder, MICRO, TINY, 0, nothing)
    target = run.finish()
    with safe_open(target / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert {name.split(".")[0] for name in names} == {"vision_model", "mlp1", "language_model"}
    assert "vision_model.encoder.layers.0.attn.qkv.weight" in names
    assert "language_model.model.layers.0.self_attn.q_proj.bias" in names
    assert config(TINY)["architectures"] == ["InternVLChatModel"]


def test_seeing_a_part_agrees_with_seeing_all_of_it() -> None:
    network = Network(TINY)
    pixels = normalise(torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8), torch.float32)
    _, tokens = network.see(pixels)
    _, part = network.see_part(pixels, torch.arange(16).expand(2, -1))
    assert torch.allclose(tokens, part, atol=1e-5)


def test_gaze_costs_what_is_not_looked_at() -> None:
    """Two heads of one position: all of their attention on the thing is free, a tenth of it costs -log 0.1."""
    attention = torch.full((1, 4, 6, 6), 0.1)
    attention[0, :, 5, 2] = 1.0
    gazing = (torch.tensor([0, 0]), torch.tensor([5, 4]))
    costs = [float(gaze_loss(attention, gazing, torch.eye(6, dtype=torch.bool)[[at, at]])) for at in (2, 3)]
    assert costs == pytest.approx([-math.log(0.1) / 2, -math.log(0.1)], abs=1e-3)


def test_muon_directions_are_nearly_orthogonal() -> None:
    turned = orthogonal(torch.randn(3, 24, 48))
    assert torch.linalg.svdvals(turned).sub(0.95).abs().max() < 0.35


def test_every_parameter_has_one_rule() -> None:
    parts = parts_of(Network(TINY))
    assert all(one.stop == two.start for one, two in pairwise(parts))
    assert parts[-1].stop == sum(parameter.numel() for parameter in Network(TINY).parameters())


def test_rates_rise_stay_and_fall() -> None:
    stage = Stage("any", 100, 1, 1, (1.0, 1.0), 1, warmup=10, fall=0.5, floor=0.1)
    assert stage.factor(0) == pytest.approx(0.1)
    assert stage.factor(30) == 1
    assert stage.factor(75) == pytest.approx(0.55)
    last = COURSE.stages[-1]
    assert last.factor(last.steps - 1) < 0.02
