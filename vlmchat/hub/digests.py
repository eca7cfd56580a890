"""Are a checkpoint's files the ones the hub has? Each is hashed and held against what the cache recorded.

Hugging Face's client keeps the hub's own hashes on disk: a file of a snapshot is a link to
``blobs/<hash>``; where links are not to be had, ``trees/<commit>.json`` lists them; and a folder filled
by ``hf download --local-dir`` has a ``.metadata`` file per download, whose second line is the hash. A
large file's hash is its sha256, a small one's the sha1 of its git blob. ModelScope records none on
disk, and its ``.msc`` is a pickle, which is not opened; what vlmchat itself has downloaded from there is
in its manifest (:mod:`vlmchat.hub.manifest`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vlmchat.errors import CheckpointError
from vlmchat.hub.manifest import recorded_sha256

Verdict: TypeAlias = Literal["same", "differs", "unknown"]
_BLOCK = 4 * 1024**2
"""Bytes read at once: how soon a stop is seen, about 10 ms of hashing."""
_WEIGHTS = frozenset({".safetensors", ".bin"})
_CONFIGS = frozenset({".json", ".model", ".jinja", ".tiktoken"})
_VOCABULARIES = frozenset({"merges.txt", "vocab.txt"})
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Hashing:
    """Progress over all files of a folder."""

    name: str
    """The file at work."""
    done: int
    """Bytes hashed so far."""
    total: int
    """Bytes of all files."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file and what the hub says of it."""

    name: str
    bytes: int
    sha256: str
    """Of the file as it lies here."""
    recorded: str
    """The hub's hash of it: a sha256 or the sha1 of its git blob; empty where nothing was recorded."""
    verdict: Verdict
    """``unknown`` where nothing was recorded."""


def is_checked(path: Path) -> bool:
    """Say whether a file is weights, tokenizer or config; code, pictures and calibration leftovers are not."""
    return path.suffix in _WEIGHTS | _CONFIGS or path.name in _VOCABULARIES


def unread_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files of ``folder`` that no part of vlmchat opens: code, documents, leftovers."""
    return tuple(sorted(path.name for path in _files(folder) if not is_checked(path)))


def check_files(folder: Path, stopped: Callable[[], bool]) -> Iterator[Hashing | FileCheck]:
    """Hash the weights, tokenizer and config files of ``folder`` by name; ends early when ``stopped`` says so.

    Raises:
        CheckpointError: a file cannot be read.
    """
    paths = sorted(path for path in _files(folder) if is_checked(path))
    sizes = {path: _size(path) for path in paths}
    total, before = sum(sizes.values()), 0
    for path in paths:
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % sizes[path], usedforsecurity=False)
        done = 0
        for block in _blocks(path):
            if stopped():
                return
            sha256.update(block)
            git.update(block)
            done += len(block)
            yield Hashing(path.name, before + done, total)
        before += done
        yield _checked(path, done, sha256.hexdigest(), git.hexdigest())


def _checked(path: Path, size: int, sha256: str, git: str) -> FileCheck:
    recorded = recorded_hash(path)
    if not recorded:
        return FileCheck(path.name, size, sha256, "", "unknown")
    found = sha256 if len(recorded) == len(sha256) else git
    return FileCheck(path.name, size, sha256, recorded, "same" if found == recorded else "differs")


def recorded_hash(path: Path) -> str:
    """Return the hub's own hash of a file, as the client that fetched it left it; empty where it left none."""
    linked = path.readlink() if path.is_symlink() else Path()
    blob = linked.name if linked.parent.name == "blobs" else ""
    candidates = (blob, _listed(path), _noted(path), recorded_sha256(path))
    return next((found for found in candidates if _HASH.fullmatch(found)), "")


def _listed(path: Path) -> str:
    """Look a file of ``snapshots/<commit>`` up in the listing of that commit."""
    if path.parent.parent.name != "snapshots":
        return ""
    listing = path.parents[2] / "trees" / f"{path.parent.name}.json"
    try:
        entry = json.loads(listing.read_text(encoding="utf-8"))["files"][path.name]
        return str(entry.get("lfs_sha256") or entry["blob_id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _noted(path: Path) -> str:
    """Look into the client's note on a file of a folder that the user named."""
    note = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
    try:
        return note.read_text(encoding="utf-8").splitlines()[1].strip()
    except (OSError, ValueError, IndexError):
        return ""


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.is_file())
    except OSError as problem:
        raise _unreadable(folder, problem) from problem


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> CheckpointError:
    return CheckpointError(f"{path.name} cannot be read: {problem.strerror or problem}.", "Fetch it again.")
