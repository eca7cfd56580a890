"""Catalog rows beside what is on this machine: what ``vlmchat models`` and the app's picker list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import vlmchat
from vlmchat.catalog.index import catalog
from vlmchat.catalog.spec import ModelSpec
from vlmchat.families.registry import can_run
from vlmchat.hub.local import Local, inspect, look
from vlmchat.paths import user_path
from vlmchat.settings import Hub

EMBEDDED = "demo"
"""Name of the row whose weights ship inside the package."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One row as it stands on this machine."""

    spec: ModelSpec
    local: Local
    runs: bool
    """Whether this version can load it; without that, fetching it is of no use yet."""

    @property
    def ready(self) -> bool:
        """Whether it can be opened right now."""
        return self.runs and self.local.state == "installed"

    @property
    def how(self) -> str:
        """One sentence on how to get it; empty when all of it is here."""
        if self.local.state == "installed":
            return ""
        if self.spec.name == EMBEDDED:
            return "Install vlmchat again: its files are not complete."
        if self.spec.folder is not None:
            return f"Put a whole checkpoint into {self.spec.folder}, or mend the row that names it."
        return f"Get it with: {fetch_command(self.spec.name)}"


def offers(words: str = "", hub: Hub = "auto") -> tuple[Offer, ...]:
    """Return every catalog row that matches ``words``, in listing order. Reads folders, never the network."""
    return tuple(offer(spec, hub) for spec in catalog().filter(words))


def offer(spec: ModelSpec, hub: Hub = "auto", revision: str = "") -> Offer:
    """Look at one row on this machine."""
    if spec.name == EMBEDDED:
        local = inspect(demo_folder(), "package")
    elif spec.folder is not None:
        local = inspect(user_path(spec.folder), "folder")
    else:
        local = look(spec.huggingface, spec.modelscope, hub, revision)
    return Offer(spec, local, can_run(spec.loader, spec.format))


def demo_folder() -> Path:
    """Return the folder of the embedded model, inside the installed package."""
    return Path(vlmchat.__file__).parent / "demo" / "checkpoint"


def fetch_command(reference: str) -> str:
    """Return what downloads a model, by the name or hub id a user types."""
    return f"vlmchat pull {reference}"
