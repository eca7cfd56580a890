"""One running download: what its workers share, and how fast it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event as CancelEvent
from threading import Lock

from vlmchat.hub.agenda import Agenda, Job
from vlmchat.hub.events import DownloadEvent, FileProgress, HubSwitched, Progress
from vlmchat.hub.layout import Layout, own_folder
from vlmchat.hub.limits import Limits
from vlmchat.hub.manifest import Manifest
from vlmchat.hub.plan import DownloadPlan, PlannedFile
from vlmchat.hub.routes import Routes
from vlmchat.hub.source import HubName
from vlmchat.hub.twins import Twins

_WINDOW_S = 5.0
"""Seconds over which the rate is taken."""
_WRONG = 2
"""Times that a hub may give wrong bytes of one file."""


class Transfer:
    """What the workers of one download share.

    Args:
        plan: what to fetch.
        files: what of it is on disk right now.
        layout: where it goes.
        limits: how hard to try.
    """

    def __init__(self, plan: DownloadPlan, files: Sequence[PlannedFile], layout: Layout, limits: Limits) -> None:
        self.plan = plan
        self.layout = layout
        self.limits = limits
        self.folder = own_folder(layout.root)
        self.stopped = CancelEvent()
        self.events: SimpleQueue[DownloadEvent] = SimpleQueue()
        self.manifest = Manifest.of(layout.root, plan.listing)
        self.routes = Routes(plan, limits, self.stopped)
        self.twins = Twins.of(plan.wanted, plan.hub)
        self.agenda = Agenda(self._job(file) for file in files)
        self.problem: BaseException | None = None
        """What ended it, when that was no wish."""
        self._lock = Lock()

    def fail(self, problem: BaseException) -> None:
        """End the download with ``problem``; the first one is kept."""
        with self._lock:
            if self.problem is None and not self.stopped.is_set():
                self.problem = problem
        self.agenda.end()

    def switch(self, job: Job, hub: HubName, reason: str, down: bool) -> bool:
        """Let another hub go on with ``job``; say whether there is one.

        Args:
            job: what ``hub`` was asked for.
            hub: where it came from.
            reason: why it should not any more, in a few words.
            down: whether files to come should begin there, too.
        """
        other = self.routes.other(hub, job.file)
        if other is None or job.wrong[other] >= _WRONG:
            return False
        with self._lock:
            if job.hub == hub:
                job.hub = other
                if down:
                    self.routes.preferred = other
                self.events.put(HubSwitched(job.file.path, hub, other, job.done, reason))
        return True

    def is_hopeless(self, job: Job, hub: HubName) -> bool:
        """Say whether ``hub`` has given wrong bytes of a file too often."""
        return job.wrong[hub] >= _WRONG

    def _job(self, planned: PlannedFile) -> Job:
        file = planned.remote
        found = self.layout.find(file) or self.twins.find(file)
        return Job(file, self.plan.hub, found, 0 if found else planned.have)


class Meter:
    """Counts bytes over the network into a rate and a time to go."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def read(self, agenda: Agenda, fetched: int) -> Progress:
        """Return how far it is."""
        now = time.monotonic()
        self._seen.append((now, fetched))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        rate = (fetched - before) / (now - began) if now > began else 0.0
        done = agenda.done
        files = tuple(
            FileProgress(job.file.path, job.done, job.file.bytes, job.hub) for job in agenda.jobs if job.at_work
        )
        return Progress(files, done, self._total, fetched, rate, (self._total - done) / rate if rate else None)
