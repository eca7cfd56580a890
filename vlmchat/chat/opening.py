"""From a model reference to a loaded model: catalog row -> local folder -> engine, as one event stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as CancelEvent

from vlmchat.engine.api import Engine
from vlmchat.engine.events import Loading
from vlmchat.options import LoadOptions


@dataclass(frozen=True, slots=True)
class Target:
    """A model reference that was found on this machine."""

    name: str
    """As the user should see it: ``internvl2:1b``, ``demo``, or the folder's path."""
    folder: Path
    revision: str
    """Commit of a hub snapshot; empty for a plain folder."""


def find(reference: str) -> Target:
    """Resolve ``family:tag``, ``OWNER/NAME[@revision]`` or a folder to files on this machine.

    Raises:
        UnknownModel: nothing of that name; the nearest names are in the hint.
        NotInstalled: known, but not here; the hint says how to get it.
    """
    raise NotImplementedError


def open_model(engine: Engine, target: Target, options: LoadOptions, cancel: CancelEvent | None = None) -> Iterator[Loading]:
    """Load ``target`` into ``engine``."""
    raise NotImplementedError


def create_engine() -> Engine:
    """Return the real engine. Costs nothing until its first load: torch comes up on its own thread."""
    raise NotImplementedError
