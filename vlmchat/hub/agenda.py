"""Which worker does what next: files are begun in order, their pieces go out first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition

from vlmchat.hub.partial import Part, Piece
from vlmchat.hub.source import HubName, RemoteFile


@dataclass(slots=True, eq=False)
class Job:
    """One file, from what is on disk to its place in the cache."""

    file: RemoteFile
    hub: HubName
    """The hub its next stream asks."""
    found: Path | None = None
    """Where it lies already; to be hashed before it is used."""
    resumed: int = 0
    """Bytes of an earlier run, until the partial file is opened."""
    part: Part | None = None
    wrong: Counter[HubName] = field(default_factory=Counter)
    """How often each hub gave other bytes than listed."""
    verified: bool = False
    ending: bool = False
    """Whether a worker is busy verifying it."""

    @property
    def done(self) -> int:
        """Bytes on disk, exactly as written."""
        if self.verified or self.found is not None:
            return self.file.bytes
        return self.part.done if self.part is not None else self.resumed

    @property
    def at_work(self) -> bool:
        """Whether bytes of it are coming."""
        return self.part is not None and not self.verified


class Agenda:
    """The work that is left. Any thread may take and give."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs = tuple(jobs)
        self._fresh = deque(self.jobs)
        self._pieces: deque[tuple[Job, Piece]] = deque()
        self._begun: set[str] = set()
        """The keys of files that are begun and not verified."""
        self._changed = Condition()
        self._left = len(self.jobs)
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether every file is verified and in its place."""
        return self._left == 0

    @property
    def done(self) -> int:
        """Bytes on disk over all files."""
        return sum(job.done for job in self.jobs)

    def take(self) -> tuple[Job, Piece | None] | None:
        """Return a piece to fetch, or a file to begin with; wait for one, None when there will be none."""
        with self._changed:
            while not self._ended and self._left:
                if self._pieces:
                    return self._pieces.popleft()
                if (job := self._next_fresh()) is not None:
                    return job, None
                self._changed.wait()
        return None

    def _next_fresh(self) -> Job | None:
        """Return a file to begin with; one with the bytes of another under way waits, for they share a partial file."""
        for job in self._fresh:
            if job.file.key not in self._begun:
                self._fresh.remove(job)
                self._begun.add(job.file.key)
                return job
        return None

    def add_pieces(self, job: Job, pieces: Iterable[Piece]) -> None:
        """Put what is missing of a file up for fetching."""
        with self._changed:
            job.ending = False
            self._pieces.extend((job, piece) for piece in pieces)
            self._changed.notify_all()

    def is_last(self, job: Job) -> bool:
        """Say, to one worker only, that the last byte of a file is on disk."""
        with self._changed:
            if job.ending or job.part is None or not job.part.whole:
                return False
            job.ending = True
            return True

    def verified(self, job: Job) -> None:
        """Count a file as done."""
        with self._changed:
            job.verified = True
            self._begun.discard(job.file.key)
            self._left -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Send everyone home."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
