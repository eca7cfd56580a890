"""The Ovis2 fixtures as messages and tensors, and the family's real sizes as names and shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from tests.reference_cases import REFERENCE, Case
from vlmchat.catalog.index import catalog
from vlmchat.conversation import Message, Part, Picture, Text, Video, assistant, system
from vlmchat.engine.api import Request
from vlmchat.media.image import read_picture
from vlmchat.options import Sampling, VisionOptions

ROOT = REFERENCE / "ovis2"
TIED, UNTIED, INT4, INT8 = (ROOT / f"ovis2_{name}" for name in ("tied", "untied", "gptq_int4", "gptq_int8"))
FOLDERS = sorted(path.parent for path in ROOT.glob("*/cases.json"))
_LEADING = re.compile(r"(Image \d+: )?<image>\n")


@dataclass(frozen=True)
class Ovis2Case(Case):
    """One conversation of an Ovis2 fixture."""

    def tensor(self, what: str) -> Tensor:
        """Return ``expected.safetensors[name.what]``."""
        return _expected(self.folder)[f"{self.name}.{what}"]

    def has(self, what: str) -> bool:
        """Say whether the fixture holds this tensor for this case."""
        return f"{self.name}.{what}" in _expected(self.folder)

    def request(self) -> Request:
        """Return the case as vlmchat would be asked: pictures as parts, without written placeholders."""
        pictures = iter([read_picture(self.folder / "images" / name) for name in self.about["images"]])
        messages = tuple(_message(turn, pictures) for turn in self.about["conversations"])
        return Request(messages, Sampling(max_new_tokens=16), VisionOptions(max_tiles=self.about["max_partition"]))

    def penalised(self) -> tuple[Request, list[int]] | None:
        """Return the request with the case's repetition penalty and its greedy tokens, where it has one."""
        for key, tokens in self.about.items():
            if key.startswith("greedy_repetition_penalty_"):
                penalty = float(key.rpartition("_")[2])
                request = self.request()
                return replace(request, sampling=replace(request.sampling, repetition_penalty=penalty)), tokens
        return None


def _message(turn: dict[str, str], pictures: Iterator[Picture]) -> Message:
    """Undo what the formatter's caller wrote by hand: the family puts these marks there itself."""
    if turn["from"] == "system":
        return system(turn["value"])
    if turn["from"] == "gpt":
        return assistant(turn["value"])
    text, labels = turn["value"], []
    while found := _LEADING.match(text):
        labels.append(found[1])
        text = text[found.end() :]
    taken: list[Part] = [next(pictures) for _ in labels]
    if len(labels) > 1 and labels[0] is None:
        taken = [Video("video", "video", tuple(part for part in taken if isinstance(part, Picture)))]
    return Message("user", (*taken, Text(text)))


_loaded: dict[Path, dict[str, Tensor]] = {}


def _expected(folder: Path) -> dict[str, Tensor]:
    if folder not in _loaded:
        _loaded[folder] = load_file(folder / "expected.safetensors")
    return _loaded[folder]


def ovis2_cases(*folders: Path) -> list[Ovis2Case]:
    """Return all cases of the fixtures in ``folders``."""
    return [
        Ovis2Case(folder, about)
        for folder in folders
        for about in json.loads((folder / "cases.json").read_text(encoding="utf-8"))["cases"]
    ]


def case_of(folder: Path, name: str) -> Ovis2Case:
    """Return one case."""
    return next(case for case in ovis2_cases(folder) if case.name == name)


@dataclass(frozen=True)
class Size:
    """One size of the family, in the figures of its catalog row."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    tied: bool
    vit: int
    vit_inner: int
    vit_heads: int
    stored: int
    """Parameters in the files; a tied output head is stored as well."""

    def config(self) -> dict[str, Any]:
        """Return config.json with the real values (facts §3)."""
        llm = {
            "model_type": "qwen2", "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.inner, "tie_word_embeddings": self.tied, "hidden_act": "silu",
            "vocab_size": 151936, "rope_theta": 1e6, "rope_scaling": None, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768, "sliding_window": None, "use_sliding_window": False,
        }  # fmt: skip
        backbone = {
            "model_type": "aimv2", "hidden_size": self.vit, "intermediate_size": self.vit_inner,
            "num_attention_heads": self.vit_heads, "num_hidden_layers": 24, "qkv_bias": False, "use_bias": False,
            "rms_norm_eps": 1e-5, "image_size": 448, "patch_size": 14, "num_channels": 3,
        }  # fmt: skip
        visual = {
            "model_type": "aimv2_visual_tokenizer", "vocab_size": 65536, "hidden_stride": 2, "tau": 1.0,
            "tokenize_function": "softmax", "drop_cls_token": False, "depths": None, "use_indicators": False,
            "backbone_config": backbone,
        }  # fmt: skip
        return {
            "architectures": ["Ovis"], "model_type": "ovis", "hidden_size": self.hidden, "disable_tie_weight": False,
            "multimodal_max_length": 32768, "torch_dtype": "bfloat16", "llm_config": llm,
            "visual_tokenizer_config": visual,
        }  # fmt: skip

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the original files (facts §4)."""
        names: dict[str, tuple[int, ...]] = {
            "llm.model.embed_tokens.weight": (151936, self.hidden),
            "llm.model.norm.weight": (self.hidden,),
            "llm.lm_head.weight": (151936, self.hidden),
            "vte.weight": (65536, self.hidden),
            "visual_tokenizer.head.0.weight": (65531, 4 * self.vit),
            "visual_tokenizer.head.1.weight": (65531,),
            "visual_tokenizer.head.1.bias": (65531,),
        }
        backbone = "visual_tokenizer.backbone."
        names |= {backbone + name: shape for name, shape in self._backbone()}
        for layer in range(self.layers):
            names |= {f"llm.model.layers.{layer}.{name}": shape for name, shape in self._layer()}
        return names

    def linears(self) -> dict[str, tuple[int, int]]:
        """Return the seven linear layers of a language-model block: (outputs, inputs)."""
        width = self.hidden // self.heads
        return {
            "self_attn.q_proj": (self.heads * width, self.hidden),
            "self_attn.k_proj": (self.kv_heads * width, self.hidden),
            "self_attn.v_proj": (self.kv_heads * width, self.hidden),
            "self_attn.o_proj": (self.hidden, self.heads * width),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }

    def _layer(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, shape in self.linears().items():
            yield f"{name}.weight", shape
            if name[-6] in "qkv":
                yield f"{name}.bias", shape[:1]
        yield "input_layernorm.weight", (self.hidden,)
        yield "post_attention_layernorm.weight", (self.hidden,)

    def _backbone(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "preprocessor.patchifier.proj.weight", (self.vit, 3, 14, 14)
        yield "preprocessor.patchifier.proj.bias", (self.vit,)
        yield "preprocessor.patchifier.norm.weight", (self.vit,)
        yield "preprocessor.pos_embed", (1, 1024, self.vit)
        yield "trunk.post_trunk_norm.weight", (self.vit,)
        for block in range(24):
            yield f"trunk.blocks.{block}.attn.qkv.weight", (3 * self.vit, self.vit)
            yield f"trunk.blocks.{block}.attn.proj.weight", (self.vit, self.vit)
            yield f"trunk.blocks.{block}.mlp.fc1.weight", (self.vit_inner, self.vit)
            yield f"trunk.blocks.{block}.mlp.fc2.weight", (self.vit, self.vit_inner)
            yield f"trunk.blocks.{block}.mlp.fc3.weight", (self.vit_inner, self.vit)
            yield f"trunk.blocks.{block}.norm_1.weight", (self.vit,)
            yield f"trunk.blocks.{block}.norm_2.weight", (self.vit,)


def _size(name: str) -> Size:
    """Return the figures of a row of the catalog: the one place where they are written."""
    row = catalog().find(name)
    assert row is not None
    assert row.parameters is not None
    llm, vit = row.config["llm_config"], row.config["visual_tokenizer_config"]["backbone_config"]
    return Size(
        llm["hidden_size"],
        llm["num_hidden_layers"],
        llm["num_attention_heads"],
        llm["num_key_value_heads"],
        llm["intermediate_size"],
        llm["tie_word_embeddings"],
        vit["hidden_size"],
        vit["intermediate_size"],
        vit["num_attention_heads"],
        row.parameters,
    )


SIZES = {size: _size(f"ovis2:{size.lower()}") for size in ("1B", "2B", "4B", "8B", "16B", "34B")}
PREPROCESSOR = {
    "crop_size": {"height": 448, "width": 448}, "do_center_crop": False, "do_convert_rgb": True,
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_processor_type": "CLIPImageProcessor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 448},
}  # fmt: skip
"""The real preprocessor_config.json (facts §3)."""
