"""Folders the generic family does not take: not proven, spoilt, or asking for code of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.families.generic_cases import LLAVA_15, write
from tests.reference_cases import rewrite_weights
from vlmchat.conversation import user
from vlmchat.engine.api import Request
from vlmchat.engine.generate import Runner
from vlmchat.engine.loader import load_now
from vlmchat.engine.quantize import Int8Linear
from vlmchat.errors import CheckpointError
from vlmchat.media.image import read_picture
from vlmchat.options import LoadOptions


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generic") / "llava"
    write(LLAVA_15, folder)
    return folder


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    """A copy of the tiny LLaVA checkpoint, to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "copy"))


NORM = "language_model.model.norm.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop(NORM), r"lacks.*model\.language_model\.norm\.weight"),
        (lambda t: t.update({NORM + "s": t[NORM].clone()}), r"no place for.*norm\.weights"),
        (lambda t: t.update({"model." + NORM: t[NORM].clone()}), r"(more than once|no place for).*norm\.weight"),
        (lambda t: t.update({NORM: t[NORM][:-1]}), r"norm\.weight \[31\] instead of \[32\]"),
        (lambda t: t.update({NORM: t[NORM].int()}), r"norm\.weight is stored as int32"),
    ],
)
def test_one_wrong_tensor_is_named(copied: Path, change: Any, named: str) -> None:
    rewrite_weights(copied, change)
    with pytest.raises(CheckpointError, match=named):
        load_now(copied)


def test_tables_of_older_versions_are_left_out(copied: Path) -> None:
    rewrite_weights(
        copied,
        lambda t: t.update(
            {
                "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
                "vision_tower.vision_model.embeddings.position_ids": torch.arange(17)[None],
            }
        ),
    )
    assert load_now(copied).about.family == "generic"


CONFIGS: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"]},
        "MllamaForConditionalGeneration is",
    ),
    ({"model_type": "paligemma", "architectures": None}, "PaliGemmaForConditionalGeneration is native to Transformers"),
    (
        {"model_type": "own", "architectures": ["Own"], "auto_map": {"AutoModel": "modeling_own.Own"}},
        "Own runs only with Python code from its own repository, which is never executed here",
    ),
    ({"model_type": "own", "architectures": ["Own"]}, "Own, which this version cannot run"),
    ({"architectures": ["LlavaLlamaForCausalLM"]}, "LlavaLlamaForCausalLM is no architecture that Transformers runs"),
    ({"quantization_config": {"quant_method": "awq"}}, "is stored quantized"),
    ({"text_config": {"model_type": "mamba"}}, "has a mamba text model"),
    (
        {"text_config": {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}},
        "dynamic rotary",
    ),
    ({"text_config": 3}, "config.json"),
)


@pytest.mark.parametrize(("change", "said"), CONFIGS)
def test_what_is_not_proven_is_refused_in_a_sentence(copied: Path, change: dict[str, Any], said: str) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=said):
        load_now(copied)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("preprocessor_config.json", None, "The processor files of copy cannot be used"),
        ("preprocessor_config.json", "{", "preprocessor_config.json cannot be read"),
        ("tokenizer.json", "{", "The processor files of copy cannot be used"),
        ("chat_template.json", None, "has no chat template"),
        (
            "chat_template.json",
            json.dumps({"chat_template": "Nothing."}),
            "writes 0 pictures where the conversation has 1",
        ),
        (
            "processor_config.json",
            json.dumps({"patch_size": 8}),
            "announces 4 features of a picture, the model makes 16",
        ),
        ("processor_config.json", '{"processor_class": "PixtralProcessor"}', "copy asks for PixtralProcessor; its"),
        ("model.safetensors", None, "has no safetensors files"),
        ("model.safetensors", "short", "damaged"),
    ],
)
def test_spoilt_files_are_named(copied: Path, name: str, content: str | None, said: str) -> None:
    Image.effect_noise((50, 21), 90).convert("RGB").save(copied / "picture.png")
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_text(content)
    with pytest.raises(CheckpointError, match=said):
        list(
            Runner(load_now(copied)).answer(
                Request((user("What?", read_picture(copied / "picture.png")),)), lambda: False
            )
        )


def test_nothing_in_a_folder_is_executed_or_asked(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Remote code beside a native architecture, named in every file that can name it."""
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("asked on stdin"))
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Own: pass\n"
    for name in ("modeling_own.py", "configuration_own.py", "processing_own.py", "tokenization_own.py"):
        (copied / name).write_text(trap)
    own = {
        "AutoConfig": "configuration_own.Own",
        "AutoModelForImageTextToText": "modeling_own.Own",
        "AutoProcessor": "processing_own.Own",
        "AutoImageProcessor": "processing_own.Own",
        "AutoTokenizer": ["tokenization_own.Own", None],
    }
    files = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
    for name in files:
        (copied / name).write_text(json.dumps(json.loads((copied / name).read_text()) | {"auto_map": own}))
    assert load_now(copied).about.family == "generic"
    preprocessor = json.loads((copied / "preprocessor_config.json").read_text())
    (copied / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"image_processor_type": "Own"}))
    with contextlib.suppress(CheckpointError):
        load_now(copied)
    assert not (tmp_path / "sprung").exists()


def test_quantization_leaves_pictures_alone(copied: Path) -> None:
    """Quantization on the fly reaches decoder layers and head of this family as of every other, and only them."""
    model = load_now(copied, LoadOptions(dtype="float32", quantization="8-bit"))
    layers = [name for name, layer in model.network.module.named_modules() if isinstance(layer, Int8Linear)]
    # Six of seven in each: down_proj's 48 inputs are no multiple of the kernel's 32.
    assert len(layers) == 2 * 6 + 1
    assert all(name.startswith("model.language_model.layers.") or name == "lm_head" for name in layers)
