"""What a download tells while it runs: ``pull``, ``ask``, ``pipe`` and the app consume these and nothing else.

The order is ``Planned (Waiting)? (Checking | FileStarted | Progress | Retrying | Slow | HubSwitched |
Restarted | Verified)* (Done | Paused)``; errors are raised from the iterator as
:class:`vlmchat.errors.VlmchatError`. Sizes are bytes, times seconds, rates bytes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vlmchat.hub.source import HubName

if TYPE_CHECKING:
    from vlmchat.hub.plan import DownloadPlan


@dataclass(frozen=True, slots=True)
class Planned:
    """The first event: what is going to be fetched."""

    plan: DownloadPlan


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process downloads the same model; this one waits and then uses what it finds."""

    repository: str


@dataclass(frozen=True, slots=True)
class Checking:
    """What is on disk already is hashed before it is used; nothing is fetched by this."""

    path: str
    done: int
    total: int
    """Bytes of this file that have to be hashed."""


@dataclass(frozen=True, slots=True)
class FileStarted:
    """The first byte of a file is about to be asked for."""

    path: str
    bytes: int
    done: int
    """Bytes that an earlier run left behind and that are used."""
    hub: HubName


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far one file is."""

    path: str
    done: int
    """Bytes on disk, exactly as written."""
    bytes: int
    hub: HubName


@dataclass(frozen=True, slots=True)
class Progress:
    """How far all is; at most about ten times a second, and once more when the last byte is written."""

    files: tuple[FileProgress, ...]
    """The files at work."""
    done: int
    """Bytes on disk over all files of the plan, those that were there before included."""
    total: int
    fetched: int
    """Bytes that came over the network in this run."""
    rate: float
    """Over the last seconds; 0.0 while nothing comes."""
    eta_s: float | None
    """Seconds to go at that rate; None while nothing comes."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """A stream ended badly and will be taken up where it ended."""

    path: str
    hub: HubName
    reason: str
    """A few words without any link: ``connection reset``, ``status 503``."""
    wait_s: float


@dataclass(frozen=True, slots=True)
class Slow:
    """A file comes below the floor rate, and no other hub has it."""

    path: str
    hub: HubName
    rate: float


@dataclass(frozen=True, slots=True)
class HubSwitched:
    """Another hub with the same bytes goes on at the byte where the first one ended."""

    path: str
    before: HubName
    after: HubName
    at: int
    """Bytes on disk at that moment."""
    reason: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """What came was not the file the hub lists; it is dropped and fetched again, alone."""

    path: str
    dropped: int
    """Bytes that no longer count as done."""
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A file is whole, its hash is the hub's, and it is in its place."""

    path: str
    hash: str
    """sha256, or the git sha1 of a small file on Hugging Face; lower-case hex."""
    fetched: bool
    """False where it was on disk already."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The last event when ``cancel`` was set: all bytes are kept, the same plan goes on from here."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last event: the whole checkpoint is in the hub's own cache, verified."""

    folder: Path
    revision: str
    hub: HubName
    bytes: int
    """Of all files of the plan."""
    fetched: int
    """Bytes that came over the network in this run."""


DownloadEvent: TypeAlias = (
    Planned
    | Waiting
    | Checking
    | FileStarted
    | Progress
    | Retrying
    | Slow
    | HubSwitched
    | Restarted
    | Verified
    | Paused
    | Done
)
