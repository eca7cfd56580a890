"""Where a hub's own cache keeps a checkpoint, and how a finished file gets there.

Hugging Face's layout is documented (blobs named by hash, a snapshot folder of links per commit, refs);
ModelScope's is a plain folder per revision. Official clients find what is put there and fetch nothing.
Our own folder ``.vlmchat`` beside them holds partial files, manifests and the lock, and goes with the
repository when any tool removes it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vlmchat.hub.local import OWN_FOLDER, huggingface_cache, modelscope_cache
from vlmchat.hub.source import HubName, Listing, RemoteFile
from vlmchat.paths import write_whole


class Layout(Protocol):
    """The place of one checkpoint at one revision."""

    @property
    def root(self) -> Path:
        """The folder of the repository, with all its revisions."""
        ...

    @property
    def folder(self) -> Path:
        """The folder that holds the files under their own names."""
        ...

    def find(self, file: RemoteFile) -> Path | None:
        """Return where ``file`` lies with the right size; None where it does not. Nothing is hashed."""
        ...

    def place(self, file: RemoteFile, move: Callable[[Path], None]) -> Path:
        """Let ``move`` put a verified file where it belongs, and return that place.

        Raises:
            OSError: the disk refused.
        """
        ...

    def finish(self, files: Iterable[RemoteFile]) -> None:
        """Let all ``files``, each found or placed before, appear in :attr:`folder`: the revision is whole.

        Raises:
            OSError: the disk refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class HuggingFaceLayout:
    """``models--OWNER--NAME/{blobs,snapshots,refs}``."""

    root: Path
    revision: str
    commit: str

    @property
    def folder(self) -> Path:
        """The snapshot of the commit."""
        return self.root / "snapshots" / self.commit

    def find(self, file: RemoteFile) -> Path | None:
        """Look in the snapshot first: where links are not to be had, the files themselves lie there."""
        return _of_size((self.folder / file.path, self._blob(file)), file)

    def place(self, file: RemoteFile, move: Callable[[Path], None]) -> Path:
        """Put it among the blobs."""
        blob = self._blob(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        move(blob)
        self._link(file)
        return blob

    def finish(self, files: Iterable[RemoteFile]) -> None:
        """Link what was there before, and let the branch or tag that was asked for mean this commit."""
        for file in files:
            self._link(file)
        ref = self.root / "refs" / self.revision
        with suppress(OSError):
            if self.revision == self.commit or ref.read_text(encoding="utf-8") == self.commit:
                return
        write_whole(ref, self.commit)

    def _link(self, file: RemoteFile) -> None:
        """Link it into the snapshot; a file system without links gets the file itself, as the client does."""
        pointer, blob = self.folder / file.path, self._blob(file)
        target = Path(os.path.relpath(blob, pointer.parent))
        if not blob.exists() or (pointer.is_symlink() and pointer.readlink() == target):
            return
        pointer.parent.mkdir(parents=True, exist_ok=True)
        fresh = pointer.with_name(f"{pointer.name}.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        try:
            fresh.symlink_to(target)
            fresh.replace(pointer)
        except (OSError, NotImplementedError):
            blob.replace(pointer)

    def _blob(self, file: RemoteFile) -> Path:
        return self.root / "blobs" / file.key


@dataclass(frozen=True, slots=True)
class ModelScopeLayout:
    """``models/OWNER--NAME/snapshots/REVISION``, or the folder that a client before 1.38 has filled."""

    root: Path
    folder: Path

    def find(self, file: RemoteFile) -> Path | None:
        """Look among the files that wait, then in the folder."""
        return _of_size((self._held(file), self.folder / file.path), file)

    def place(self, file: RemoteFile, move: Callable[[Path], None]) -> Path:
        """Put it into the folder; in place of an older one only when all are there, so that states never mix."""
        target = self.folder / file.path
        if target.exists():
            target = self._held(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        move(target)
        return target

    def finish(self, files: Iterable[RemoteFile]) -> None:
        """Put the files that wait in the place of older ones."""
        for file in files:
            held = self._held(file)
            # Looked at first: a read-only disk refuses even to rename what is not there.
            if held.exists():
                held.replace(self.folder / file.path)

    def _held(self, file: RemoteFile) -> Path:
        name = hashlib.sha256(file.path.encode()).hexdigest()[:16]
        return own_folder(self.root) / f"{file.key}.{name}.whole"


def layout_of(listing: Listing) -> HuggingFaceLayout | ModelScopeLayout:
    """Return the place of a repository in its hub's cache."""
    root = repository_root(listing.hub, listing.repository)
    if listing.hub == "huggingface":
        return HuggingFaceLayout(root, listing.revision, listing.commit)
    for legacy in legacy_roots(listing.repository):
        if legacy.is_dir() and any(legacy.iterdir()):
            return ModelScopeLayout(legacy, legacy)
    return ModelScopeLayout(root, root / "snapshots" / listing.commit)


def repository_root(hub: HubName, repository: str) -> Path:
    """Return the folder of a repository in the hub's cache, whether it is there or not."""
    folder = repository.replace("/", "--")
    if hub == "huggingface":
        return huggingface_cache() / f"models--{folder}"
    return modelscope_cache() / "models" / folder


def legacy_roots(repository: str) -> tuple[Path, Path]:
    """Return where ModelScope's client kept a repository before 1.38; it goes on using a folder that is there."""
    owner, _, name = repository.partition("/")
    old = Path("models") / owner / name.replace(".", "___")
    return modelscope_cache() / old, modelscope_cache() / "hub" / old


def own_folder(root: Path) -> Path:
    """Return the folder of our own in a repository: partial files, manifests, the lock."""
    return root / OWN_FOLDER


def _of_size(candidates: tuple[Path, ...], file: RemoteFile) -> Path | None:
    for path in candidates:
        with suppress(OSError):
            if path.stat().st_size == file.bytes:
                return path
    return None
