"""The stream of text equals the text decoded at once, and never holds half a character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.reference_cases import QWEN2
from vlmchat.engine.detokenize import AnswerText
from vlmchat.families.bytelevel import ByteLevelTokenizer

TOKENIZER = ByteLevelTokenizer.from_folder(QWEN2 / "checkpoint")


@given(st.text())
def test_any_text_comes_back_stripped_and_in_pieces(text: str) -> None:
    import unicodedata

    text = unicodedata.normalize("NFC", text)
    answer = AnswerText(TOKENIZER)
    pieces = [answer.push(token) for token in TOKENIZER.encode(text)]
    pieces.append(answer.finish())
    assert "".join(pieces) == answer.text == text.strip()
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@given(st.lists(st.integers(0, 571)))
def test_any_tokens_give_the_same_text_in_pieces_as_at_once(tokens: list[int]) -> None:
    answer = AnswerText(TOKENIZER)
    pieces = [answer.push(token) for token in tokens]
    pieces.append(answer.finish())
    whole = b"".join(TOKENIZER._pieces[token] for token in tokens).decode("utf-8", "replace")
    assert "".join(pieces) == whole.strip()


@given(st.lists(st.integers(0, 571), min_size=1), st.data())
def test_a_continued_answer_goes_on_where_it_was_cut(tokens: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(tokens)))
    first, rest = AnswerText(TOKENIZER), AnswerText(TOKENIZER, bool(cut), tokens[:cut])
    told = "".join(first.push(token) for token in tokens[:cut])
    going_on = "".join(rest.push(token) for token in tokens[cut:]) + rest.finish()
    whole = b"".join(TOKENIZER._pieces[token] for token in tokens).decode("utf-8", "replace")
    assert told + going_on == whole.strip()


def test_one_character_in_four_tokens_comes_out_once() -> None:
    tokens = TOKENIZER.encode("😀")
    assert len(tokens) > 1
    answer = AnswerText(TOKENIZER)
    assert [answer.push(token) for token in tokens] == [""] * (len(tokens) - 1) + ["😀"]
