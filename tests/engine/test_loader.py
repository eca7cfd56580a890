"""The load audit: a checkpoint that is not exactly what its config says is refused, by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.reference_cases import QWEN2, Tensors, rewrite_weights
from vlmchat.engine.loader import load_now
from vlmchat.errors import CheckpointError

INTERNVL2_FOLDER = QWEN2.parent
QKV = "vision_model.encoder.layers.0.attn.qkv.weight"
HEAD = "language_model.lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(QWEN2 / "checkpoint", tmp_path / "copy", copy_function=shutil.copyfile))


CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "dropped": (lambda t: t.pop(HEAD), r"lacks.*lm_head\.weight"),
    "renamed": (lambda t: t.update({HEAD + "s": t.pop(HEAD)}), r"does not know.*lm_head\.weights"),
    "transposed": (lambda t: t.update({QKV: t[QKV].T}), r"qkv\.weight \[64, 192\] instead of \[64, 64\] \+"),
    "truncated": (lambda t: t.update({QKV: t[QKV][:-3]}), r"qkv\.weight \[189, 64\]"),
    "one too many": (
        lambda t: t.update({"vision_model.encoder.layers.9.ls1": t["vision_model.encoder.layers.0.ls1"].clone()}),
        r"no place for.*layers\.9\.ls1",
    ),
    "as integers": (lambda t: t.update({HEAD: t[HEAD].int()}), r"lm_head\.weight is stored as int32"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_wrong_tensor_is_named(folder: Path, name: str) -> None:
    change, named = CHANGES[name]
    rewrite_weights(folder, change)
    with pytest.raises(CheckpointError, match=named):
        load_now(folder)


def test_the_same_parameter_twice_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({HEAD: tensors[HEAD]}, folder / "second.safetensors")
    index = {"weight_map": {"a": "model.safetensors", "b": "second.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is in model\.safetensors and in second\.safetensors"):
        load_now(folder)


def test_shards_load_like_one_file(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    whole = load_now(folder).network.module.state_dict()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    (folder / "model.safetensors").unlink()
    weight_map = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sharded = load_now(folder).network.module.state_dict()
    assert whole.keys() == sharded.keys()
    assert all(torch.equal(whole[name], sharded[name]) for name in whole)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-2\.safetensors"):
        load_now(folder)


@pytest.mark.parametrize("kept", [0, 7, 5000, -1])
def test_a_file_cut_short_is_refused(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_now(folder)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json", "config.json"])
def test_missing_or_broken_small_files_are_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer|config"):
        load_now(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_now(folder)


def test_nothing_in_a_folder_is_executed(folder: Path, tmp_path: Path) -> None:
    """A booby-trapped folder: remote code beside the weights, a pickle, an index that points elsewhere."""
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass InternVLChatModel: pass\nclass InternVLChatConfig: pass\n"
    for name in ("modeling_internvl_chat.py", "configuration_internvl_chat.py", "__init__.py", "conversation.py"):
        (folder / name).write_text(trap)
    (folder / "pytorch_model.bin").write_bytes(
        b"cos\nsystem\n(S'touch " + str(tmp_path / "sprung").encode() + b"'\ntR."
    )
    assert load_now(folder).about.family == "internvl2"
    assert not (tmp_path / "sprung").exists()


def test_an_index_cannot_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "model.safetensors", tmp_path / "outside.safetensors")
    index = {"weight_map": {"x": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks outside\.safetensors"):
        load_now(folder)


def test_the_fingerprint_tells_checkpoints_apart(folder: Path) -> None:
    first = load_now(folder).about.fingerprint
    assert load_now(folder).about.fingerprint == first
    config = json.loads((folder / "config.json").read_text())
    config["system_message"] = "Be brief."
    (folder / "config.json").write_text(json.dumps(config))
    assert load_now(folder).about.fingerprint != first


def test_weights_that_need_no_change_stay_mapped(folder: Path) -> None:
    """fp32 to fp32 on the CPU: parameters of one stored tensor share its storage, q/k/v as views."""
    module = load_now(folder).network.module
    attention = module.get_submodule("model.vision_tower.encoder.layer.0.attention")
    storages = {
        attention.get_submodule(f"{which}_proj").weight.untyped_storage().data_ptr()  # type: ignore[operator]
        for which in "qkv"
    }
    assert len(storages) == 1


@pytest.mark.parametrize(("name", "held"), [("internlm2-vit300m-awq", "unpacked"), ("qwen2-vit300m", "none")])
def test_what_is_told_about_quantization_is_what_is_held(name: str, held: str) -> None:
    assert load_now(INTERNVL2_FOLDER / name / "checkpoint").about.quantization == held
