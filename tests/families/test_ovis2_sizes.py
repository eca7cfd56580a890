"""All released sizes of Ovis2 on the meta device: real config values, original names and shapes, none left over."""

from __future__ import annotations

import math

import pytest
import torch

from tests.families.ovis2_cases import PREPROCESSOR, SIZES, Size
from vlmchat.families.mapping import Placement, plan
from vlmchat.families.native import TiedHead
from vlmchat.families.ovis2 import weights
from vlmchat.families.ovis2.config import Ovis2Config, translate
from vlmchat.families.ovis2.modeling import Ovis2Network

GPTQ = {"quant_method": "gptq", "group_size": 128, "desc_act": True, "sym": True, "checkpoint_format": "gptq"}


def planned(config: Ovis2Config, tensors: dict[str, tuple[int, ...]]) -> tuple[list[Placement], Ovis2Network]:
    """Match ``tensors`` with the empty network of ``config``; anything left over on either side raises."""
    network = Ovis2Network(config)
    assert all(parameter.is_meta for parameter in network.module.parameters())
    wanted = {name: tensor.shape for name, tensor in network.module.state_dict(keep_vars=True).items()}
    stored = {name: torch.Size(shape) for name, shape in tensors.items()}
    return plan(stored, tuple(weights.rules(config)), wanted), network


@pytest.mark.parametrize("name", SIZES)
def test_every_tensor_of_every_size_has_its_place(name: str) -> None:
    size = SIZES[name]
    tensors = size.tensors()
    assert sum(math.prod(shape) for shape in tensors.values()) == size.stored
    config = translate(size.config(), PREPROCESSOR, None)
    placements, network = planned(config, tensors)
    unused = [placement.source for placement in placements if not placement.targets]
    norm = "visual_tokenizer.backbone.trunk.post_trunk_norm.weight"
    assert sorted(unused) == sorted([norm, "llm.lm_head.weight"] if size.tied else [norm])
    held = sum(parameter.numel() for parameter in network.module.parameters())
    assert held + sum(math.prod(tensors[source]) for source in unused) == size.stored
    assert isinstance(network.module.get_submodule("lm_head"), TiedHead) is size.tied
    assert config.tokens_per_tile == 256
    assert (config.context_tokens, config.dtype) == (32768, torch.bfloat16)


def test_the_4b_has_as_many_tensors_as_its_own_index_names() -> None:
    names = SIZES["4B"].tensors()
    assert len(names) == 612
    assert sum(name.startswith("llm.") for name in names) == 435
    assert sum(name.startswith("visual_tokenizer.backbone.") for name in names) == 173


def packed(size: Size, bits: int, group: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a GPTQ repository (facts §11)."""
    tensors = size.tensors()
    for layer in range(size.layers):
        for name, (outputs, inputs) in size.linears().items():
            stem = f"llm.model.layers.{layer}.{name}."
            del tensors[stem + "weight"]
            tensors[stem + "qweight"] = (inputs * bits // 32, outputs)
            tensors[stem + "qzeros"] = (inputs // group, outputs * bits // 32)
            tensors[stem + "scales"] = (inputs // group, outputs)
            tensors[stem + "g_idx"] = (inputs,)
    return tensors


@pytest.mark.parametrize(("name", "bits"), [*((name, 4) for name in list(SIZES)[1:]), ("34B", 8)])
def test_every_tensor_of_the_gptq_repositories_has_its_place(name: str, bits: int) -> None:
    size = SIZES[name]
    config = translate(size.config(), PREPROCESSOR, GPTQ | {"bits": bits})
    placements, network = planned(config, packed(size, bits, 128))
    kept = [placement for placement in placements if placement.as_stored]
    assert len(kept) == 4 * 7 * size.layers
    buffers = dict(network.module.named_buffers())
    assert all(placement.targets[0] in buffers for placement in kept)
