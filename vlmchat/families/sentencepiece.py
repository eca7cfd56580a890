"""SentencePiece BPE from a checkpoint's ``tokenizer.model``, exact to the slow tokenizers of 2024.

Transformers' own loading is wrong for these files (facts/internvl2 §7: no bos, ``<|im_start|>``
past the end of the vocabulary, lost ``▁``). Here the pieces are read from the file itself and
merged by the ``tokenizers`` library; the flags that decide the rest come from the same folder:
``add_dummy_prefix`` of the model file, ``legacy``, ``add_bos_token`` and the strip flags of
``tokenizer_config.json``. User-defined pieces take no part in merging, so a control token typed by
a user stays text.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models

from vlmchat.errors import CheckpointError
from vlmchat.families.controls import ControlTable

_SPACE = "▁"
"""How SentencePiece writes a blank."""
_BPE = 2
"""``TrainerSpec.ModelType`` of byte-pair models."""


class PieceType(IntEnum):
    """``SentencePiece.Type`` of sentencepiece_model.proto."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a ``tokenizer.model`` says."""

    pieces: tuple[tuple[str, float, PieceType], ...]
    """(text, score, type); the place is the id."""
    add_dummy_prefix: bool
    """Put a blank in front of every stretch of text."""


def read_model_file(path: Path) -> ModelFile:
    """Read a SentencePiece model.

    Raises:
        CheckpointError: it is damaged, no BPE model, or normalises text in a way no checkpoint
            of the catalog does.
    """
    try:
        return _parse(path.read_bytes())
    except (OSError, ValueError, IndexError, KeyError, struct.error) as problem:
        raise CheckpointError(f"{path.name} cannot be used: {problem}.", "Fetch the file again.") from problem


def _parse(data: bytes) -> ModelFile:
    pieces: list[tuple[str, float, PieceType]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(value))
            score = struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]
            pieces.append((piece[1].decode(), score, PieceType(piece.get(3, 1))))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if not pieces or trainer.get(3, 1) != _BPE:
        raise ValueError("it holds no byte-pair vocabulary")
    # Fields 2 and 4 of NormalizerSpec: a character map, and removal of blanks (on unless it says 0).
    if normalizer.get(2) or normalizer.get(4, 1):
        raise ValueError("it rewrites text before cutting it")
    return ModelFile(tuple(pieces), bool(normalizer.get(3, 1)))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Walk one protobuf message: (field number, integer or bytes)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        else:
            length = {1: 8, 5: 4}[kind]
        if at + length > len(data):
            raise ValueError("it is cut short")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _merges(pieces: Sequence[tuple[str, float, PieceType]]) -> list[tuple[str, str]]:
    """Order every way to join two pieces into a third as SentencePiece does: best score first."""
    scores = {text: score for text, score, kind in pieces if kind is PieceType.NORMAL}
    found: list[tuple[float, int, int, tuple[str, str]]] = []
    for text, score in scores.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in scores and right in scores:
                found.append((score, len(left), len(right), (left, right)))
    found.sort(key=lambda entry: entry[:3], reverse=True)
    return [pair for *_, pair in found]


class SentencePieceDecoder:
    """Joins pieces and bytes into text; bytes that form no character become U+FFFD one by one."""

    def __init__(self, pieces: Mapping[int, str | int], spaced: Mapping[int, str], drops_blank: bool) -> None:
        """Begin an answer.

        Args:
            pieces: text of a normal piece, or the byte of a byte piece, by id.
            spaced: added tokens that are shown, set apart by blanks as the original joins them.
            drops_blank: LlamaTokenizer takes the first blank of each stretch for the dummy prefix.
        """
        self._pieces = pieces
        self._spaced = spaced
        self._drops_blank = drops_blank
        self._bytes = b""
        self._begun = False
        self._fresh = True

    def push(self, token_id: int) -> str:
        """Return the text that became certain with ``token_id``."""
        if (word := self._spaced.get(token_id)) is not None:
            text = self.finish() + (" " if self._begun else "") + word
            self._begun = self._fresh = True
            return text
        piece = self._pieces.get(token_id)
        if piece is None:
            return ""
        gap = " " if self._fresh and self._begun else ""
        if isinstance(piece, int):
            self._bytes += bytes([piece])
            text = gap + self._whole_characters()
        else:
            fresh = self._fresh and self._drops_blank
            text = gap + self.finish() + (piece.removeprefix(" ") if fresh else piece)
        self._fresh = False
        self._begun = self._begun or bool(text)
        return text

    def finish(self) -> str:
        """Return what incomplete bytes leave."""
        left, self._bytes = self._bytes, b""
        return "".join(_lossy(left))

    def _whole_characters(self) -> str:
        try:
            text = self._bytes.decode()
        except UnicodeDecodeError as problem:
            # Incomplete at the end: wait. Wrong in itself: SentencePiece replaces byte by byte.
            if problem.reason == "unexpected end of data" and problem.end == len(self._bytes):
                return ""
            return self.finish()
        self._bytes = b""
        return text


def _lossy(data: bytes) -> Iterator[str]:
    """Decode greedily; a byte that begins no valid character is one U+FFFD."""
    at = 0
    while at < len(data):
        for length in (1, 2, 3, 4):
            try:
                yield data[at : at + length].decode()
            except UnicodeDecodeError:
                continue
            at += length
            break
        else:
            yield "\ufffd"
            at += 1


class SentencePieceTokenizer(ControlTable):
    """Encodes plain text as InternLM2Tokenizer and LlamaTokenizer of Transformers 4.37 did."""

    def __init__(self, model: ModelFile, config: Mapping[str, Any]) -> None:
        """Build from the parsed model file and tokenizer_config.json."""
        added: dict[int, dict[str, Any]] = {int(id_): token for id_, token in config["added_tokens_decoder"].items()}
        special = {config[f"{which}_token"] for which in ("bos", "eos", "unk", "pad") if config.get(f"{which}_token")}
        special |= set(config.get("additional_special_tokens") or ())
        pieces = dict(enumerate(model.pieces))
        self._bpe = tokenizers.Tokenizer(
            models.BPE(
                vocab={
                    text: id_ for id_, (text, _, kind) in pieces.items() if kind in (PieceType.NORMAL, PieceType.BYTE)
                }
                | {text: id_ for id_, (text, _, kind) in pieces.items() if kind is PieceType.UNKNOWN},
                merges=_merges(model.pieces),
                unk_token=next(text for text, _, kind in model.pieces if kind is PieceType.UNKNOWN),
                byte_fallback=True,
            )
        )
        self._controls = {text: id_ for id_, (text, _, kind) in pieces.items() if kind is not PieceType.NORMAL}
        self._controls |= {token["content"]: id_ for id_, token in added.items()}
        self._eats_blanks = {token["content"] for token in added.values() if token.get("rstrip")}
        self._spaced = {id_: token["content"] for id_, token in added.items() if token["content"] not in special}
        self._shown = {id_: shown for id_, piece in pieces.items() if (shown := _shown(*piece)) is not None}
        for id_ in added:
            self._shown.pop(id_, None)
        self._special = special
        self._drops_blank = config.get("tokenizer_class") == "LlamaTokenizer"
        # InternLM2Tokenizer has no `legacy` and behaves as the old LlamaTokenizer did.
        legacy = config.get("legacy", True)
        self._every_prefix = _SPACE if model.add_dummy_prefix and legacy else ""
        self._first_prefix = "" if legacy else _SPACE
        self._bos = [self._controls[config["bos_token"]]] if config.get("add_bos_token", True) else []

    @classmethod
    def from_folder(cls, folder: Path) -> SentencePieceTokenizer:
        """Read ``tokenizer.model`` and ``tokenizer_config.json``.

        Raises:
            CheckpointError: one of them is missing or is not what its name says.
        """
        model = read_model_file(folder / "tokenizer.model")
        try:
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            return cls(model, config)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise CheckpointError(
                f"The tokenizer_config.json of {folder.name} cannot be used: {problem}.", "Fetch the file again."
            ) from problem

    def begin(self, text: str, before: str = "") -> list[int]:
        """Return the ids at the very front of a prompt: bos, and the plain ``text`` in front of token ``before``.

        The LlamaTokenizer of 2024 leaves a lone ``▁`` between bos and an added token unless that is
        one of the tokenizer's special tokens (Phi-3's ``<|system|>`` is not).
        """
        if not text and (not before or before in self._special):
            return list(self._bos)
        prefix = self._first_prefix or (self._every_prefix if text else "")
        return self._bos + self._pieces_of(prefix + text)

    def encode(self, text: str, after: str = "") -> list[int]:
        """Return the ids of plain ``text`` behind control token ``after`` (empty: behind features)."""
        if after in self._eats_blanks:
            text = text.lstrip()
        return self._pieces_of(self._every_prefix + text) if text else []

    def decoder(self) -> SentencePieceDecoder:
        """Return a fresh decoder for one answer."""
        return SentencePieceDecoder(self._shown, self._spaced, self._drops_blank)

    def token_bytes(self) -> Mapping[int, bytes]:
        """Return what each id adds to an answer behind its first piece; control and added tokens are left out."""
        return {id_: bytes([piece]) if isinstance(piece, int) else piece.encode() for id_, piece in self._shown.items()}

    def _pieces_of(self, text: str) -> list[int]:
        ids: list[int] = self._bpe.encode(text.replace(" ", _SPACE), add_special_tokens=False).ids
        return ids


def _shown(text: str, _score: float, kind: PieceType) -> str | int | None:
    """Return what a piece adds to an answer: text, one byte, or nothing."""
    if kind is PieceType.BYTE:
        return int(text[1:-1], 16)
    if kind in (PieceType.NORMAL, PieceType.USER_DEFINED):
        return text.replace(_SPACE, " ")
    return None
