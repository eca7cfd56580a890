"""One fault of a machine: a word for scripts, a sentence for people, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlmchat.errors import VlmchatError


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and its fix."""

    code: str
    """A stable word, as ``vlmchat doctor --json`` has it."""
    message: str
    """One sentence: what was found."""
    hint: str
    """One sentence: the fix."""

    @classmethod
    def of(cls, code: str, error: VlmchatError, before: str = "") -> Problem:
        """Return an error as a problem; ``before`` stands in front of its sentence."""
        return cls(code, f"{before}{error.message}", error.hint)


def existing(path: Path) -> Path:
    """Return ``path``, or the nearest thing above it that is there."""
    while not path.exists():
        path = path.parent
    return path
