"""The memory between two starts: drafts with their pictures come back, damage counts as empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tui.helpers import draw_picture
from vlmchat.media.image import read_picture
from vlmchat.tui.memory import Draft, Memory


def test_everything_comes_back(tmp_path: Path) -> None:
    pictures = tuple(
        read_picture(draw_picture(tmp_path / f"{color}.png", color=color), f"../{color}") for color in ("red", "blue")
    )
    Memory(tmp_path / "state", "demo", "paper", Draft("多少?\n[b]", pictures)).write()
    for color in ("red", "blue"):
        (tmp_path / f"{color}.png").unlink()
    again = Memory.read(tmp_path / "state")
    assert again == Memory(tmp_path / "state", "demo", "paper", Draft("多少?\n[b]", pictures))
    assert [picture.read() for picture in again.draft.pictures] == [picture.read() for picture in pictures]
    again.write()
    again.draft = Draft()
    again.write()
    assert not list((tmp_path / "state" / "draft").iterdir())
    assert Memory.read(tmp_path / "state").draft == Draft()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2]",
        '{"text": 5, "model": [], "pictures": {}}',
        '{"pictures": [1, {"digest": "../../etc", "name": "x", "media_type": "y", "size": [1, 2]}]}',
        '{"pictures": [{"digest": "abc", "name": "x", "media_type": "y", "size": [1]}]}',
    ],
)
def test_damage_counts_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.json").write_text(text, encoding="utf-8")
    assert Memory.read(tmp_path) == Memory(tmp_path)


def test_a_picture_that_is_gone_is_left_out(tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png"))
    Memory(tmp_path, draft=Draft("x", (picture,))).write()
    (tmp_path / "draft" / picture.digest).unlink()
    assert Memory.read(tmp_path).draft == Draft("x")


def test_an_unwritable_folder_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way", encoding="utf-8")
    Memory(tmp_path / "state", "demo").write()
    assert json.dumps("still here")


def test_drafts_join_without_doubling(tmp_path: Path) -> None:
    picture = read_picture(draw_picture(tmp_path / "disc.png"))
    assert Draft("one", (picture,)).before(Draft("two", (picture,))) == Draft("one\ntwo", (picture,))
    assert Draft("one").before(Draft()) == Draft("one")
    assert not Draft("  ")
    assert Draft("", (picture,))
