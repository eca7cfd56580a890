"""Downloads beside the chat: a queue on threads of its own, one model at a time.

What stands where is one frozen :class:`Download` for each model, which any screen may read at any
time; only the ends are told, and that something has moved. Each start of a download has a cancel
event of its own: what an earlier start still says is dropped. What has not come when the app ends
is offered again at its next start, paused.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event as CancelEvent
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from textual.message import Message

from vlmchat.errors import VlmchatError
from vlmchat.settings import Settings
from vlmchat.tui.bridge import Receiver, in_the_tree
from vlmchat.tui.queue_file import read_queue, write_queue

if TYPE_CHECKING:
    from vlmchat.hub.events import DownloadEvent, Progress
    from vlmchat.hub.plan import DownloadPlan
    from vlmchat.hub.source import HubName
    from vlmchat.settings import Hub

State: TypeAlias = Literal["asking", "planned", "waiting", "running", "paused", "failed", "done"]
"""``asking`` a hub for the plan; ``planned``: nobody said yes yet; ``waiting`` for the ones before it."""
BUSY = ("asking", "waiting", "running")
_POLL_S = 0.1
_PATIENCE_S = 2.0
"""How long closing waits: a download ends within a second of being cancelled, and keeps its bytes."""
_AT_ONCE = 32
"""Threads: one downloads, the others ask hubs or wait for their turn."""


@dataclass(frozen=True, slots=True)
class Download:
    """One model's download as it stands."""

    reference: str
    """What the user typed or picked."""
    hub: Hub
    """Where it is asked for."""
    state: State = "asking"
    plan: DownloadPlan | None = None
    progress: Progress | None = None
    remark: DownloadEvent | None = None
    """What happened last that is worth a line."""
    error: VlmchatError | None = None

    @property
    def share(self) -> float:
        """How much is on disk, 0 to 1."""
        if self.state == "done":
            return 1.0
        if self.progress is not None:
            return self.progress.done / max(1, self.progress.total)
        return 1 - self.plan.fetch_bytes / max(1, self.plan.total_bytes) if self.plan is not None else 0.0

    @property
    def other_hub(self) -> HubName | None:
        """The hub it could come from instead."""
        if self.plan is None:
            return None
        other: HubName = "modelscope" if self.plan.hub == "huggingface" else "huggingface"
        return other if self.plan.wanted.repository(other) else None


class DownloadsMoved(Message):
    """Something has moved in the queue."""

    def can_replace(self, message: Message) -> bool:
        """Only that it has matters."""
        return isinstance(message, DownloadsMoved)


class DownloadEnded(Message):
    """A download is done or has failed."""

    def __init__(self, download: Download) -> None:
        super().__init__()
        self.download = download


@dataclass(slots=True, eq=False)
class _Job:
    download: Download
    cancel: CancelEvent = field(default_factory=CancelEvent)
    agreed: CancelEvent = field(default_factory=CancelEvent)
    """Set once the user has said yes to plan and licence."""
    future: Future[None] | None = None


class Downloads:
    """The queue; every method may be called from any thread and returns at once, but for :meth:`close`."""

    def __init__(self, receiver: Receiver, settings: Settings, folder: Path | None = None) -> None:
        """Begin with what ``folder`` remembers of the last start, paused; None remembers nothing."""
        self._receiver = receiver
        self._settings = settings
        self._folder = folder
        self._kept = read_queue(folder) if folder is not None else ()
        self.left = tuple(name for name, _ in self._kept)
        """What the start before left over."""
        self._jobs = {name: _agreed(Download(name, hub, "paused")) for name, hub in self._kept}
        self._lock = RLock()
        self._threads: ThreadPoolExecutor | None = None
        self._open = True

    @property
    def all(self) -> tuple[Download, ...]:
        """Every download of this session and what is left of the one before, in the order of the queue."""
        with self._lock:
            return tuple(job.download for job in self._jobs.values())

    def get(self, reference: str) -> Download | None:
        """Return the download of ``reference``; None where there is none."""
        with self._lock:
            job = self._jobs.get(reference)
            return job.download if job is not None else None

    def plan(self, reference: str) -> None:
        """Ask a hub what ``reference`` takes; nothing is fetched before :meth:`agree`."""
        with self._lock:
            job = self._jobs.get(reference)
            if job is None or job.download.state in {"failed", "done", "paused"}:
                job = self._jobs[reference] = _Job(
                    Download(reference, self._settings.hub), future=job.future if job is not None else None
                )
                self._start(job)

    def agree(self, reference: str) -> None:
        """Say yes to plan and licence: it is fetched when its turn comes."""
        with self._lock:
            if job := self._jobs.get(reference):
                job.agreed.set()
                self._keep()

    def pause(self, reference: str) -> None:
        """Stop it where it is; every byte is kept."""
        with self._lock:
            job = self._jobs.get(reference)
            if job is not None and job.download.state in BUSY:
                job.cancel.set()
                self._change(job, state="paused")

    def resume(self, reference: str, hub: Hub | None = None) -> None:
        """Go on, from ``hub`` where one is given: with a new plan, from the bytes that are here."""
        with self._lock:
            job = self._jobs.get(reference)
            if job is not None and job.download.state in {"paused", "failed"}:
                self._change(job, state="asking", hub=hub or job.download.hub, error=None, remark=None)
                job.cancel = CancelEvent()
                self._start(job)

    def switch(self, reference: str) -> None:
        """Go on from the other hub, where there is one; what it has in common with this one is not fetched again."""
        with self._lock:
            found = self.get(reference)
            if found is not None and found.other_hub is not None and found.state in {*BUSY, "paused", "failed"}:
                self.pause(reference)
                self.resume(reference, found.other_hub)

    def cancel(self, reference: str) -> None:
        """Take it out of the queue; what came stays on disk and is used the next time."""
        with self._lock:
            if job := self._jobs.pop(reference, None):
                job.cancel.set()
                self._keep()
        self._post(DownloadsMoved())

    def close(self) -> bool:
        """Stop everything and keep what came; False when a thread is still at work."""
        with self._lock:
            self._open = False
            for job in self._jobs.values():
                job.cancel.set()
            begun = [job.future for job in self._jobs.values() if job.future is not None]
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        return not wait([future for future in begun if not future.cancelled()], timeout=_PATIENCE_S).not_done

    def _start(self, job: _Job) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="vlmchat-download")
        before, cancel = job.future, job.cancel
        job.future = self._threads.submit(self._run, job, cancel, before)
        job.future.add_done_callback(partial(self._settle, job, cancel))

    def _run(self, job: _Job, cancel: CancelEvent, before: Future[None] | None) -> None:
        """Plan, wait for a yes and for its turn, fetch; on a thread of its own."""
        # Late: the catalog and the hubs' clients are of no use to the first frame.
        from vlmchat.chat import opening
        from vlmchat.hub.events import Planned

        if before is not None:
            wait([before])  # Two starts of one model must not write at the same time.
        wanted = opening.wanted(job.download.reference)
        events = opening.fetch(wanted, job.download.hub, self._settings.offline, cancel)
        with closing(events):  # type: ignore[type-var]  # an iterator by its type, a generator in fact
            planned = next(events)
            assert isinstance(planned, Planned)
            self._tell(job, cancel, state="planned", plan=planned.plan)
            if self._until(job.agreed.is_set, cancel):
                _accept(planned.plan)
                self._tell(job, cancel, state="waiting", progress=None)
            if self._until(lambda: self._is_first(job), cancel):
                self._tell(job, cancel, state="running")
                for event in events:
                    self._take(job, cancel, event)

    def _until(self, condition: Callable[[], bool], cancel: CancelEvent) -> bool:
        """Wait for ``condition``; False when cancelled first."""
        while not cancel.is_set() and not condition():
            cancel.wait(_POLL_S)
        return not cancel.is_set()

    def _is_first(self, job: _Job) -> bool:
        with self._lock:
            queue = [it for it in self._jobs.values() if it.download.state in {"waiting", "running"}]
            # One that is running began before those in front of it were resumed.
            running = next((it for it in queue if it.download.state == "running"), None)
            return (running or next(iter(queue), None)) is job

    def _take(self, job: _Job, cancel: CancelEvent, event: DownloadEvent) -> None:
        from vlmchat.hub.events import Done, FileStarted, Paused, Progress, Verified

        if isinstance(event, Progress):
            self._tell(job, cancel, progress=event)
        elif isinstance(event, Done):
            self._tell(job, cancel, state="done", remark=None)
            self._end(job, cancel)
        elif not isinstance(event, Paused | FileStarted | Verified):
            self._tell(job, cancel, remark=event)

    def _settle(self, job: _Job, cancel: CancelEvent, future: Future[None]) -> None:
        """Turn what ended a start early into a state; runs on its thread."""
        error = None if future.cancelled() else future.exception()
        if error is not None and not cancel.is_set():
            self._tell(job, cancel, state="failed", error=in_the_tree(error))
            self._end(job, cancel)

    def _tell(self, job: _Job, cancel: CancelEvent, **values: Any) -> None:
        """Change a download, unless this start of it is no longer the one that counts."""
        with self._lock:
            if job.cancel is cancel and not cancel.is_set():
                self._change(job, **values)

    def _change(self, job: _Job, **values: Any) -> None:
        job.download = replace(job.download, **values)
        self._keep()
        self._post(DownloadsMoved())

    def _keep(self) -> None:
        """Remember what the user said yes to and what has not come yet, when that has changed; under the lock."""
        jobs = [job.download for job in self._jobs.values() if job.agreed.is_set() and job.download.state != "done"]
        queue = tuple((it.reference, it.hub) for it in jobs)
        if self._folder is not None and queue != self._kept:
            self._kept = queue
            write_queue(self._folder, queue)

    def _end(self, job: _Job, cancel: CancelEvent) -> None:
        if not cancel.is_set():
            self._post(DownloadEnded(job.download))

    def _post(self, message: Message) -> None:
        # The app may end between the question and the post: then its event loop is closed.
        with suppress(RuntimeError):
            if self._open:
                self._receiver.post_message(message)


def _agreed(download: Download) -> _Job:
    """Return a job for a download that the user said yes to at an earlier start."""
    job = _Job(download)
    job.agreed.set()
    return job


def _accept(plan: DownloadPlan) -> None:
    """Remember that the user accepted the licence."""
    from vlmchat.hub import licences

    if plan.licence.name and not plan.licence.accepted:
        licences.accept(plan.wanted.name, plan.licence.name, plan.licence.url)
