"""CogVLM2 folders: which ones are taken, the load audit, the real geometry, and fp4 as bitsandbytes stores it."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.families.cogvlm2_cases import (
    IMAGE,
    INT4,
    ROOT,
    VIDEO,
    cogvlm2_cases,
    computed,
    difference,
    packed,
    real_tensors,
    runner_of,
)
from tests.reference_cases import Tensors, rewrite_weights
from vlmchat.engine import loader
from vlmchat.engine.kv import RowCache
from vlmchat.engine.loader import load_now
from vlmchat.engine.spread import Spread, plan_spread
from vlmchat.errors import CheckpointError
from vlmchat.families.cogvlm2 import weights
from vlmchat.families.cogvlm2.config import CogVLM2Config, translate
from vlmchat.families.cogvlm2.modeling import CogVLM2Network
from vlmchat.families.family import Span
from vlmchat.families.mapping import plan
from vlmchat.families.packed.bnb4 import Bnb4Linear
from vlmchat.families.registry import can_run, open_checkpoint
from vlmchat.options import LoadOptions

HUB = sorted((ROOT / "hub_configs").glob("*/config.json"))
GATE = "model.layers.1.mlp.vision_mlp.gate_proj.weight"
TOWER = "model.vision.transformer.layers.0.mlp.fc1.weight"
STATE = ".quant_state.bitsandbytes__fp4"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return Path(shutil.copytree(IMAGE / "checkpoint", tmp_path / "image", copy_function=shutil.copyfile))


@pytest.fixture
def int4(tmp_path: Path) -> Path:
    return Path(shutil.copytree(INT4 / "checkpoint", tmp_path / "int4", copy_function=shutil.copyfile))


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


@pytest.mark.parametrize("path", HUB, ids=lambda path: path.parent.name)
def test_every_tensor_of_the_real_checkpoints_has_its_place(path: Path) -> None:
    """Real configs on the meta device: each original name has a place, each parameter a tensor, each shape agrees."""
    config = translate(json.loads(path.read_text()))
    plain = real_tensors(config.video)
    assert len(plain) == (1029 if config.video else 1221)
    assert sum(map(math.prod, plain.values())) == (12_507_532_544 if config.video else 19_503_107_328)
    stored = packed(plain) if config.quantized else plain
    network = CogVLM2Network(config)
    wanted = {name: tensor.shape for name, tensor in network.module.state_dict(keep_vars=True).items()}
    assert all(tensor.is_meta for tensor in network.module.state_dict().values())
    placements = plan({n: torch.Size(s) for n, s in stored.items()}, weights.rules(config.quantized), wanted)
    assert len({target for placement in placements for target in placement.targets}) == len(wanted) == len(stored)
    layers = [part for part in network.module.modules() if isinstance(part, Bnb4Linear)]
    assert len(layers) == (576 if config.quantized else 0)
    check_constants(config)


@pytest.mark.parametrize("path", HUB, ids=lambda path: path.parent.name)
def test_shapes_flow_through_the_real_geometry(path: Path) -> None:
    """A picture or frame, a prompt and a step behind it, computed without numbers."""
    config = translate(json.loads(path.read_text()))
    network = CogVLM2Network(config)
    length, side = config.vision.features + 9, config.vision.side
    cache = RowCache(network.decoder_layers())
    with torch.inference_mode(), torch.device("meta"):
        features = network.encode(torch.empty(1, 3, side, side))
        assert features.shape == (1, config.vision.features, 4096)
        embeddings = network.embed(torch.empty(1, length, dtype=torch.int64))
        for size in (length, 7, 1):
            span = Span(embeddings[:, :size], torch.empty(1, size, dtype=torch.int64), (length + 8,))
            hidden = network.hidden_states(span, cache.native)
            cache.note([range(size)])
            assert network.logits(hidden[:, -1]).shape == (1, 128256)
    assert cache.native.get_seq_length() == length + 8


def check_constants(config: CogVLM2Config) -> None:
    assert config.vision.features == (66 if config.video else 2306)
    assert (config.bos_id, config.placeholder_id) == (128000, 128002)
    assert config.stop_ids == ({128001} if config.video else {128001, 128009})
    assert config.context_tokens == (2048 if config.video else 8192)
    assert config.layers * 2 * config.kv_heads * config.head_size * 2 == 131_072  # bytes a token in bf16, facts §4
    assert config.template == ("base" if config.video else "chat")
    assert config.dtype == (torch.bfloat16 if config.video else torch.float16 if config.quantized else None)


def test_int4_bytes_are_those_of_the_catalog() -> None:
    """12.53 GB: a byte for two weights, four for the scale of 64, float16 for the rest (facts §1)."""
    sizes = {".absmax": 4, ".quant_map": 4, STATE: 1}
    total = 0
    plain = real_tensors(video=False)
    for name, shape in packed(plain).items():
        width = next((size for end, size in sizes.items() if name.endswith(end)), 1 if shape != plain.get(name) else 2)
        total += math.prod(shape) * width
    assert total == pytest.approx(12.53e9, rel=1e-3)


@pytest.mark.parametrize("name", ["pytorch", "bnb"])
def test_the_catalog_may_offer_them(name: str) -> None:
    assert can_run("cogvlm2", name)


@pytest.mark.parametrize("folder", [IMAGE, INT4, VIDEO], ids=lambda folder: folder.name)
def test_folders_without_a_model_type_are_recognised(folder: Path) -> None:
    assert "model_type" not in config_of(folder / "checkpoint")
    assert open_checkpoint(folder / "checkpoint").family == "cogvlm2"


@pytest.mark.parametrize("sign", [{"vocab_size": 32000}, {"image_size": 490, "num_positions": 1226}])
def test_the_first_cogvlm_is_refused_by_name(image: Path, sign: dict[str, int]) -> None:
    config = config_of(image)
    config |= {key: value for key, value in sign.items() if key in config}
    config["vision_config"] |= {key: value for key, value in sign.items() if key not in config}
    (image / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="CogVLM, the first version"):
        open_checkpoint(image)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("hidden_size", None, "wrong kind"),
        ("num_multi_query_heads", 3, "num_multi_query_heads 3"),
        ("template_version", "vicuna", "vicuna"),
        ("tie_word_embeddings", True, "tie_word_embeddings"),
        ("bos_token_id", 5, "control token 5"),
        ("pad_token_id", 5, "control token 5"),
        ("hidden_act", "swoosh", "swoosh"),
        ("quantization_config", {"quant_method": "awq"}, "awq"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": False}, "load_in_4bit"),
    ],
)
def test_a_config_without_native_code_is_refused_by_name(image: Path, key: str, value: object, named: str) -> None:
    (image / "config.json").write_text(json.dumps(config_of(image) | {key: value}))
    with pytest.raises(CheckpointError, match=named):
        open_checkpoint(image)


@pytest.mark.parametrize("key", ["vocab_size", "vision_config", "eos_token_id", "template_version"])
def test_a_missing_key_is_named(image: Path, key: str) -> None:
    config = config_of(image)
    del config[key]
    (image / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=key):
        open_checkpoint(image)


def test_a_grid_that_does_not_fit_the_position_table_is_refused(image: Path) -> None:
    config = config_of(image)
    config["vision_config"]["image_size"] *= 2
    (image / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="num_positions"):
        open_checkpoint(image)


@pytest.mark.parametrize(
    ("scheme", "named"),
    [
        ({"bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"bnb_4bit_use_double_quant": True}, "double_quant"),
        ({"bnb_4bit_quant_storage": "bfloat16"}, "quant_storage"),
        ({"llm_int8_skip_modules": ["vision"]}, "skip_modules"),
    ],
)
def test_other_ways_to_quantize_are_refused_by_name(int4: Path, scheme: dict[str, object], named: str) -> None:
    config = config_of(int4)
    config["quantization_config"] |= scheme
    (int4 / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=named):
        open_checkpoint(int4)


CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "dropped": (lambda t: t.pop(GATE), r"lacks.*layers\.1\.mlp\.vision\.gate"),
    "renamed": (lambda t: t.update({GATE + "s": t.pop(GATE)}), r"does not know.*gate_proj\.weights"),
    "transposed": (lambda t: t.update({GATE: t[GATE].T}), r"gate_proj\.weight \[64, 128\] instead of \[128, 64\]"),
    "truncated": (lambda t: t.update({GATE: t[GATE][:-3]}), r"gate_proj\.weight \[125, 64\]"),
    "as integers": (lambda t: t.update({GATE: t[GATE].int()}), r"gate_proj\.weight is stored as int32"),
    "no frequencies": (
        lambda t: t.pop("model.layers.2.self_attn.rotary_emb.inv_freq"),
        r"layers\.2\.attention\.inv_freq",
    ),
    "another layer": (
        lambda t: t.update({GATE.replace("layers.1", "layers.3"): t[GATE].clone()}),
        r"no place for.*layers\.3",
    ),
    "bias of the language branch": (
        lambda t: t.update({"model.layers.0.self_attn.language_expert_query_key_value.bias": torch.zeros(128)}),
        r"does not know.*language_expert_query_key_value\.bias",
    ),
    "first version's tower": (lambda t: (t.pop("model.vision.conv.weight"), t.pop("model.vision.conv.bias")), "shrink"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_wrong_tensor_is_named(image: Path, name: str) -> None:
    change, named = CHANGES[name]
    rewrite_weights(image, change)
    with pytest.raises(CheckpointError, match=named):
        load_now(image)


def test_vision_experts_in_a_video_checkpoint_are_refused(image: Path) -> None:
    config = config_of(image) | {"architectures": ["CogVLMVideoForCausalLM"]}
    (image / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"no place for.*vision"):
        load_now(image)


def state_of(tensors: Tensors, name: str, **changes: object) -> None:
    stated = json.loads(bytes(tensors[name + STATE].tolist()))
    text = json.dumps(stated | changes).encode()
    tensors[name + STATE] = torch.tensor(list(text), dtype=torch.uint8)


INT4_CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "scales dropped": (lambda t: t.pop(GATE + ".absmax"), r"lacks.*vision\.gate\.absmax"),
    "half the scales": (
        lambda t: t.update({GATE + ".absmax": t[GATE + ".absmax"][::2]}),
        r"absmax \[64\] instead of \[128\]",
    ),
    "unpacked": (
        lambda t: t.update({GATE: torch.zeros(128, 64)}),
        r"gate_proj\.weight \[128, 64\] instead of \[4096, 1\]",
    ),
    "another codebook": (lambda t: t.update({GATE + STATE.replace("fp4", "nf4"): t.pop(GATE + STATE)}), "nf4"),
    "nested scales": (lambda t: t.update({GATE + ".nested_absmax": torch.ones(1)}), r"does not know.*nested_absmax"),
    "another block size": (lambda t: state_of(t, GATE, blocksize=128), r"layers\.1\.mlp\.vision\.gate.*quant_state"),
    "another shape": (lambda t: state_of(t, TOWER, shape=[32, 48]), r"vision\.blocks\.0\.fc1.*quant_state"),
    "nested by its state": (lambda t: state_of(t, GATE, nested_offset=0.5), r"vision\.gate.*quant_state"),
    "no description": (lambda t: t[GATE + STATE].fill_(65), r"vision\.gate.*quant_state"),
    "floats for bytes": (lambda t: t.update({GATE: t[GATE].float()}), r"gate_proj\.weight is stored as float32"),
}


@pytest.mark.parametrize("name", INT4_CHANGES)
def test_one_wrong_packed_tensor_is_named(int4: Path, name: str) -> None:
    change, named = INT4_CHANGES[name]
    rewrite_weights(int4, change)
    with pytest.raises(CheckpointError, match=named):
        load_now(int4)


def packed_layers() -> dict[str, Bnb4Linear]:
    """Load the language MLPs of the int4 fixture as packed layers, by original name."""
    tensors = load_file(INT4 / "checkpoint" / "model.safetensors")
    layers: dict[str, Bnb4Linear] = {}
    for name in json.loads((INT4 / "dequant_check.json").read_text()):
        rows, columns = json.loads(bytes(tensors[name + STATE].tolist()))["shape"]
        layer = Bnb4Linear(columns, rows, bias=False)
        layer.weight, layer.absmax = tensors[name], tensors[name + ".absmax"]
        layer.quant_map = tensors[name + ".quant_map"]
        layers[name] = layer
    return layers


def test_unpacking_is_exact() -> None:
    for name, layer in packed_layers().items():
        found = hashlib.sha256(layer.unpack(torch.float32).numpy().tobytes()).hexdigest()
        assert found == json.loads((INT4 / "dequant_check.json").read_text())[name]


def test_a_packed_layer_computes_like_an_unpacked_one() -> None:
    for layer in packed_layers().values():
        inputs = torch.randn(3, layer.in_features)
        assert torch.equal(layer(inputs), layer.unpacked(torch.float32)(inputs))


@pytest.mark.parametrize(("rows", "columns"), [(8, 128), (4, 96), (3, 40), (3, 33)])
def test_blocks_of_narrow_rows(rows: int, columns: int) -> None:
    """Rows of whole blocks and rows of any width count 64 weights a scale, rows of vectors begin anew."""
    layer = Bnb4Linear(columns, rows, bias=False)
    count = rows * columns
    layer.weight = torch.full((-(-count // 2), 1), 0x33, dtype=torch.uint8)
    layer.absmax = torch.arange(-(-count // 64), dtype=torch.float32)
    layer.quant_map = torch.zeros(16)
    layer.quant_map[3] = 1.0
    places = torch.arange(count)
    expected = places // 64 if columns != 96 else places // 96 + places % 96 // 64
    assert torch.equal(layer.unpack(torch.float32).flatten(), expected.float())


@pytest.mark.parametrize(("folder", "dtype"), [(IMAGE, "float32"), (VIDEO, "bfloat16")], ids=["files", "config"])
def test_the_files_decide_the_dtype_where_the_config_does_not(folder: Path, dtype: str) -> None:
    """The picture repositories have no torch_dtype; this fixture's files hold float32."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU computes bfloat16 checkpoints in float32")
    assert load_now(folder / "checkpoint", LoadOptions(device="cpu")).about.dtype == dtype


def test_nothing_in_a_folder_is_executed(image: Path, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass CogVLMConfig: pass\nclass CogVLMForCausalLM: pass\n"
    for name in ("modeling_cogvlm.py", "configuration_cogvlm.py", "visual.py", "util.py", "__init__.py"):
        (image / name).write_text(trap)
    assert load_now(image).about.family == "cogvlm2"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("places", [("cpu", "disk"), ("disk", "cpu")], ids="-".join)
@pytest.mark.parametrize(
    ("folder", "name"), [(IMAGE, "image_history2"), (VIDEO, "video_chat")], ids=lambda value: getattr(value, "name", "")
)
def test_cpu_and_disk_give_the_same_numbers(
    folder: Path, name: str, places: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = open_checkpoint(folder / "checkpoint").build().module
    layers = [f"layers.{number}" for number in range(len(module.layers))]  # type: ignore[arg-type]
    parts = ["vision", "embed_tokens", *layers, "norm", "lm_head"]
    spread = Spread({part: places[number % 2] for number, part in enumerate(parts)})
    monkeypatch.setattr(loader, "_spread", lambda *_: spread)
    case = next(case for case in cogvlm2_cases(folder) if case.name == name)
    runner = runner_of(folder)
    assert difference(computed(runner, case).logits, case.tensor("logits_tail")) < 5e-4
    *_, finished = runner.answer(case.request(), lambda: False)
    assert list(finished.token_ids) == case.about["generated_ids"]  # type: ignore[union-attr]


def test_no_block_with_a_residual_is_cut() -> None:
    module = open_checkpoint(IMAGE / "checkpoint").build().module
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    for first in range(5, 95, 5):
        spread = plan_spread(module, torch.float32, {0: size * first // 100, 1: size, "cpu": size})
        assert spread is not None
        for name, block in module.named_modules():
            if type(block).__name__ in {"DecoderLayer", "VisionTower"}:
                assert len({spread.device_of(f"{name}.{inner}") for inner, _ in block.named_parameters()}) == 1, name
