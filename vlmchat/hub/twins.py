"""The same checkpoint in the other hub's cache: its files and partial files need not be fetched twice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlmchat.hub.layout import own_folder, repository_root
from vlmchat.hub.partial import part_done, part_paths
from vlmchat.hub.plan import Wanted
from vlmchat.hub.source import HubName, RemoteFile


@dataclass(frozen=True, slots=True)
class Twins:
    """What lies in the other hub's cache. Only files with a sha256 are looked for: a name proves nothing."""

    root: Path | None
    """Its folder of the repository; None where there is none."""
    hub: HubName

    @classmethod
    def of(cls, wanted: Wanted, hub: HubName) -> Twins:
        """Return the twins of a checkpoint that comes from ``hub``."""
        other: HubName = "modelscope" if hub == "huggingface" else "huggingface"
        repository = wanted.repository(other)
        return cls(repository_root(other, repository) if repository else None, other)

    def find(self, file: RemoteFile) -> Path | None:
        """Return a file of the same size that has or may have the same hash."""
        if self.root is None or not file.sha256:
            return None
        if self.hub == "huggingface":
            candidates = [self.root / "blobs" / file.sha256]
        else:
            candidates = sorted(self.root.glob(f"snapshots/*/{file.path}"))
        for path in candidates:
            with suppress(OSError):
                if path.stat().st_size == file.bytes:
                    return path
        return None

    def part_done(self, file: RemoteFile) -> int:
        """Return the bytes of a partial file there."""
        return part_done(own_folder(self.root), file) if self.root is not None and file.sha256 else 0

    def take_part(self, file: RemoteFile, folder: Path) -> None:
        """Move a partial file from there into ``folder``; on another disk it stays where it is."""
        if self.root is None or not self.part_done(file):
            return
        with suppress(OSError):
            for before, after in zip(part_paths(own_folder(self.root), file), part_paths(folder, file), strict=True):
                before.replace(after)
