"""What a terminal would obey never reaches it, and everything else does."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from vlmchat.plaintext import is_whole, one_line, printable

any_text = st.text(st.characters())


def test_escape_sequences_lose_their_teeth() -> None:
    assert printable("\x1b[2Jhello\x1b]0;title\x07") == "[2Jhello]0;title"
    assert printable("a\x9b31mb\x7fc\x00d\re") == "a31mbcde"
    assert printable("left\u202eright\u2066x\u2069\u200f") == "leftrightx"
    assert printable("half \ud800") == "half \N{REPLACEMENT CHARACTER}"


def test_letters_stay() -> None:
    text = "Zürich\t中文 🎈 e\u0301 👩\u200d👧\nשלום"
    assert printable(text) == text


def test_one_line() -> None:
    assert one_line("  a\nb\t\tc\x1b ") == "a b c"


@given(any_text)
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert not [char for char in shown if unicodedata.category(char) == "Cc" and char not in "\n\t"]
    assert not [char for char in shown if unicodedata.bidirectional(char) in {"RLO", "LRO", "RLE", "LRE", "PDF"}]
    assert printable(shown) == shown


@given(any_text, any_text)
def test_pieces_are_the_same_as_the_whole(one: str, two: str) -> None:
    assert printable(one) + printable(two) == printable(one + two)


@given(any_text)
def test_whole_text_is_what_utf8_can_write(text: str) -> None:
    assert is_whole(text) == ("surrogates" not in _encoding_problem(text))


def _encoding_problem(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        return problem.reason
    return ""
