"""GPTQ layers: the formula, both zero conventions, shuffled groups, and the fixtures that notice a fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.families.ovis2_cases import INT4, INT8, case_of
from tests.families.test_ovis2 import TOLERANCE, embeddings_and_logits, off
from vlmchat.engine import loader
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import load_now
from vlmchat.errors import CheckpointError
from vlmchat.families.packed.gptq import GptqFormat, GptqLinear, read_format

Tensors = dict[str, Tensor]
INPUTS, OUTPUTS, GROUP = 96, 16, 32


def pack(fields: Tensor, bits: int) -> Tensor:
    """Write unsigned ``fields`` [n, columns] into words [n * bits / 32, columns], lowest bits first."""
    per_word = 32 // bits
    words = fields.long().view(-1, per_word, fields.shape[1])
    packed = sum(words[:, place] << (bits * place) for place in range(per_word))
    assert isinstance(packed, Tensor)
    return packed.to(torch.int64).where(packed < 2**31, packed - 2**32).to(torch.int32)


def layer_and_weight(packing: GptqFormat, bias: bool = True) -> tuple[GptqLinear, Tensor]:
    """Return a layer of random numbers with shuffled groups, and its weight by the formula, element by element."""
    random = torch.Generator().manual_seed(packing.bits)
    groups = INPUTS // (packing.group or INPUTS)
    values = torch.randint(2**packing.bits, (INPUTS, OUTPUTS), generator=random)
    zeros = torch.randint(2**packing.bits, (groups, OUTPUTS), generator=random)
    scales = torch.rand(groups, OUTPUTS, generator=random).half()
    g_idx = (torch.arange(INPUTS) % groups)[torch.randperm(INPUTS, generator=random)]
    layer = GptqLinear(INPUTS, OUTPUTS, bias, packing)
    layer.qweight, layer.qzeros = pack(values, packing.bits), pack(zeros.T, packing.bits).T.contiguous()
    layer.scales, layer.g_idx = scales, g_idx.int()
    if bias:
        layer.bias = nn.Parameter(torch.rand(OUTPUTS, generator=random))
    weight = torch.empty(OUTPUTS, INPUTS)
    for row in range(OUTPUTS):
        for column in range(INPUTS):
            group = int(g_idx[column])
            zero = int(zeros[group, row]) + packing.zero_offset
            weight[row, column] = scales[group, row].float() * (int(values[column, row]) - zero)
    return layer, weight


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [GROUP, None])
@pytest.mark.parametrize("zero_offset", [0, 1])
def test_unpacking_is_the_formula(bits: int, group: int | None, zero_offset: int) -> None:
    layer, weight = layer_and_weight(GptqFormat(bits, group, zero_offset))
    assert torch.equal(layer.unpack(torch.float32), weight)
    assert torch.equal(layer.unpack(torch.bfloat16), weight.bfloat16())
    assert layer.flaw() == ""


@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_computes_what_the_unpacked_one_does(bias: bool) -> None:
    layer, weight = layer_and_weight(GptqFormat(4, GROUP, 1), bias)
    inputs = torch.rand(2, 3, INPUTS)
    expected = nn.functional.linear(inputs, weight, layer.bias)
    assert torch.equal(layer(inputs), expected)
    assert torch.equal(layer.unpacked(torch.float32)(inputs), expected)


@pytest.mark.parametrize("stray", [-1, 3])
def test_a_group_that_does_not_exist_is_a_flaw(stray: int) -> None:
    layer, _ = layer_and_weight(GptqFormat(4, GROUP, 1))
    layer.g_idx[5] = stray
    assert "g_idx names groups" in layer.flaw()


def test_the_format_is_read_not_assumed() -> None:
    assert read_format({"bits": 8, "group_size": 32, "checkpoint_format": "gptq_v2"}) == GptqFormat(8, 32, 0)
    assert read_format({"bits": 4, "quant_method": "gptq", "group_size": -1}) == GptqFormat(4, None, 1)
    assert read_format({"bits": 4}) == GptqFormat(4, 128, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bits", 3),
        ("quant_method", "awq"),
        ("checkpoint_format", "marlin"),
        ("pack_dtype", "int16"),
        ("lm_head", True),
        ("dynamic", {"-:mlp": {}}),
    ],
)
def test_formats_without_code_here_are_refused(key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=key):
        read_format({"bits": 4, "quant_method": "gptq"} | {key: value})


@pytest.fixture(params=[INT4, INT8], ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one fixture, to be changed."""
    shutil.copytree(request.param, tmp_path / request.param.name, copy_function=shutil.copyfile)
    return tmp_path / str(request.param.name)


def change_tensors(folder: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    path = folder / "checkpoint" / "model.safetensors"
    save_file({name: change(name, tensor).clone().contiguous() for name, tensor in load_file(path).items()}, path)


def change_quantization(folder: Path, **changes: Any) -> None:
    path = folder / "checkpoint" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= changes
    path.write_text(json.dumps(config))


def logits_off(folder: Path) -> float:
    """Return how far the logits of a copy are from the original's."""
    case = case_of(folder, "one_image")
    return off(embeddings_and_logits(Runner(load_now(folder / "checkpoint")), case)[1], case.tensor("logits"))


def test_a_copy_agrees(folder: Path) -> None:
    assert logits_off(folder) < TOLERANCE


def test_a_layer_left_packed_agrees(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU nothing is unpacked after loading."""

    def nothing(*_: object) -> Iterator[None]:
        yield from ()

    monkeypatch.setattr(loader, "_unpack", nothing)
    runner = Runner(load_now(folder / "checkpoint"))
    layers = [module for module in runner.model.network.module.modules() if isinstance(module, GptqLinear)]
    assert len(layers) == 7 * runner.model.network.decoder_layers()
    case = case_of(folder, "wide_image")
    assert off(embeddings_and_logits(runner, case)[1], case.tensor("logits")) < TOLERANCE


def test_the_other_zero_convention_bites(folder: Path) -> None:
    change_quantization(folder, checkpoint_format="gptq_v2")
    assert logits_off(folder) > TOLERANCE


def test_zeros_of_the_other_convention_are_read_as_they_say(folder: Path) -> None:
    """A gptq_v2 file holds the zero itself; the same numbers in both forms are the same model."""
    change_quantization(folder, checkpoint_format="gptq_v2")
    ones = 0x11111111 if folder.name == INT4.name else 0x01010101
    change_tensors(folder, lambda name, tensor: tensor + ones if name.endswith("qzeros") else tensor)
    assert logits_off(folder) < TOLERANCE


def test_groups_in_file_order_bite(tmp_path: Path) -> None:
    """The int4 fixture was quantized in the order of activations, so its ``g_idx`` matters."""
    shutil.copytree(INT4, tmp_path / "copy", copy_function=shutil.copyfile)
    in_order = {64: torch.arange(64, dtype=torch.int32) // 32, 128: torch.arange(128, dtype=torch.int32) // 32}
    change_tensors(tmp_path / "copy", lambda name, tensor: in_order[len(tensor)] if name.endswith("g_idx") else tensor)
    assert logits_off(tmp_path / "copy") > TOLERANCE


def test_quantize_config_serves_where_config_has_none(folder: Path) -> None:
    path = folder / "checkpoint" / "config.json"
    config = json.loads(path.read_text())
    del config["quantization_config"]
    path.write_text(json.dumps(config))
    assert logits_off(folder) < TOLERANCE
    (folder / "checkpoint" / "quantize_config.json").unlink()
    with pytest.raises(CheckpointError, match="does not know"):
        load_now(folder / "checkpoint")


def test_wrong_bits_and_groups_are_refused_by_shape(folder: Path) -> None:
    change_quantization(folder, bits=12 - (4 if folder.name == INT4.name else 8))
    with pytest.raises(CheckpointError, match=r"qweight|qzeros"):
        load_now(folder / "checkpoint")


def test_packed_integers_of_another_kind_are_refused(folder: Path) -> None:
    change_tensors(folder, lambda name, tensor: tensor.long() if name.endswith("0.mlp.up_proj.qweight") else tensor)
    with pytest.raises(CheckpointError, match=r"up_proj\.qweight is stored as int64, not as int32"):
        load_now(folder / "checkpoint")


def test_a_group_out_of_range_is_refused_by_name(folder: Path) -> None:
    change_tensors(folder, lambda name, tensor: tensor + 1 if name.endswith("1.mlp.down_proj.g_idx") else tensor)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down_proj.*g_idx"):
        load_now(folder / "checkpoint")
