"""From what is wanted to a plan: which hub has it, which files, what of them is here, what room there is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event as CancelEvent

from vlmchat.errors import CheckpointError, HubUnreachable, RepositoryMissing, UnknownModel, VlmchatError
from vlmchat.hub import licences
from vlmchat.hub.background import ask
from vlmchat.hub.faults import Hiccup, offline_error, unreachable
from vlmchat.hub.huggingface import HuggingFace
from vlmchat.hub.layout import Layout, layout_of, own_folder
from vlmchat.hub.limits import Limits
from vlmchat.hub.modelscope import ModelScope
from vlmchat.hub.partial import part_done
from vlmchat.hub.plan import DownloadPlan, Licence, PlannedFile, Wanted
from vlmchat.hub.selection import has_weights, needed
from vlmchat.hub.source import HubName, Listing, RemoteFile, Source
from vlmchat.hub.twins import Twins
from vlmchat.settings import Hub

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./+-]*", re.ASCII)
_TRUE = frozenset({"1", "on", "yes", "true"})
_LIST_ATTEMPTS = 5
_PAGES = {"huggingface": "https://huggingface.co/{}", "modelscope": "https://modelscope.cn/models/{}"}


def make_plan(
    wanted: Wanted,
    hub: Hub = "auto",
    offline: bool = False,
    cancel: CancelEvent | None = None,
    limits: Limits | None = None,
) -> DownloadPlan:
    """Ask a hub what ``wanted`` consists of and look what of it is here.

    Args:
        wanted: what to download.
        hub: the only hub to ask, or ``auto``: Hugging Face first, ModelScope where that cannot serve it.
        offline: raise instead of asking.
        cancel: set it to end with KeyboardInterrupt.
        limits: how hard to try.

    Raises:
        NotInstalled: ``offline`` (or ``HF_HUB_OFFLINE``).
        UnknownModel: no name that a hub could have.
        RepositoryMissing: no such repository or revision, or a private one and no token.
        GatedModel: the hub gives it only to people it knows.
        TokenRefused: the token is wrong, or may not read this.
        HubUnreachable: no hub answers, after all retries.
        CheckpointError: the repository holds no weights that vlmchat reads.
        KeyboardInterrupt: ``cancel`` was set.
    """
    if offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise offline_error(wanted.name)
    hubs = _hubs(wanted, hub)
    listing = _first_listing(wanted, hubs, cancel or CancelEvent(), limits or Limits())
    other = next((name for name in hubs if name != listing.hub), None)
    return _plan(wanted, listing, other)


def open_source(hub: HubName, limits: Limits) -> Source:
    """Return the source of a hub."""
    return HuggingFace(limits.read_s) if hub == "huggingface" else ModelScope()


def list_patiently(source: Source, repository: str, revision: str, cancel: CancelEvent, limits: Limits) -> Listing:
    """List a repository, again after faults that may pass.

    Raises:
        HubUnreachable: all attempts failed.
        GatedModel, TokenRefused, RepositoryMissing, NotInstalled: the hub refused.
        KeyboardInterrupt: ``cancel`` was set.
    """
    wait = limits.backoff_s
    for left in reversed(range(_LIST_ATTEMPTS)):
        try:
            return ask(lambda: source.list_files(repository, revision), cancel)
        except Hiccup as hiccup:
            if hiccup.exhausted or not left:
                raise unreachable(source.hub, hiccup.reason) from None
            pause = wait if hiccup.retry_after is None else hiccup.retry_after
        if cancel.wait(pause):
            break
        wait *= 2
    raise KeyboardInterrupt


def survey(layout: Layout, twins: Twins, files: Sequence[RemoteFile]) -> tuple[PlannedFile, ...]:
    """Look which of ``files`` are on disk, whole or in part. By size alone: nothing is hashed."""
    return tuple(_look(layout, twins, file) for file in files)


def free_bytes(folder: Path) -> int:
    """Return the bytes free for this user on the disk where ``folder`` is or will be."""
    for path in (folder, *folder.parents):
        try:
            return shutil.disk_usage(path).free
        except OSError:
            continue
    return 0


def _hubs(wanted: Wanted, hub: Hub) -> list[HubName]:
    """Return the hubs to ask, in order, after a look at the names that go into requests and paths."""
    hubs: list[HubName] = ["huggingface", "modelscope"] if hub == "auto" else [hub]
    hubs = [name for name in hubs if wanted.repository(name)]
    names = [wanted.repository(name) or "" for name in hubs]
    if not names or not all(_NAME.fullmatch(name) for name in names):
        raise UnknownModel(f"{wanted.name!r} is no name that a hub could have.", "Write it as OWNER/NAME[@revision].")
    if wanted.revision and not _REVISION.fullmatch(wanted.revision):
        raise RepositoryMissing(f"{wanted.revision!r} is no revision.", "Name a branch, a tag or a commit.")
    return hubs


def _first_listing(wanted: Wanted, hubs: Sequence[HubName], cancel: CancelEvent, limits: Limits) -> Listing:
    """Ask the hubs in turn; a hub that is down or lacks it passes the question on."""
    problems: list[VlmchatError] = []
    for name in hubs:
        repository = wanted.repository(name) or ""
        try:
            return list_patiently(open_source(name, limits), repository, wanted.revision, cancel, limits)
        except (HubUnreachable, RepositoryMissing) as problem:
            problems.append(problem)
    # That one is down says more than that another has no such repository.
    raise next((problem for problem in problems if isinstance(problem, HubUnreachable)), problems[0])


def _plan(wanted: Wanted, listing: Listing, other: HubName | None) -> DownloadPlan:
    files = needed(listing.files)
    if not has_weights(files):
        raise CheckpointError(
            f"{listing.repository} holds no weights that vlmchat reads.", "It reads safetensors and .bin files."
        )
    layout = layout_of(listing)
    licence = wanted.licence or listing.licence
    return DownloadPlan(
        wanted=wanted,
        listing=listing,
        folder=layout.folder,
        files=survey(layout, Twins.of(wanted, listing.hub), files),
        licence=Licence(
            licence,
            wanted.licence_url or _PAGES[listing.hub].format(listing.repository),
            licences.is_accepted(wanted.name, licence),
        ),
        free_bytes=free_bytes(layout.root),
        fallback=other,
    )


def _look(layout: Layout, twins: Twins, file: RemoteFile) -> PlannedFile:
    if (layout.find(file) or twins.find(file)) is not None:
        return PlannedFile(file, "present", file.bytes)
    have = part_done(own_folder(layout.root), file) or twins.part_done(file)
    return PlannedFile(file, "partial" if have else "missing", have)
