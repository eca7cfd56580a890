"""What safetensors files hold, from their headers: names, dtypes and shapes, without torch and without the data."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DTYPES = {"BF16": ("bfloat16", 2), "F16": ("float16", 2), "F32": ("float32", 4)}
_LENGTH_BYTES = 8
_LONGEST = 100_000_000
"""Bytes of a header, as the library itself limits it."""


@dataclass(frozen=True, slots=True)
class Header:
    """One tensor."""

    name: str
    dtype: str
    """``bfloat16``, ``float16``, ``float32``; other kinds as the file names them (``I32``)."""
    shape: tuple[int, ...]
    bytes: int


def headers(folder: Path) -> Iterator[Header]:
    """Yield every tensor of the safetensors files in ``folder``; a file that cannot be read has none."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
                table = json.loads(file.read(length)) if length <= _LONGEST else {}
            found = [_header(name, entry) for name, entry in table.items() if name != "__metadata__"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        yield from found


def prevailing_dtype(folder: Path) -> str | None:
    """Return the floating dtype that most bytes of the files have; None where there are none."""
    held: Counter[str] = Counter()
    for header in headers(folder):
        if header.dtype in {word for word, _ in _DTYPES.values()}:
            held[header.dtype] += header.bytes
    return held.most_common(1)[0][0] if held else None


def _header(name: str, entry: Mapping[str, Any]) -> Header:
    start, end = entry["data_offsets"]
    word, size = _DTYPES.get(str(entry["dtype"]), (str(entry["dtype"]), 0))
    dimensions = tuple(int(side) for side in entry["shape"])
    if size and math.prod(dimensions) * size != end - start:
        raise ValueError(name)
    return Header(name, word, dimensions, end - start)
