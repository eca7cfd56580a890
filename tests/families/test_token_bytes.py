"""The bytes of tokens, for every kind of tokenizer: joined they are the text the tokenizer decodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.families.generic_cases import byte_level, sentencepiece
from vlmchat.families.family import Tokenizer
from vlmchat.families.generic.tokenizer import GenericTokenizer
from vlmchat.families.registry import open_checkpoint

REFERENCE = Path(__file__).parent.parent / "reference"
FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/*/checkpoint"))
TEXTS = ["The thing: 你好 ☃☃ 👨‍👩‍👧, isn't it?", '{"total": 12.50, "vendor": "Ä&Ö  <b>"}', "a\n\n  b\t", "1 2 3"]


def joined(tokenizer: Tokenizer, ids: list[int]) -> str:
    pieces = tokenizer.token_bytes()
    return b"".join(pieces.get(id_, b"") for id_ in ids).decode("utf-8", "replace")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_bytes_join_to_the_text_that_was_encoded(folder: Path) -> None:
    tokenizer = open_checkpoint(folder / "checkpoint").tokenizer
    for text in TEXTS:
        # SentencePiece may put a blank in front; nothing else is added or lost.
        assert joined(tokenizer, tokenizer.encode(text)).removeprefix(" " * (text[0] != " ")) == text


@pytest.mark.parametrize(
    "folder", [folder for folder in FOLDERS if (folder / "tokenizer_cases.json").exists()], ids=lambda path: path.name
)
def test_bytes_join_to_what_the_original_decoded(folder: Path) -> None:
    cases = json.loads((folder / "tokenizer_cases.json").read_text(encoding="utf-8"))
    tokenizer = open_checkpoint(folder / "checkpoint").tokenizer
    known = tokenizer.token_bytes()
    seen = 0
    for case in cases if isinstance(cases, list) else cases["cases"]:
        plain = [id_ for id_ in case["ids"] if id_ in known]
        decoder = tokenizer.decoder()
        text = "".join(map(decoder.push, plain)) + decoder.finish()
        seen += bool(plain)
        if "\ufffd" not in text:
            # LlamaTokenizer takes the very first blank for its own.
            assert joined(tokenizer, plain) in (text, " " + text), case["text"]
    assert seen > 3


@pytest.mark.parametrize("kind", ["byte-level", "prefixed", "plain"])
def test_bytes_of_transformers_own_tokenizers(kind: str) -> None:
    file = byte_level(("<|end|>",)) if kind == "byte-level" else sentencepiece(("<|end|>",), kind == "prefixed")
    native = PreTrainedTokenizerFast(tokenizer_object=file, eos_token="<|end|>")
    tokenizer = GenericTokenizer(native)
    for text in TEXTS:
        if kind == "byte-level" or "\n" not in text:
            assert joined(tokenizer, tokenizer.encode(text)).removeprefix(" ") == text
    assert native.convert_tokens_to_ids("<|end|>") not in tokenizer.token_bytes()
    assert set(tokenizer.token_bytes().values()) >= {bytes([byte]) for byte in range(33, 127)}
