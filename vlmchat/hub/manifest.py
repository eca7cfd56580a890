"""What was verified: one JSON file per revision, so that later checks need no network.

It lies beside the weights (``.vlmchat/<revision>.json``) and says of every file its hashes and the time
of its last change: a file that has not been touched since needs no second hashing before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock

from vlmchat.hub.layout import own_folder
from vlmchat.hub.source import Listing, RemoteFile
from vlmchat.paths import write_whole


@dataclass(frozen=True, slots=True)
class Entry:
    """One verified file."""

    bytes: int
    sha256: str
    git_sha1: str
    """Empty where its hub names none."""
    mtime_ns: int


@dataclass(slots=True)
class Manifest:
    """The verified files of one revision. Any thread may add to it."""

    path: Path
    listing: Listing
    entries: dict[str, Entry] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, root: Path, listing: Listing) -> Manifest:
        """Read what is known of ``listing``; empty when nothing is."""
        path = _path(root, listing.commit)
        return cls(path, listing, dict(_read(path)))

    def sha256_of(self, file: RemoteFile, path: Path) -> str:
        """Return the sha256 of ``file`` at ``path`` if it was verified and has not been touched since, else nothing."""
        entry = self.entries.get(file.path)
        if entry is None or file.key not in {entry.sha256, entry.git_sha1}:
            return ""
        try:
            state = path.stat()
        except OSError:
            return ""
        return entry.sha256 if (state.st_size, state.st_mtime_ns) == (entry.bytes, entry.mtime_ns) else ""

    def add(self, file: RemoteFile, path: Path, sha256: str) -> None:
        """Note a verified file. A cache that cannot be written stays without: it will be hashed again."""
        with self._lock, suppress(OSError):
            self.entries[file.path] = Entry(file.bytes, sha256, file.git_sha1, path.stat().st_mtime_ns)
            self._write()

    def _write(self) -> None:
        content = {
            "hub": self.listing.hub,
            "repository": self.listing.repository,
            "revision": self.listing.revision,
            "commit": self.listing.commit,
            "files": {name: asdict(entry) for name, entry in sorted(self.entries.items())},
        }
        write_whole(self.path, json.dumps(content, ensure_ascii=False, indent=1))


def recorded_sha256(path: Path) -> str:
    """Return the sha256 that was verified of a file in a hub's cache; empty where none was recorded."""
    folder = path.parent
    root = folder.parents[1] if folder.parent.name == "snapshots" else folder
    for manifest in (_path(root, folder.name), *_manifests(root, folder)):
        entry = _read(manifest).get(path.name)
        if entry is not None:
            return entry.sha256
    return ""


def _manifests(root: Path, folder: Path) -> list[Path]:
    """Return the manifests of a folder that keeps all revisions in one place: a ModelScope cache of old."""
    return [] if folder != root else sorted(own_folder(root).glob("*.json"))


def _path(root: Path, commit: str) -> Path:
    return own_folder(root) / f"{commit.replace('/', '--')}.json"


def _read(path: Path) -> Mapping[str, Entry]:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): Entry(**entry) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
