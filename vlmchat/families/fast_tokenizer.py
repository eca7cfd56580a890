"""Byte-level tokenizers stored as ``tokenizer.json`` (the Llama-3 layout: InternVL2-76B, CogVLM2).

The file is read by the ``tokenizers`` library with special tokens switched off for plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import tokenizers

from vlmchat.errors import CheckpointError
from vlmchat.families.bytelevel import ByteLevelDecoder, bytes_of_token
from vlmchat.families.controls import ControlTable

_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What ``clean_up_tokenization_spaces`` replaces, in its order (Transformers' tokenizer base class)."""
_PREFIXES = {pattern[:length] for pattern, _ in _CLEANED for length in range(1, len(pattern))}
_UNFINISHED = re.compile("(?:" + "|".join(map(re.escape, sorted(_PREFIXES, key=len, reverse=True))) + r")\Z")


class CleaningDecoder:
    """Takes blanks in front of punctuation away, as these tokenizers' configs ask for, while streaming."""

    def __init__(self, inner: ByteLevelDecoder) -> None:
        self._inner = inner
        self._held = ""

    def push(self, token_id: int) -> str:
        """Return the text that became certain with ``token_id``; what may be half a pattern waits."""
        text = self._held + self._inner.push(token_id)
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        return cleaned(text[:cut])

    def finish(self) -> str:
        """Return what is left."""
        return cleaned(self._held + self._inner.finish())


def cleaned(text: str) -> str:
    """Return ``text`` without the blanks that ``clean_up_tokenization_spaces`` removes."""
    for pattern, replacement in _CLEANED:
        text = text.replace(pattern, replacement)
    return text


class FastTokenizer(ControlTable):
    """Plain text, control tokens by name, and decoding, from a ``tokenizer.json``."""

    def __init__(self, file: tokenizers.Tokenizer, cleans: bool) -> None:
        """Wrap a parsed file; ``cleans`` is ``clean_up_tokenization_spaces`` of tokenizer_config.json."""
        self._file = file
        self._file.encode_special_tokens = True
        self._cleans = cleans
        added = file.get_added_tokens_decoder()
        self._controls = {token.content: id_ for id_, token in added.items()}
        vocabulary: Mapping[str, int] = file.get_vocab(with_added_tokens=False)
        self._pieces = {id_: bytes_of_token(token) for token, id_ in vocabulary.items()}
        for id_, token in added.items():
            self._pieces[id_] = b"" if token.special else token.content.encode()
        # What the file's own post-processor puts in front: bos for Llama 3, nothing for others.
        self._opening: list[int] = file.encode("", add_special_tokens=True).ids

    @classmethod
    def from_folder(cls, folder: Path) -> FastTokenizer:
        """Read ``tokenizer.json`` and ``tokenizer_config.json``.

        Raises:
            CheckpointError: one of them is missing or is not what its name says.
        """
        try:
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            source = (folder / "tokenizer.json").read_text(encoding="utf-8")
            return cls(_parsed(source), bool(config.get("clean_up_tokenization_spaces")))
        except (OSError, ValueError, KeyError, AttributeError) as problem:
            raise CheckpointError(
                f"The tokenizer files of {folder.name} cannot be used: {problem}.",
                "It needs tokenizer.json and tokenizer_config.json as the hub has them.",
            ) from problem

    def begin_with(self, token_id: int) -> None:
        """Put control token ``token_id`` in front of prompts instead of what the file's post-processor says.

        Raises:
            CheckpointError: the checkpoint has no such control token.
        """
        self.name(token_id)
        self._opening = [token_id]

    def name(self, token_id: int) -> str:
        """Return the name of control token ``token_id``.

        Raises:
            CheckpointError: the checkpoint has no such control token.
        """
        for name, known in self._controls.items():
            if known == token_id:
                return name
        raise CheckpointError(
            f"The tokenizer of this checkpoint has no control token {token_id}, which its config.json names.",
            "Fetch its tokenizer files again.",
        )

    def begin(self, text: str, before: str = "") -> list[int]:
        """Return the ids at the front of a prompt: what the file's post-processor puts there, and ``text``."""
        return self._opening + self.encode(text)

    def encode(self, text: str, after: str = "") -> list[int]:
        """Return the ids of plain ``text``; what stands before it has no say."""
        ids: list[int] = self._file.encode(text, add_special_tokens=False).ids
        return ids

    def decoder(self) -> ByteLevelDecoder | CleaningDecoder:
        """Return a fresh decoder for one answer."""
        plain = ByteLevelDecoder(self._pieces)
        return CleaningDecoder(plain) if self._cleans else plain

    def token_bytes(self) -> Mapping[int, bytes]:
        """Return what each id adds to an answer before blanks are cleaned away; control tokens are left out."""
        return {id_: piece for id_, piece in self._pieces.items() if piece}


def _parsed(source: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(source)
    except Exception as problem:
        raise ValueError(str(problem)) from problem
