"""The queue of downloads between two starts: one JSON file in the state folder, beside the draft.

It names what the user said yes to and what has not come yet; the bytes are kept by the hub room. As with
:mod:`vlmchat.tui.memory`, a file that cannot be read is an empty queue, and one that cannot be written is let go.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, get_args

from vlmchat.paths import write_whole
from vlmchat.settings import Hub

Queued: TypeAlias = tuple[str, Hub]
"""What the user picked, and the hub it is asked for."""
_FILE = "downloads.json"
_HUBS: tuple[Hub, ...] = get_args(Hub)


def read_queue(folder: Path) -> tuple[Queued, ...]:
    """Return the downloads that ``folder`` remembers, in their order, each once."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    found: dict[str, Hub] = {}
    for entry in data if isinstance(data, list) else ():
        reference, said = (entry.get("reference"), entry.get("hub")) if isinstance(entry, dict) else ("", "")
        hub = next((known for known in _HUBS if known == said), None)
        if isinstance(reference, str) and reference and hub is not None:
            found[reference] = hub
    return tuple(found.items())


def write_queue(folder: Path, queue: tuple[Queued, ...]) -> None:
    """Remember ``queue`` in place of what was there; written whole or not at all."""
    entries = [{"reference": reference, "hub": hub} for reference, hub in queue]
    with suppress(OSError):
        write_whole(folder / _FILE, json.dumps(entries, ensure_ascii=False))
