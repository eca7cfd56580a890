"""Ovis2 over several places: the same numbers from CPU and disk, tied head included, blocks never cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.families.ovis2_cases import FOLDERS, TIED, UNTIED, case_of
from tests.families.test_ovis2 import TOLERANCE, embeddings_and_logits, off
from vlmchat.engine import loader
from vlmchat.engine.generate import Runner
from vlmchat.engine.spread import Spread, plan_spread
from vlmchat.families.registry import open_checkpoint
from vlmchat.options import LoadOptions


def alternating(module: nn.Module) -> Spread:
    """Put every second part of ``module`` on disk, blocks whole."""
    whole = (nn.Linear, nn.LayerNorm, nn.Embedding)
    parts: list[str] = []
    for name, part in module.named_modules():
        is_block = type(part).__name__ in {"Ovis2VisionEmbeddings", "Ovis2VisionEncoderLayer", "Qwen2DecoderLayer"}
        if not any(name.startswith(f"{other}.") for other in parts) and (is_block or isinstance(part, whole)):
            parts.append(name)
    places: dict[str, int | str] = {name: "disk" if number % 2 else "cpu" for number, name in enumerate(parts)}
    return Spread(places | {"model.language_model.norm": "cpu", "model.language_model.rotary_emb": "cpu"})


@pytest.mark.parametrize("folder", [TIED, UNTIED], ids=lambda folder: folder.name)
@pytest.mark.parametrize("embedding", ["cpu", "disk"])
def test_cpu_and_disk_give_the_same_numbers(folder: Path, embedding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = alternating(open_checkpoint(folder / "checkpoint").build().module)
    table = "model.visual_embeddings_table"
    spread = Spread({**spread.parts, "model.language_model.embed_tokens": embedding, table: "disk"})
    monkeypatch.setattr(loader, "_spread", lambda *_: spread)
    runner = Runner(loader.load_now(folder / "checkpoint", LoadOptions(dtype="float32")))
    assert runner.model.network.module.get_parameter(f"{table}.weight").is_meta
    case = case_of(folder, "two_images")
    assert off(embeddings_and_logits(runner, case)[1], case.tensor("logits")) < TOLERANCE
    *_, finished = runner.answer(case.request(), lambda: False)
    assert list(finished.token_ids) == case.about["greedy"]  # type: ignore[union-attr]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_block_with_a_residual_is_never_cut(folder: Path) -> None:
    module = open_checkpoint(folder / "checkpoint").build().module
    tensors = [*module.parameters(), *module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    for first in range(5, 95, 5):
        spread = plan_spread(module, torch.float32, {0: size * first // 100, 1: size, "cpu": size})
        assert spread is not None
        for name, block in module.named_modules():
            if type(block).__name__ in {"Ovis2VisionEmbeddings", "Ovis2VisionEncoderLayer", "Qwen2DecoderLayer"}:
                homes = {spread.device_of(f"{name}.{inner}") for inner, _ in block.named_parameters()}
                assert len(homes) == 1, name
