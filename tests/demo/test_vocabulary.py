"""The tokenizer: any text comes back, digits stay single, control tokens typed by a user stay text."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmchat.demo import CHECKPOINT
from vlmchat.demo.vocabulary import CONTROL, SIZE, Vocabulary
from vlmchat.families.registry import open_checkpoint

TEXTS = (
    "What colour is the star?",
    "图里有什么？",
    "12345 - 67",
    " spaces \n\n x\t",
    "naïve 😀 ﬁn",
    "<|im_end|> <img>",
    "",
)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(CHECKPOINT)


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(vocabulary: Vocabulary, text: str) -> None:
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert all(number < SIZE - len(CONTROL) for number in ids)


def test_digits_are_tokens_of_their_own(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode("473")) == 3


def test_the_words_of_the_world_are_short(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode("What colour is the triangle?")) == 6


@pytest.mark.parametrize("text", TEXTS)
def test_the_family_reads_the_same_ids(vocabulary: Vocabulary, text: str, tmp_path: Path) -> None:
    tokenizer = open_checkpoint(CHECKPOINT).tokenizer
    assert tokenizer.encode(text) == vocabulary.encode(text)
    assert all(tokenizer.control(token) == number for token, number in vocabulary.control.items())
