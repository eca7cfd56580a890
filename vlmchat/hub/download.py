"""Plan a download, then run it as one stream of events. No screen, no prompt: any front end, any thread.

::

    plan = make_plan(Wanted.of(spec))          # one or two questions to a hub
    for event in download(plan, cancel):       # until Done, or Paused after cancel.set()
        ...

Both take ``cancel`` (a ``threading.Event``) and end within a second once it is set, even while a
server says nothing; every byte on disk is kept, and the next ``download`` goes on there. A partial
file lies in the repository's own folder of the cache, ``.vlmchat/<hash>.part``.

Environment, read on each call: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``, ``HF_HUB_CACHE``,
``HF_HUB_OFFLINE``; ``MODELSCOPE_ENDPOINT`` (or ``MODELSCOPE_DOMAIN``), ``MODELSCOPE_API_TOKEN``,
``MODELSCOPE_CACHE``; ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty
from threading import Event as CancelEvent

from filelock import FileLock, Timeout

from vlmchat.errors import DiskFull
from vlmchat.hub.crew import Crew
from vlmchat.hub.events import Done, DownloadEvent, Paused, Planned, Waiting
from vlmchat.hub.faults import disk_error
from vlmchat.hub.layout import Layout, layout_of, own_folder
from vlmchat.hub.limits import Limits
from vlmchat.hub.plan import DownloadPlan, PlannedFile, Wanted
from vlmchat.hub.planning import free_bytes, make_plan, survey
from vlmchat.hub.transfer import Meter, Transfer
from vlmchat.hub.twins import Twins

__all__ = ["DownloadPlan", "Limits", "Wanted", "download", "make_plan"]

_MARGIN = 1024**2
"""Bytes that manifests, links and blocks filled in part take besides."""
_TICK_S = 0.1
_LOCK_POLL_S = 0.2


def download(
    plan: DownloadPlan, cancel: CancelEvent | None = None, limits: Limits | None = None
) -> Iterator[DownloadEvent]:
    """Carry out ``plan``; see :mod:`vlmchat.hub.events` for what comes. Does not ask about licences.

    Closing the generator early is as good as setting ``cancel``.

    Raises:
        DiskFull: too little room, before the first byte; or the disk ran full. What came is kept.
        CacheNotWritable: the cache may not be written by this user.
        HubUnreachable: no hub goes on, after all retries. What came is kept.
        GatedModel, TokenRefused, RepositoryMissing: the hub changed its mind.
        AlteredDownload: a file came wrong from every hub, twice each. It is dropped, the rest is kept.
    """
    cancel = cancel or CancelEvent()
    layout = layout_of(plan.listing)
    yield Planned(plan)
    lock = FileLock(own_folder(layout.root) / "lock", thread_local=False, mode=0o664)
    try:
        waiting = not _acquire(lock, plan)
        if waiting:
            yield Waiting(plan.listing.repository)
        while waiting and not cancel.wait(_LOCK_POLL_S):
            waiting = not _acquire(lock, plan)
        if waiting:
            yield Paused(sum(file.have for file in plan.files), plan.total_bytes)
            return
        yield from _run(plan, layout, cancel, limits or Limits())
    finally:
        lock.release()


def _acquire(lock: FileLock, plan: DownloadPlan) -> bool:
    """Take the repository for this process; a complete one may be used where it cannot be locked."""
    try:
        own_folder(layout_of(plan.listing).root).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as problem:
        if not plan.complete:
            raise disk_error(problem, layout_of(plan.listing).root) from problem
    return True


def _run(plan: DownloadPlan, layout: Layout, cancel: CancelEvent, limits: Limits) -> Iterator[DownloadEvent]:
    files = survey(layout, Twins.of(plan.wanted, plan.hub), [file.remote for file in plan.files])
    _check_room(layout, files)
    transfer = Transfer(plan, files, layout, limits)
    crew = Crew(transfer)
    meter = Meter(plan.total_bytes)
    try:
        while transfer.problem is None and not transfer.agenda.finished and not cancel.is_set():
            yield from _events(transfer, _TICK_S)
            yield meter.read(transfer.agenda, crew.fetched)
        yield from _events(transfer, 0.0)
        if transfer.problem is not None:
            raise transfer.problem
        if not transfer.agenda.finished:
            crew.dismiss()
            yield Paused(transfer.agenda.done, plan.total_bytes)
            return
        yield meter.read(transfer.agenda, crew.fetched)
        _finish(plan, layout)
        yield Done(plan.folder, plan.listing.commit, plan.hub, plan.total_bytes, crew.fetched)
    finally:
        crew.dismiss()


def _events(transfer: Transfer, wait_s: float) -> Iterator[DownloadEvent]:
    """Yield what the workers have told, after waiting for a first word."""
    with suppress(Empty):
        yield transfer.events.get(timeout=wait_s) if wait_s else transfer.events.get_nowait()
        while True:
            yield transfer.events.get_nowait()


def _check_room(layout: Layout, files: Sequence[PlannedFile]) -> None:
    """Refuse before the first byte what cannot end well."""
    needed = sum(file.remote.bytes - file.have for file in files)
    free = free_bytes(layout.root)
    if needed and needed + _MARGIN > free:
        raise DiskFull(
            f"{needed / 1e6:,.0f} MB are to come, and the disk of {layout.root} has {free / 1e6:,.0f} MB free.",
            "Make room, or put the cache on another disk with HF_HOME or MODELSCOPE_CACHE.",
        )


def _finish(plan: DownloadPlan, layout: Layout) -> None:
    try:
        layout.finish(file.remote for file in plan.files)
    except OSError as problem:
        raise disk_error(problem, layout.root) from problem
