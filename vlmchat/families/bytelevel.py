"""Byte-level BPE from a checkpoint's ``vocab.json`` and ``merges.txt`` (the Qwen2 tokenizer files).

Built on the ``tokenizers`` library without its added-token machinery: plain text never turns into
a control token, and no tokenizer class named by the checkpoint is looked up or run.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from vlmchat.errors import CheckpointError
from vlmchat.families.controls import ControlTable

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 cuts text into words before BPE (the pattern of its tokenizer.json; one digit a word)."""


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """Invert the printable alphabet of byte-level BPE (GPT-2): 188 bytes stand for themselves."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    table.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return table


def bytes_of_token(token: str) -> bytes:
    """Return the bytes that a token, written in the printable alphabet, stands for."""
    table = _byte_of_character()
    return bytes(table[character] for character in token)


class ByteLevelDecoder:
    """Joins the bytes of tokens and lets whole characters go as soon as they are complete."""

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._pieces = pieces
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the characters completed by ``token_id``; control tokens and unknown ids say nothing."""
        return self._characters.decode(self._pieces.get(token_id, b""))

    def finish(self) -> str:
        """Return what is left: an incomplete character becomes U+FFFD."""
        return self._characters.decode(b"", final=True)


class ByteLevelTokenizer(ControlTable):
    """Encodes plain text, knows the control tokens by name, decodes byte by byte."""

    def __init__(self, vocabulary: Mapping[str, int], merges: list[tuple[str, str]], added: Mapping[int, Any]) -> None:
        """Build from parsed files.

        Args:
            vocabulary: token string (in the printable byte alphabet) -> id.
            merges: BPE merges, best first.
            added: ``added_tokens_decoder`` of tokenizer_config.json: id -> {"content", "special"}.
        """
        self._bpe = tokenizers.Tokenizer(models.BPE(vocab=dict(vocabulary), merges=merges))
        self._bpe.normalizer = normalizers.NFC()
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._pieces = {id_: bytes_of_token(token) for token, id_ in vocabulary.items()}
        for id_, token in added.items():
            self._pieces[id_] = b"" if token.get("special") else token["content"].encode()
        self._controls = {token["content"]: id_ for id_, token in added.items()}

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``.

        Raises:
            CheckpointError: one of them is missing or is not what its name says.
        """
        try:
            vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            merges = [_pair(line) for line in lines if line and not line.startswith("#version")]
            added = {int(id_): token for id_, token in config["added_tokens_decoder"].items()}
            return cls(vocabulary, merges, added)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise CheckpointError(
                f"The tokenizer files of {folder.name} cannot be used: {problem}.",
                "It needs vocab.json, merges.txt and tokenizer_config.json as the hub has them.",
            ) from problem

    def begin(self, text: str, before: str = "") -> list[int]:
        """Return the ids of ``text`` at the front of a prompt; Qwen2 puts no bos there."""
        return self.encode(text)

    def encode(self, text: str, after: str = "") -> list[int]:
        """Return the ids of ``text``, normalised to NFC as Qwen2 does; what stands before it has no say."""
        ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        return ids

    def decoder(self) -> ByteLevelDecoder:
        """Return a fresh decoder for one answer."""
        return ByteLevelDecoder(self._pieces)

    def token_bytes(self) -> Mapping[int, bytes]:
        """Return what each id adds to an answer; control tokens are left out."""
        return {id_: piece for id_, piece in self._pieces.items() if piece}


def _pair(line: str) -> tuple[str, str]:
    left, right = line.split(" ")
    return left, right
