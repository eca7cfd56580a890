"""The README's example of a row is a row, and names every field there is."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

from vlmchat.catalog.spec import ModelSpec, VisionSpec, read_row

README = Path(__file__).parent.parent.parent / "README.md"


def test_the_example_names_every_field() -> None:
    found = re.search(r"```toml\n(\[\[model\]\].+?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    (row,) = tomllib.loads(found[1])["model"]
    assert set(row) | {"folder"} == {field.name for field in fields(ModelSpec)}
    assert set(row["vision"]) == {field.name for field in fields(VisionSpec)}
    assert read_row(row).huggingface == "Own/Mine-8B"
