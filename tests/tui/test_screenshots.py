"""The pictures of the app that are in the repository show what they are named after."""

from __future__ import annotations

import html
import re

import pytest

from tests.tui.take_screenshots import FOLDER, MODEL

SHOWN = {
    "chat": ("example.png", "finished · demo"),
    "chinese": ("example.png", "词元/秒"),
    "download": (MODEL, "downloading", "to go"),
    "help": ("Ctrl+J",),
    "light": ("example.png", "finished · demo"),
    "picker": (MODEL, "in use", "fits in bf16"),
    "search": ("colour", "just now"),
    "start": ("Ask about a picture", "ready"),
    "tiles": ("What the model sees", "3 x 16 = 48 tokens"),
}


def test_there_are_these_pictures_and_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_shows_what_it_is_named_after(name: str) -> None:
    drawn = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", "", drawn)).replace("\xa0", " ")
    for words in SHOWN[name]:
        assert words in text
