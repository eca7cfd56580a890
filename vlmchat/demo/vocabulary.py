"""The tokenizer: a small byte-level BPE in the Qwen2 file layout, trained on the demo's own dialogues.

Byte-level, so that any text can be typed; Qwen2's split, so that every digit is a token of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from vlmchat.demo.dice import Dice
from vlmchat.demo.talk import sample_talk
from vlmchat.demo.world import sample_scene

SIZE: Final = 1280
"""Rows of the embedding: 256 bytes, about a thousand merges, and the control tokens at the end."""
CONTROL: Final = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>",
    "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip
"""Control tokens in the order of the InternVL2 repositories."""
SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer pattern."""
SYSTEM_MESSAGE: Final = "You are a tiny demonstration model."
DIALOGUES: Final = 24_000
"""Conversations the merges are learnt from."""
SEED: Final = 11


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, byte_level])


def _corpus() -> Iterator[str]:
    """Yield what is said, questions with their slips and answers, and the fixed words of the prompt."""
    for index in range(DIALOGUES):
        scene, second = sample_scene(SEED, index), sample_scene(SEED, index + 1)
        for turn in sample_talk(scene, second, Dice(SEED, index), lookups=0.5).turns:
            yield turn.question
            yield turn.answer
        yield f"system\n{SYSTEM_MESSAGE}"
        yield "user\n"
        yield "assistant\n"
        yield "Image-1: \nImage-2: "


def train_tokenizer(folder: Path) -> None:
    """Learn the merges and write the tokenizer files of a Qwen2-style checkpoint into ``folder``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=8,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    _write(folder, learnt["vocab"], [tuple(merge) for merge in learnt["merges"]])


def _write(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    added = {token: len(vocabulary) + place for place, token in enumerate(CONTROL)}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    special = {
        "additional_special_tokens": list(CONTROL[1:]),
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    config = special | {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(number): {"content": token} | flags for token, number in added.items()},
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 1024,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, content in (
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", special),
        ("added_tokens.json", added),
    ):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class Vocabulary:
    """The trained tokenizer, for encoding plain text and control tokens separately."""

    def __init__(self, folder: Path) -> None:
        merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self._tokenizer = Tokenizer(models.BPE(vocabulary, [(a, b) for a, b in map(str.split, merges)]))
        self._tokenizer.pre_tokenizer = _pre_tokenizer()
        self._tokenizer.decoder = decoders.ByteLevel()
        self.control: dict[str, int] = json.loads((folder / "added_tokens.json").read_text(encoding="utf-8"))

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text; control tokens typed in it stay text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_at(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of plain text, and the character of ``text`` at which each of them starts."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, [start for start, _ in encoding.offsets]

    def decode(self, ids: list[int]) -> str:
        """Return the text of plain ids."""
        text: str = self._tokenizer.decode(ids)
        return text
