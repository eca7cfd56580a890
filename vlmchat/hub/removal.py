"""What a checkpoint takes on disk in the hubs' caches, and how it is removed: by the official clients."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vlmchat.errors import CacheNotWritable, DownloadError
from vlmchat.hub.faults import disk_error
from vlmchat.hub.layout import legacy_roots, own_folder, repository_root
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.hub.plan import Wanted
from vlmchat.hub.source import HubName
from vlmchat.settings import Hub


@dataclass(frozen=True, slots=True)
class Removal:
    """One repository in one hub's cache, with all its revisions and partial files."""

    hub: HubName
    repository: str
    folder: Path
    files: int
    bytes: int
    """What the disk gets back: a file that has another name elsewhere frees nothing."""


def removals(wanted: Wanted, hub: Hub = "auto") -> tuple[Removal, ...]:
    """Return what there is to remove of ``wanted``, in the caches of ``hub`` or of both. Reads only."""
    hubs: tuple[HubName, ...] = ("huggingface", "modelscope") if hub == "auto" else (hub,)
    pairs = [(name, repository) for name in hubs if (repository := wanted.repository(name))]
    folders = [(name, repository, folder) for name, repository in pairs for folder in _folders(name, repository)]
    inodes = [_inodes(folder) for _, _, folder in folders]
    gone = _count(entry for found in inodes for entry in found)
    counted: set[tuple[int, int]] = set()
    result = []
    for (name, repository, folder), found in zip(folders, inodes, strict=True):
        freed = sum(size for key, size, links in set(found) if key not in counted and gone[key] == links)
        counted |= {key for key, _, _ in found}
        result.append(Removal(name, repository, folder, len(found), freed))
    return tuple(result)


def remove(removal: Removal) -> None:
    """Remove one repository from its cache.

    Raises:
        DownloadError: it is being downloaded right now.
        CacheNotWritable: it belongs to someone else.
    """
    lock = FileLock(own_folder(removal.folder) / "lock", thread_local=False)
    try:
        if own_folder(removal.folder).is_dir():
            lock.acquire(timeout=0)
        if removal.hub == "huggingface":
            _remove_revisions(removal.folder)
        else:
            _clear(removal.repository)
        if removal.folder.is_dir():
            # What no client lists: a download that has not finished its first file, a folder of an older layout.
            shutil.rmtree(removal.folder)
    except Timeout:
        raise DownloadError(
            f"{removal.repository} is being downloaded right now.", "Stop that first, or wait for it."
        ) from None
    except OSError as problem:
        raise disk_error(problem, removal.folder) from problem
    finally:
        lock.release()
    if removal.folder.exists():
        raise CacheNotWritable(f"{removal.folder} cannot be removed.", "Check whom it belongs to.")


def _remove_revisions(folder: Path) -> None:
    """Let Hugging Face's client remove every revision it knows of the repository."""
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir(huggingface_cache())
    commits = [
        revision.commit_hash
        for repo in found.repos
        if repo.repo_path == folder.resolve()
        for revision in repo.revisions
    ]
    if commits:
        found.delete_revisions(*commits).execute()


def _clear(repository: str) -> None:
    """Let ModelScope's client remove the repository, in whichever layout."""
    from modelscope_hub import HubApi, HubConfig
    from modelscope_hub.errors import CacheError

    try:
        HubApi(HubConfig(endpoint="https://modelscope.cn")).clear_cache(
            cache_dir=modelscope_cache(), repo_type="model", repo_id=repository
        )
    except CacheError as problem:
        if isinstance(problem.__cause__, OSError):
            raise problem.__cause__ from None
        raise


def _folders(hub: HubName, repository: str) -> list[Path]:
    roots = [repository_root(hub, repository), *(legacy_roots(repository) if hub == "modelscope" else ())]
    return [root for root in roots if root.is_dir()]


def _inodes(folder: Path) -> list[tuple[tuple[int, int], int, int]]:
    """Return (file, bytes, names it has) for every name below ``folder``; links to names count nothing."""
    return list(_walk(folder))


def _walk(folder: Path) -> Iterator[tuple[tuple[int, int], int, int]]:
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                state = (Path(path) / name).lstat()
            except OSError:
                continue
            allocated = getattr(state, "st_blocks", None)
            # A partial file has holes.
            size = state.st_size if allocated is None else min(state.st_size, allocated * 512)
            yield (state.st_dev, state.st_ino), size, state.st_nlink


def _count(entries: Iterable[tuple[tuple[int, int], int, int]]) -> dict[tuple[int, int], int]:
    """Return how many of its names each file loses."""
    counts: dict[tuple[int, int], int] = {}
    for key, _, _ in entries:
        counts[key] = counts.get(key, 0) + 1
    return counts
