"""Reading paths out of text: what is a path, what is prose, and what no disk is touched for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.helpers import draw_picture
from vlmchat.tui.attaching import attach_pasted, attach_typed, mentions, pasted


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("what is in cat.png?", ["cat.png"]),
        ("(see ./a/b.JPG)", ["a/b.JPG"]),
        (r"/tmp/my\ cat.png what", ["/tmp/my cat.png"]),
        ("'/tmp/my cat.png' and \"/tmp/x.gif\"", ["/tmp/my cat.png", "/tmp/x.gif"]),
        ("file:///tmp/my%20cat.png", ["/tmp/my cat.png"]),
        ("and/or 3/4 http://a.b/c https://a.b/c.html", []),
        ("is http://a.b/c.png?x=1 like https://a.b/d.JPG!", ["http://a.b/c.png?x=1", "https://a.b/d.JPG"]),
        ("a.png[1,2,3,4] or (./b.png[0.1, .2,.5,.5])?", ["a.png[1,2,3,4]"]),
        ("'./my b.png[0.1, .2,.5,.5]', './my c.png'[1, 2, 3, 4]", ["my b.png[0.1, .2,.5,.5]", "my c.png[1, 2, 3, 4]"]),
        ("it's a 'quoted phrase' here", []),
        ("/ ./ plain", []),
        ("", []),
    ],
)
def test_mentions(text: str, paths: list[str]) -> None:
    assert [mention.source for mention in mentions(text)] == paths


def test_a_bare_line_with_blanks_is_tried_whole_first() -> None:
    assert [mention.source for mention in mentions("/tmp/my cat.png")] == ["/tmp/my cat.png", "/tmp/my", "cat.png"]


def test_home_is_expanded_and_unknown_users_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert mentions("~/cat.png")[0].source == "/home/me/cat.png"
    assert mentions("~nobody-at-all/cat.png")[0].source == "~nobody-at-all/cat.png"


@pytest.mark.parametrize("text", ["plain words", "words and /usr/bin", "x" * 30_000, "", "a\n/b.png"])
def test_prose_is_no_list_of_paths(text: str) -> None:
    assert pasted(text) == []


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are named otherwise there")
def test_pipes_and_devices_are_never_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert attach_pasted(str(pipe)) is None
    found = attach_typed(f"what is {pipe}")
    assert found.error is not None
    assert "no ordinary file" in found.error.message
    assert attach_typed("what is /dev/zero").rest == "what is /dev/zero"


def test_unquoted_blanks_work_when_the_line_is_the_path(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "my red disc.png")
    for read in (attach_typed, attach_pasted):
        found = read(str(picture))
        assert found is not None
        assert [it.name for it in found.pictures] == ["my red disc.png"]
        assert found.rest == ""


def test_a_lone_file_that_is_no_picture_is_explained(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("words", encoding="utf-8")
    assert attach_typed(str(notes)).error is not None
    assert attach_typed(f"read {notes} please").error is None


def test_a_content_without_suffix_is_known_by_its_bytes(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "disc.png").rename(tmp_path / "download")
    assert attach_typed(f"what is {picture}").pictures


def test_a_bad_one_among_several_keeps_the_good_before_it(tmp_path: Path) -> None:
    good, bad = draw_picture(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"x")
    found = attach_pasted(f"{good}\n{bad}")
    assert found is not None
    assert len(found.pictures) == 1
    assert found.error is not None


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    for mention in mentions(text):
        assert 0 <= mention.start < mention.end <= len(text)
    pasted(text)
