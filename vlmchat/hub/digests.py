"""Are a checkpoint's files the ones the hub has? Each is hashed and held against what the cache recorded.

Hugging Face's cache keeps the hub's own hashes on disk: a file of a snapshot is a link to
``blobs/<hash>``, and a folder filled by ``hf download --local-dir`` has one ``.metadata`` file per
download, whose second line is the hash. A large file's hash is its sha256, a small one's the sha1 of
its git blob. ModelScope records none on disk, and its ``.msc`` is a pickle, which is not opened.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vlmchat.errors import CheckpointError

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
    sizes = {path: path.stat().st_size for path in paths}
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
    if path.is_symlink():
        target = path.readlink()
        if target.parent.name == "blobs" and _HASH.fullmatch(target.name):
            return target.name
    try:
        noted = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
        lines = noted.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return lines[1].strip() if len(lines) > 1 and _HASH.fullmatch(lines[1].strip()) else ""


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.is_file())
    except OSError as problem:
        raise _unreadable(folder, problem) from problem


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> CheckpointError:
    return CheckpointError(f"{path.name} cannot be read: {problem.strerror or problem}.", "Fetch it again.")
