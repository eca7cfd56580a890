"""The plan of a download: which files, how many bytes, from where, to where, under which licence.

Made with one or two questions to one hub, before a byte of any file. :func:`vlmchat.hub.download.plan`
makes it, :func:`vlmchat.hub.download.download` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vlmchat.catalog.spec import ModelSpec
from vlmchat.hub.source import HubName, Listing, RemoteFile

FileState: TypeAlias = Literal["present", "partial", "missing"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to download: a row of the catalog, or any repository."""

    name: str
    """As the user should see it: ``internvl2:1b`` or ``OWNER/NAME``."""
    huggingface: str | None = None
    """``OWNER/NAME`` there; None: not to be had there."""
    modelscope: str | None = None
    """``OWNER/NAME`` there; None: not to be had there."""
    revision: str = ""
    """Branch, tag or commit; empty is the hub's main branch."""
    licence: str = ""
    """Empty: as the hub names it."""
    licence_url: str = ""

    @classmethod
    def of(cls, spec: ModelSpec, revision: str = "") -> Wanted:
        """Return what to download for a row of the catalog."""
        return cls(spec.name, spec.huggingface, spec.modelscope, revision, spec.licence or "", spec.licence_url or "")

    @property
    def reference(self) -> str:
        """What a user types for it."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def repository(self, hub: HubName) -> str | None:
        """Return its ``OWNER/NAME`` on ``hub``."""
        return self.huggingface if hub == "huggingface" else self.modelscope


@dataclass(frozen=True, slots=True)
class Licence:
    """What the weights come under."""

    name: str
    """Empty: neither the catalog nor the hub names one."""
    url: str
    """Where to read it."""
    accepted: bool
    """Whether the user accepted it before (:mod:`vlmchat.hub.licences`)."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file and how much of it is here."""

    remote: RemoteFile
    state: FileState
    """``present``: in the cache with the right size, and verified before it is used."""
    have: int
    """Bytes on disk that need not be fetched, if they prove right."""


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """Everything a user should know before the first byte."""

    wanted: Wanted
    listing: Listing
    """Where it comes from, with all files of the repository."""
    folder: Path
    """Where the files will be: a snapshot folder in the hub's own cache."""
    files: tuple[PlannedFile, ...]
    """Only what a model needs: weights in one format, configs, tokenizer. Never code."""
    licence: Licence
    free_bytes: int
    """Free on the disk of that cache, for this user."""
    fallback: HubName | None = None
    """The hub that may take over; asked only when it has to."""

    @property
    def hub(self) -> HubName:
        """The hub it comes from."""
        return self.listing.hub

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.remote.bytes for file in self.files)

    @property
    def fetch_bytes(self) -> int:
        """Bytes that have to come over the network."""
        return self.total_bytes - sum(file.have for file in self.files)

    @property
    def complete(self) -> bool:
        """Whether nothing has to be fetched."""
        return not self.fetch_bytes
