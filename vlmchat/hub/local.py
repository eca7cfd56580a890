"""What the hubs' own caches hold on this machine: found by path, read only, no client imported, no network.

The layouts are those of huggingface_hub 2.4 (``models--OWNER--NAME/{refs,snapshots}``, files linked into
``blobs``) and of modelscope-hub 0.5 (``models/OWNER--NAME/snapshots/REVISION``; before 1.38
``models/OWNER/NAME`` with ``___`` for a dot, also below ``hub/``). Weights stay there, shared with every
other tool.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from vlmchat.paths import user_path

OWN_FOLDER = ".vlmchat"
"""In a repository's folder of a cache: partial files, manifests and the lock of vlmchat's own downloads."""
State: TypeAlias = Literal["installed", "partial", "missing"]
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.bin)")
_WEIGHTS = (".safetensors", ".bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True, slots=True)
class Local:
    """What was found of one checkpoint."""

    state: State
    """``partial``: a folder is there, but a file it needs is not."""
    hub: str = ""
    """The hub whose cache it lies in; empty when missing."""
    folder: Path | None = None
    revision: str = ""
    """Commit on Hugging Face; the name of the branch on ModelScope, which pins no commits."""
    bytes: int = 0
    """Of all files in the folder; one under several names counts once."""
    missing: tuple[str, ...] = ()
    """Names of needed files that are not there."""


def look(huggingface: str | None, modelscope: str | None, hub: str = "auto", revision: str = "") -> Local:
    """Look for a checkpoint by its ids on both hubs, the first complete copy first.

    Args:
        huggingface: ``OWNER/NAME`` there, or None.
        modelscope: ``OWNER/NAME`` there, or None.
        hub: ``huggingface`` or ``modelscope`` to look at that one alone.
        revision: branch, tag or commit; empty takes the main branch, else any copy.
    """
    found: list[Local] = []
    if huggingface and hub in {"auto", "huggingface"}:
        found += (inspect(f, "huggingface", f.name) for f in _huggingface_folders(huggingface, revision))
    if modelscope and hub in {"auto", "modelscope"}:
        found += (inspect(f, "modelscope", f.name) for f in _modelscope_folders(modelscope, revision))
    if whole := [copy for copy in found if copy.state == "installed"]:
        return whole[0]
    begun = list(_begun(huggingface, modelscope, hub))
    parts = sum(copy.bytes for copy in begun)
    partial = [replace(copy, bytes=copy.bytes + parts) for copy in found if copy.state == "partial"]
    return next(iter(partial + begun), Local("missing"))


def inspect(folder: Path, hub: str = "", revision: str = "") -> Local:
    """Say whether ``folder`` holds a whole checkpoint: config, tokenizer and every weights file it names."""
    try:
        files = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    except OSError:
        return Local("missing")
    sizes = {name: file.st_size for name, file in files.items()}
    # Names that share a blob take its room once.
    held = {(file.st_dev, file.st_ino): file.st_size for file in files.values()}
    missing = tuple(_missing(folder, sizes))
    if not sizes:
        return Local("missing")
    return Local("partial" if missing else "installed", hub, folder, revision, sum(held.values()), missing)


def _begun(huggingface: str | None, modelscope: str | None, hub: str) -> Iterator[Local]:
    """Yield downloads of vlmchat's own that have not finished: their partial files lie beside the snapshots."""
    roots: list[tuple[str, Path]] = []
    if huggingface and hub in {"auto", "huggingface"}:
        roots.append(("huggingface", huggingface_cache() / f"models--{huggingface.replace('/', '--')}"))
    if modelscope and hub in {"auto", "modelscope"}:
        roots.append(("modelscope", modelscope_cache() / "models" / modelscope.replace("/", "--")))
    for name, root in roots:
        if size := sum(_allocated(path) for path in (root / OWN_FOLDER).glob("*.part")):
            yield Local("partial", name, root, "", size, ("the rest of its download",))


def _allocated(path: Path) -> int:
    """Return the bytes a file takes on disk: a partial one has holes."""
    try:
        state = path.stat()
    except OSError:
        return 0
    blocks: int | None = getattr(state, "st_blocks", None)
    return state.st_size if blocks is None else min(state.st_size, blocks * 512)


def huggingface_cache() -> Path:
    """Return where huggingface_hub keeps its files, by its own environment variables."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return user_path(os.environ[variable])
    if os.environ.get("HF_HOME"):
        return user_path(os.environ["HF_HOME"]) / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(base) / "huggingface" / "hub"


def modelscope_cache() -> Path:
    """Return where modelscope-hub keeps its files, by its own environment variable."""
    return user_path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope")


def _huggingface_folders(repository: str, revision: str) -> Iterator[Path]:
    """Yield snapshots of ``repository``: the one ``revision`` names, or the main branch's, then the rest."""
    root = huggingface_cache() / f"models--{repository.replace('/', '--')}"
    snapshots = root / "snapshots"
    named = _read(root / "refs" / (revision or "main"))
    if revision:
        yield snapshots / (named or revision)
        return
    if named:
        yield snapshots / named
    yield from (path for path in _newest_first(snapshots) if path.name != named)


def _modelscope_folders(repository: str, revision: str) -> Iterator[Path]:
    base = modelscope_cache()
    owner, _, name = repository.partition("/")
    snapshots = base / "models" / f"{owner}--{name}" / "snapshots"
    if revision:
        yield snapshots / revision
        return
    yield from sorted(_newest_first(snapshots), key=lambda path: path.name not in {"master", "main"})
    old = Path("models") / owner / name.replace(".", "___")
    yield base / old
    yield base / "hub" / old


def _missing(folder: Path, sizes: dict[str, int]) -> Iterator[str]:
    if "config.json" not in sizes:
        yield "config.json"
    if not any(name in sizes for name in _TOKENIZERS):
        yield "a tokenizer"
    indexes = [name for name in sizes if name.endswith(".index.json")]
    wanted = {shard for name in indexes for shard in _shards(folder / name)}
    wanted |= {shard for name in sizes for shard in _siblings(name)}
    yield from sorted(shard for shard in wanted if not sizes.get(shard))
    if not wanted and not any(name.endswith(_WEIGHTS) and size for name, size in sizes.items()):
        yield "the weights"


def _shards(index: Path) -> set[str]:
    """Return the files an index names; an index that cannot be read names itself, as one to fetch again."""
    try:
        return {str(shard) for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {f"a readable {index.name}"}


def _siblings(name: str) -> Iterator[str]:
    """Yield all shards of the set ``model-00002-of-00004.safetensors`` belongs to: the index may come last."""
    shard = _SHARD.fullmatch(name)
    if shard:
        start, total, suffix = shard.groups()
        yield from (f"{start}-{number:05}-of-{total}{suffix}" for number in range(1, int(total) + 1))


def _newest_first(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
