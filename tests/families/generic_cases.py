"""Tiny checkpoints of the generic family, with the names of tensors and the chat templates of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}PICTURE"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2-VL's and InternVL's form; what stands for a picture differs."""
SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == "
    "'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}"
    "{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{%- for message in messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}"
)


def byte_level(controls: tuple[str, ...]) -> Tokenizer:
    """Return a byte-level tokenizer of the GPT-2 kind."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("h", "e"), ("i", "n"), ("Ġ", "t"), ("Ġ", "a"), ("i", "s"), ("Ċ", "Ċ"), ("Ġt", "he")]
    vocabulary = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({token: id_ for id_, token in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in controls])
    return tokenizer


def sentencepiece(controls: tuple[str, ...], prefixed: bool) -> Tokenizer:
    """Return a tokenizer of the SentencePiece kind; it puts a blank in front of a text if ``prefixed``."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [chr(code) for code in range(33, 127)]
    merges = [("t", "h"), ("▁", "t"), ("i", "s"), ("▁", "a"), ("i", "n")]
    pieces += ["".join(pair) for pair in merges]
    model = models.BPE(
        {token: id_ for id_, token in enumerate(pieces)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    replaced = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replaced] if prefixed else [replaced])
    stripped = [decoders.Strip(" ", 1, 0)] if prefixed else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *stripped]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in ("<s>", "</s>")])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in controls])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@dataclass(frozen=True)
class Tiny:
    """How a tiny checkpoint of one architecture is made."""

    kind: str
    """``model_type``."""
    tokenizer: Callable[[], Tokenizer]
    template: str
    image_processor: str
    image_options: Mapping[str, Any]
    config: Callable[[Tokenizer], dict[str, Any]]
    named: Mapping[str, str] = field(default_factory=dict)
    """Tokens that its tokenizer knows by a role."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the processor."""
    end: str = "<|im_end|>"
    old_names: Callable[[str], str] = str
    """Names of tensors as the hub's repositories have them."""


TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 4,
    "image_size": 16,
}
PINPOINTS = [[16, 32], [32, 16], [32, 32]]
SMOL_CONTROLS = (
    *("<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
CHAT_CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GEMMA_CONTROLS = (
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)


def _text(kind: str, tokenizer: Tokenizer, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, "vocab_size": tokenizer.get_vocab_size() + 3, "eos_token_id": None, **TEXT, **more}


def _idefics3(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "text_config": _text("llama", tokenizer),
        "vision_config": {**VISION},
        "scale_factor": 2,
        "image_token_id": tokenizer.token_to_id("<image>"),
        "pad_token_id": 0,
    }


def _llava(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "text_config": _text("llama", tokenizer),
        "vision_config": {"model_type": "clip_vision_model", "projection_dim": 32, **VISION},
        "image_token_index": tokenizer.token_to_id("<image>"),
        "image_seq_length": 16,
    }


def _llava_next(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        **_llava(tokenizer),
        "text_config": _text("mistral", tokenizer, sliding_window=None),
        "image_grid_pinpoints": PINPOINTS,
    }


def _qwen2_vl(tokenizer: Tokenizer, kind: str) -> dict[str, Any]:
    vision: dict[str, Any] = {
        "depth": 2,
        "num_heads": 4,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    else:
        vision |= {
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": 32,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        }
    # The flat form of the hub's repositories: the text model's keys stand beside the vision config.
    flat = {key: value for key, value in _text(kind, tokenizer).items() if key not in ("model_type", "head_dim")}
    return {
        **flat,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "vision_config": vision,
        "tie_word_embeddings": kind == "qwen2_vl",
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
    }


def _gemma3(tokenizer: Tokenizer) -> dict[str, Any]:
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    text = _text("gemma3_text", tokenizer, sliding_window=24, layer_types=layers, query_pre_attn_scalar=8)
    return {
        "text_config": {**text, "num_hidden_layers": 3},
        "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        "mm_tokens_per_image": 4,
        "boi_token_index": tokenizer.token_to_id("<start_of_image>"),
        "eoi_token_index": tokenizer.token_to_id("<end_of_image>"),
        "image_token_index": tokenizer.token_to_id("<image_soft_token>"),
    }


def _internvl(tokenizer: Tokenizer) -> dict[str, Any]:
    vision = {**VISION, "image_size": [16, 16], "patch_size": [4, 4]}
    return {
        "text_config": _text("qwen3", tokenizer),
        "vision_config": {"model_type": "internvl_vision", **vision},
        "image_token_id": tokenizer.token_to_id("<IMG_CONTEXT>"),
        "image_seq_length": 4,
        "tie_word_embeddings": False,
    }


def _older(name: str) -> str:
    """Return the names of LLaVA's and Gemma 3's repositories."""
    name = name.removeprefix("model.")
    name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return (
        f"language_model.{name}"
        if name.startswith("lm_head")
        else name.replace("language_model.", "language_model.model.", 1)
    )


def _older_internvl(name: str) -> str:
    """Return the names of InternVL's ``-hf`` repositories."""
    return _older(name).replace("vision_tower.vision_model.", "vision_tower.")


def _older_qwen(name: str) -> str:
    """Return the names of Qwen2-VL's repositories."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


SQUARE = {"height": 16, "width": 16}
SMOL = Tiny(
    kind="smolvlm",
    tokenizer=lambda: byte_level(SMOL_CONTROLS),
    template=SMOLVLM,
    image_processor="SmolVLMImageProcessor",
    image_options={"size": {"longest_edge": 48}, "max_image_size": {"longest_edge": 16}},
    config=_idefics3,
    options={"image_seq_len": 4, "processor_class": "SmolVLMProcessor"},
    end="<end_of_utterance>",
)
QWEN = Tiny(
    kind="qwen2_5_vl",
    tokenizer=lambda: byte_level(
        (*CHAT_CONTROLS, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    ),
    template=CHATML.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    image_processor="Qwen2VLImageProcessor",
    image_options={"min_pixels": 64, "max_pixels": 1024, "patch_size": 4, "merge_size": 2},
    config=lambda tokenizer: _qwen2_vl(tokenizer, "qwen2_5_vl"),
    old_names=_older_qwen,
)
LLAVA_15 = Tiny(
    kind="llava",
    tokenizer=lambda: sentencepiece(("<image>",), prefixed=True),
    template=LLAVA,
    image_processor="CLIPImageProcessor",
    image_options={"size": {"shortest_edge": 16}, "crop_size": SQUARE},
    config=_llava,
    options={"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    end="</s>",
    old_names=_older,
)
"""Every architecture of ``SUPPORTED``."""
TINY: tuple[Tiny, ...] = (
    SMOL,
    replace(SMOL, kind="idefics3", image_processor="Idefics3ImageProcessor", options={"image_seq_len": 4}),
    LLAVA_15,
    replace(
        LLAVA_15,
        kind="llava_next",
        image_processor="LlavaNextImageProcessor",
        image_options={**LLAVA_15.image_options, "image_grid_pinpoints": PINPOINTS},
        config=_llava_next,
    ),
    QWEN,
    replace(QWEN, kind="qwen2_vl", config=lambda tokenizer: _qwen2_vl(tokenizer, "qwen2_vl")),
    Tiny(
        kind="gemma3",
        tokenizer=lambda: sentencepiece(GEMMA_CONTROLS, prefixed=False),
        template=GEMMA,
        image_processor="Gemma3ImageProcessor",
        image_options={"size": SQUARE},
        config=_gemma3,
        named={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        options={"image_seq_length": 4},
        end="<end_of_turn>",
        old_names=_older,
    ),
    Tiny(
        kind="internvl",
        tokenizer=lambda: byte_level((*CHAT_CONTROLS, "<img>", "</img>", "<IMG_CONTEXT>", "<video>")),
        template=CHATML.replace("PICTURE", "<IMG_CONTEXT>\n"),
        image_processor="GotOcr2ImageProcessor",
        image_options={"size": SQUARE, "min_patches": 1, "max_patches": 6, "crop_to_patches": True},
        config=_internvl,
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        options={"image_seq_length": 4},
        old_names=_older_internvl,
    ),
)


def write(tiny: Tiny, folder: Path) -> None:
    """Write a checkpoint of ``tiny`` with random weights to ``folder``."""
    folder.mkdir()
    tokenizer = tiny.tokenizer()
    _write_tokenizer(tiny, tokenizer, folder)
    preprocessor = {"image_processor_type": tiny.image_processor, **tiny.image_options}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "processor_config.json").write_text(json.dumps(dict(tiny.options)))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": tiny.template}))
    raw = {"model_type": tiny.kind, "torch_dtype": "float32", **tiny.config(tokenizer)}
    config = CONFIG_MAPPING[tiny.kind].from_dict(raw)
    architecture = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    torch.manual_seed(7)
    model = architecture._from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            # Large enough that every part of the model moves the logits.
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1))
    tied = model.all_tied_weights_keys
    _save({tiny.old_names(name): tensor for name, tensor in model.state_dict().items() if name not in tied}, folder)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture.__name__], **raw}))
    ends = {"eos_token_id": tokenizer.token_to_id(tiny.end)}
    (folder / "generation_config.json").write_text(json.dumps(ends))


def _write_tokenizer(tiny: Tiny, tokenizer: Tokenizer, folder: Path) -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"} if tiny.end == "</s>" else {"eos_token": tiny.end}
    if tiny.kind == "gemma3":
        special = {"bos_token": "<bos>", "eos_token": "<eos>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=dict(tiny.named), **special)
    fast.save_pretrained(folder)


def _save(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
