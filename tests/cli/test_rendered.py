"""Answers as Markdown on a terminal: drawn while they come, never obeyed, off where nobody looks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.harness import on_terminal, process
from vlmchat.cli.rendered import whole_blocks

pytestmark = pytest.mark.usefixtures("model")
MARKDOWN = ["# Title\n\nSome **bo", "ld** words.\n\n- one\n- two\n\n```python\nprint(", "1)\n```\n"]
_OWN = re.compile(r"\x1b\[(?:\d+(?:;\d+)*m|2K|1A|\?25[lh]|K)")
"""What rich itself writes: colours, lines taken back, the cursor hidden and shown."""


def text_of(seen: str) -> str:
    """Return what is left on the screen, roughly: the last drawing of each block."""
    return _OWN.sub("", seen)


def test_markdown_is_drawn_on_a_terminal() -> None:
    code, seen = on_terminal({"answers": [MARKDOWN], "delay": 0.1}, "ask", "Hi", kind="xterm-256color")
    assert code == 0
    shown = text_of(seen).rpartition("**bo")[2].replace("\r", "")
    assert "Some bold words." in shown
    assert " • two" in shown
    assert "print(1)" in shown
    assert "```" not in shown
    assert "\x1b[1mbold\x1b[0m" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor comes back"


def test_raw_and_whole_on_a_terminal() -> None:
    script = {"answers": [MARKDOWN]}
    assert "Some **bold** words." in on_terminal(script, "ask", "Hi", "--raw", kind="xterm")[1]
    assert "Some bold words." in text_of(on_terminal(script, "ask", "Hi", "--no-stream", kind="xterm")[1])


def test_nothing_is_drawn_where_stdout_is_no_terminal() -> None:
    assert process({"answers": [MARKDOWN]}, "ask", "Hi").out == "".join(MARKDOWN)


def test_the_text_of_a_model_is_never_obeyed_nor_lost() -> None:
    hostile = (
        "\x1b]0;owned\x07 \x1b[31m [bold]not markup[/] <b>html</b> [here](http://e.test) :smile:\n\n<div>block</div>"
    )
    _, seen = on_terminal({"answers": [[hostile]]}, "ask", "Hi", kind="xterm-256color")
    assert "\x1b]" not in seen, "no title, no link, no clipboard"
    assert "\x1b[31m" not in seen
    shown = " ".join(text_of(seen).split())
    for kept in ("[bold]not markup[/]", "<b>html</b>", "http://e.test", ":smile:", "<div>block</div>"):
        assert kept in shown


def test_a_long_block_shows_its_end_while_it_grows() -> None:
    lines = [f"- point {number}\n" for number in range(40)]
    _, seen = on_terminal({"answers": [lines], "delay": 0.02}, "ask", "Hi", kind="xterm")
    shown = text_of(seen)
    assert all(f"point {number}" in shown.rpartition("point 0")[2] for number in range(1, 40)), "printed whole at last"


@given(st.text(alphabet="a\n #-*`>1.|\u2028", max_size=40))
def test_blocks_are_cut_without_loss(text: str) -> None:
    whole, growing = whole_blocks(text)
    assert whole + growing == text
    assert not whole or whole.endswith("\n")
