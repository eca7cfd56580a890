"""What a loopback hub holds: files on disk with their hashes, commits of them, repositories with branches."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

LFS_SUFFIXES = (".safetensors", ".bin", ".model")
MIB = 1024 * 1024
_BLOCK = 4 * MIB


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file as a hub lists it; ``size`` and hashes can be made to lie with ``dataclasses.replace``."""

    path: str
    location: Path
    """Where its bytes lie: the server sends them from there."""
    size: int
    sha256: str
    git_sha1: str
    """The id of its git blob: the hash a hub knows of a file that is not in LFS."""
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_sha1


def hub_file(path: str, location: Path, lfs: bool | None = None) -> HubFile:
    """Hash the file at ``location``; without ``lfs`` the suffix says whether it is a large one."""
    size = location.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for block in _blocks(location):
        sha256.update(block)
        git.update(block)
    large = path.endswith(LFS_SUFFIXES) if lfs is None else lfs
    return HubFile(path, location, size, sha256.hexdigest(), git.hexdigest(), large)


def _blocks(location: Path) -> Iterator[bytes]:
    with location.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def noise(seed: str, size: int) -> bytes:
    """Return ``size`` bytes that depend on ``seed`` alone and cannot be compressed."""
    return random.Random(seed).randbytes(size)


@dataclass(slots=True)
class Repository:
    """One repository of one hub."""

    id: str
    branch: str
    """The main branch: ``main`` on Hugging Face, ``master`` on ModelScope."""
    commits: dict[str, dict[str, HubFile]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    license: str = "apache-2.0"
    license_link: str = ""
    private: bool = False
    gated: bool = False
    readers: frozenset[str] = frozenset()
    """Users who may see a private repository, or whose request to a gated one was granted."""
    xet: bool = False
    """Announce large files as stored in Xet, as the real hub does; they stay to be had over HTTP."""
    hashes: bool = True
    """Whether the listing names sha256 at all."""

    def commit(self, files: Mapping[str, HubFile]) -> str:
        """Put ``files`` in the place of what was there, on the main branch; return the commit."""
        listing = json.dumps([self.id, len(self.commits), [(f.path, f.etag) for f in files.values()]])
        commit = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[self.branch] = commit
        return commit

    def resolve(self, revision: str) -> str:
        """Return the commit of a branch, a tag or a commit; empty where there is none."""
        if revision in self.branches:
            return self.branches[revision]
        return revision if revision in self.commits else ""

    @property
    def head(self) -> str:
        return self.branches[self.branch]

    @property
    def files(self) -> dict[str, HubFile]:
        return self.commits[self.head]

    def lie(self, path: str, **said: object) -> None:
        """List ``path`` from now on with other facts than its true ones."""
        self.files[path] = replace(self.files[path], **said)  # type: ignore[arg-type]


def by_hash(repositories: Mapping[str, Repository], sha256: str) -> HubFile | None:
    """Find a stored file by its hash, in whatever commit."""
    for repository in repositories.values():
        for files in repository.commits.values():
            for file in files.values():
                if file.sha256 == sha256:
                    return file
    return None
