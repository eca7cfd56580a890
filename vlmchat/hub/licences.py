"""Which licences the user has accepted: one small JSON file in the state folder, written at once and whole."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from vlmchat.paths import places, write_whole


def is_accepted(model: str, licence: str) -> bool:
    """Say whether the user accepted ``licence`` for ``model`` before; one without a name is open."""
    return not licence or _key(model, licence) in _read()


def accept(model: str, licence: str, url: str = "") -> None:
    """Remember that the user accepted ``licence`` for ``model``; a file that cannot be written is let be."""
    known = _read()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known[_key(model, licence)] = {"model": model, "licence": licence, "url": url, "accepted": now}
    with suppress(OSError):
        write_whole(_path(), json.dumps(known, ensure_ascii=False, indent=1))


def _path() -> Path:
    return places().state / "licences.json"


def _key(model: str, licence: str) -> str:
    return f"{model.lower()}: {licence}"


def _read() -> dict[str, object]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
