"""``pipe --batch-size`` with the embedded model: whatever the size, each line is answered as if it were alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cli.harness import call
from tests.cli.test_pipe import lines
from tests.conftest import png

COLOURS = ("red", "blue", "green", "yellow")


def requests(folder: Path) -> bytes:
    """Prompts of several lengths, with no picture, one and two, greedy and drawn; bad lines and a held one between."""
    asked: list[dict[str, Any]] = []
    for number, colour in enumerate(COLOURS):
        path = folder / f"{colour}.png"
        path.write_bytes(png(colour, (40 + 60 * number, 40)))
        asked += [
            {"prompt": "What colour is it?", "images": [str(path)]},
            {"prompt": "Hello. " * number + "Who are you?", "max_new_tokens": 3 + 2 * number},
            {"prompt": "Compare.", "images": [str(path), str(folder / "red.png")], "temperature": 0.7, "seed": number},
            {"prompt": "x", "colour": colour},
        ]
    return lines(*({"id": number, **line} for number, line in enumerate(asked)))


def test_results_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    stdin = requests(tmp_path)
    options = ("--dtype", "float32", "--max-new-tokens", "8")
    results = [call("pipe", "--batch-size", str(size), *options, stdin=stdin) for size in (1, 3, 8)]
    assert [result.code for result in results] == [8, 8, 8]
    single = results[0].lines
    assert [line["id"] for line in single] == list(range(16))
    assert sum("error" in line for line in single) == len(COLOURS)
    for result in results[1:]:
        for alone, together in zip(single, result.lines, strict=True):
            for key in ("id", "error", "text", "token_ids", "finish_reason", "usage"):
                assert together.get(key) == alone.get(key), (alone["id"], key)
