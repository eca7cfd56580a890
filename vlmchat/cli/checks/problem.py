"""One fault of a machine: a word for scripts, a sentence for people, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlmchat.errors import VlmchatError
from vlmchat.settings import Settings
from vlmchat.store.health import Health


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


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at once, for the facts and for every check."""

    settings: Settings
    """Those in force."""
    gpus: Sequence[str]
    """Name, memory and driver version of each, as the driver's own tool says them."""
    health: Health
    """Of the saved chats."""
