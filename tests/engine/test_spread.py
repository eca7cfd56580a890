"""One model over several places: whole blocks, the same numbers, CPU and disk where no GPU is."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from tests.reference_cases import INTERNVL2, QWEN2, internvl2_cases
from vlmchat.engine import loader
from vlmchat.engine.generate import Runner
from vlmchat.engine.spread import Spread, plan_spread, whole_blocks
from vlmchat.families.registry import open_checkpoint
from vlmchat.options import LoadOptions

CASE = next(case for case in internvl2_cases() if case.name == "two_images")
CPU_AND_DISK = Spread(
    {
        "model.vision_tower.embeddings": "cpu",
        "model.vision_tower.encoder.layer.0": "disk",
        "model.vision_tower.encoder.layer.1": "cpu",
        "model.vision_tower.layernorm": "cpu",
        "model.multi_modal_projector": "disk",
        "model.language_model.embed_tokens": "disk",
        "model.language_model.layers.0": "cpu",
        "model.language_model.layers.1": "disk",
        "model.language_model.norm": "cpu",
        "model.language_model.rotary_emb": "cpu",
        "lm_head": "disk",
    }
)


def test_cpu_and_disk_give_the_same_tokens_and_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_spread", lambda *_: CPU_AND_DISK)
    model = loader.load_now(QWEN2 / "checkpoint", LoadOptions(dtype="float32"))
    offloaded = [name for name, tensor in model.network.module.named_parameters() if tensor.is_meta]
    assert any("layers.1." in name for name in offloaded)
    *_, finished = Runner(model).answer(CASE.request(), lambda: False)
    assert list(finished.token_ids) == CASE.about["greedy_tokens"]  # type: ignore[union-attr]
    prompt = model.checkpoint.layout(CASE.request().messages, CASE.request().vision)
    with torch.inference_mode():
        features = torch.cat([model.network.encode(model.checkpoint.pixels(picture)) for picture in prompt.pictures])
    assert (features - CASE.tensor("vision_features")).abs().max() < 1e-5


def test_a_second_model_on_disk_does_not_read_the_first_ones_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_spread", lambda *_: CPU_AND_DISK)
    folder = QWEN2 / "checkpoint"
    first, second = (loader.load_now(folder, LoadOptions(dtype="float32")) for _ in range(2))
    assert first.offload is not None
    assert second.offload is not None
    kept, gone = Path(second.offload.name), Path(first.offload.name)
    assert kept != gone
    assert any(kept.iterdir())
    del first
    gc.collect()
    assert not gone.exists()
    assert kept.exists()


@pytest.mark.parametrize("folder", INTERNVL2, ids=lambda folder: folder.name)
def test_a_block_with_a_residual_is_never_cut(folder: object) -> None:
    module = open_checkpoint(folder / "checkpoint").build().module  # type: ignore[operator]
    sizes = sum(parameter.numel() * 4 for parameter in module.parameters())
    spread = plan_spread(module, torch.float32, {0: int(sizes * 0.5), 1: int(sizes * 0.5), "cpu": sizes})
    assert spread is not None
    assert {spread.device_of(name).index for name, _ in module.named_parameters()} >= {0, 1}
    for name, block in module.named_modules():
        if type(block).__name__ in whole_blocks(module):
            homes = {spread.device_of(f"{name}.{inner}") for inner, _ in block.named_parameters()}
            assert len(homes) == 1, name


def test_a_model_that_fits_is_not_split() -> None:
    module = open_checkpoint(QWEN2 / "checkpoint").build().module
    assert plan_spread(module, torch.float32, {0: 10**9, "cpu": 10**9}) is None
