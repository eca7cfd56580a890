"""A tokenizer as Transformers loads it: a rendered chat -> ids, and ids -> text while they come."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vlmchat.errors import CheckpointError
from vlmchat.families.bytelevel import bytes_of_token

_BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A SentencePiece token that is one byte. A run of them reads as characters, or, if one is wrong, not at all."""


class WindowDecoder:
    """Decodes the newest tokens together with those before them, and says what is new.

    What a token reads as depends on its neighbours (a blank in front, bytes of one character), never on tokens
    far before it: the window begins at the last token but one that was said.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Decode with Transformers' ``tokenizer``, control tokens left out."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        """First token of the window."""
        self._read = 0
        """First token whose text was not said."""

    def push(self, token_id: int) -> str:
        """Return the text that became certain with ``token_id``; bytes of an unfinished character wait."""
        self._ids.append(token_id)
        if _BYTE.fullmatch(self._tokenizer.convert_ids_to_tokens(token_id) or ""):
            return ""
        said, known = self._text(self._read), self._text(len(self._ids))
        if known.endswith("\ufffd") or len(known) <= len(said):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return known[len(said) :]

    def finish(self) -> str:
        """Return what was held back; incomplete characters as U+FFFD."""
        said, known = self._text(self._read), self._text(len(self._ids))
        self._read = len(self._ids)
        return known[len(said) :]

    def _text(self, end: int) -> str:
        text: str = self._tokenizer.decode(self._ids[self._start : end], skip_special_tokens=True)
        return text


def _sentencepiece_bytes(token: str) -> bytes:
    return bytes([int(token[3:5], 16)]) if _BYTE.fullmatch(token) else token.replace("▁", " ").encode()


def _names(decoder: Any, kind: str) -> bool:
    """Say whether a decoder of a tokenizer.json, or one of those it is made of, is of ``kind``."""
    inner = decoder.get("decoders") or ()
    return decoder.get("type") == kind or any(_names(part, kind) for part in inner)


class GenericTokenizer:
    """Plain text, control tokens by name, and decoding, through Transformers' tokenizer."""

    def __init__(self, native: Any) -> None:
        """Wrap Transformers' tokenizer.

        Raises:
            CheckpointError: it puts tokens behind a text, which an answer cannot follow.
        """
        self.native = native
        plain, whole = self._encoded("x", False), self._encoded("x", True)
        if whole[len(whole) - len(plain) :] != plain:
            raise CheckpointError("The tokenizer of this checkpoint ends every text; no answer can follow a prompt.")
        self._opening = whole[: len(whole) - len(plain)]

    def _encoded(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self.native.encode(text, add_special_tokens=special)
        return ids

    def begin(self, text: str, before: str = "") -> list[int]:
        """Return the ids at the front of a prompt: what the tokenizer puts there, and ``text``."""
        return self._opening + self.encode(text)

    def encode(self, text: str, after: str = "") -> list[int]:
        """Return the ids of plain ``text``; names of control tokens in it stay characters."""
        ids: list[int] = self.native.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def control(self, token: str) -> int:
        """Return the id of control token ``token``.

        Raises:
            CheckpointError: the checkpoint has no such token.
        """
        known: dict[str, int] = self.native.added_tokens_encoder
        if token not in known:
            raise CheckpointError(
                f"The tokenizer of this checkpoint has no {token} token.", "Fetch its tokenizer files again."
            )
        return known[token]

    def decoder(self) -> WindowDecoder:
        """Return a fresh decoder for one answer."""
        return WindowDecoder(self.native)

    def token_bytes(self) -> Mapping[int, bytes]:
        """Return what each id adds to an answer; control tokens are left out.

        Both ways in which tokens are written are known by the file's own decoder: the printable alphabet of
        byte-level BPE, else SentencePiece's, with its blank and its tokens of one byte.
        """
        kind = json.loads(self.native.backend_tokenizer.to_str())["decoder"]
        read = bytes_of_token if _names(kind, "ByteLevel") else _sentencepiece_bytes
        controls = self.native.added_tokens_encoder
        return {id_: read(token) for token, id_ in self.native.get_vocab().items() if token not in controls}
