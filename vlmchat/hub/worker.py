"""One worker of a download: fetches pieces, takes streams up where they ended, verifies files and places them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from vlmchat.errors import VlmchatError
from vlmchat.hub.agenda import Job
from vlmchat.hub.events import Checking, FileStarted, Restarted, Retrying, Slow, Verified
from vlmchat.hub.faults import Hiccup, TooSlow, altered, disk_error, undelivered
from vlmchat.hub.hashing import Stopped, hash_file
from vlmchat.hub.limits import Limits
from vlmchat.hub.partial import Part, Piece
from vlmchat.hub.source import HubName
from vlmchat.hub.transfer import Transfer
from vlmchat.hub.wire import Refused, Wire

_SWITCH_AFTER = 2
"""Fruitless attempts in a row at one hub before another one is asked."""
_LONG_WAIT_S = 10.0
"""A hub that asks for a longer pause is left for another one at once."""
_LONGEST_BACKOFF_S = 8.0
_TELL_S = 0.1
"""Seconds between two words about hashing."""


class Worker:
    """Runs on a thread of its own until the agenda is empty, or :meth:`cut`."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._wire = Wire(transfer.limits.connect_s, transfer.limits.read_s)
        self.fetched = 0
        """Bytes this worker has had over the network."""

    def run(self) -> None:
        """Work; whatever goes wrong ends the whole download and is told there."""
        try:
            while (task := self._transfer.agenda.take()) is not None:
                job, piece = task
                if piece is None:
                    self._begin(job)
                else:
                    self._fetch(job, piece)
        except (Stopped, KeyboardInterrupt):
            return
        except OSError as problem:
            self._transfer.fail(disk_error(problem, self._transfer.layout.root))
        except BaseException as problem:  # noqa: BLE001 - raised again by the one who reads the events
            self._transfer.fail(problem)
        finally:
            self._wire.close()

    def cut(self) -> None:
        """End what is waited for."""
        self._wire.cut()

    def _begin(self, job: Job) -> None:
        """Use what is on disk, and put up for fetching what is not."""
        if job.found is None:
            # A file with the same bytes may have come meanwhile.
            job.found = self._transfer.layout.find(job.file)
        if job.found is not None:
            if self._accept(job, job.found):
                return
            job.found = None
            self._tell(Restarted(job.file.path, job.file.bytes, "what is on disk is not what the hub lists"))
        self._transfer.folder.mkdir(parents=True, exist_ok=True)
        self._transfer.twins.take_part(job.file, self._transfer.folder)
        part = job.part = Part(self._transfer.folder, job.file, self._transfer.limits.piece_bytes)
        if self._transfer.stopped.is_set():
            part.close()
            raise Stopped
        job.hub = self._transfer.routes.first(job.file)
        self._tell(FileStarted(job.file.path, job.file.bytes, part.done, job.hub))
        part.catch_up(self._hashing(job))
        if part.whole:
            self._finish(job, part, job.hub)
        else:
            self._transfer.agenda.add_pieces(job, [piece for piece in part.pieces if not piece.whole])

    def _accept(self, job: Job, found: Path) -> bool:
        """Take a file that is on disk, if it is the right one."""
        transfer = self._transfer
        sha256 = recorded = transfer.manifest.sha256_of(job.file, found)
        if not recorded:
            digest = hash_file(found, job.file, self._hashing(job))
            if not digest.matches():
                return False
            sha256 = digest.sha256.hexdigest()
        elsewhere = transfer.layout.find(job.file) is None
        if elsewhere:
            try:
                found = transfer.layout.place(job.file, lambda target: os.link(found.resolve(), target))
            except OSError:
                # On another disk, or one without hard links: fetched as if it were not there.
                return False
        if elsewhere or not recorded:
            transfer.manifest.add(job.file, found, sha256)
        transfer.agenda.verified(job)
        self._tell(Verified(job.file.path, job.file.key, fetched=False))
        return True

    def _fetch(self, job: Job, piece: Piece) -> None:
        """Fetch a piece over as many streams as it takes, one after the other."""
        part, fruitless, hub = job.part, 0, job.hub
        if part is None:
            return
        while not piece.whole:
            before, hub = piece.done, job.hub
            try:
                self._stream(job, part, piece, hub)
            except Hiccup as hiccup:
                fruitless = 0 if piece.done > before else fruitless + 1
                self._recover(job, hub, hiccup, fruitless)
        if self._transfer.agenda.is_last(job):
            part.catch_up(self._hashing(job))
            self._finish(job, part, hub)

    def _stream(self, job: Job, part: Part, piece: Piece, hub: HubName) -> None:
        """Read one stream to its end, over a link of its own."""
        floor = Floor(self._transfer.limits)

        def check(count: int) -> None:
            self.fetched += count
            rate = floor.below(count)
            if rate is None:
                return
            if self._transfer.routes.other(hub, job.file) is not None:
                raise TooSlow(f"only {rate / 1000:.1f} kB/s")
            self._tell(Slow(job.file.path, hub, rate))

        try:
            link = self._transfer.routes.link(hub, job.file)
            self._wire.fetch(link, piece, job.file.bytes, lambda data: part.write(piece, data), check)
        except Refused as refused:
            self._refuse(hub, self._transfer.routes.refusal(hub, refused.status))
        except VlmchatError as problem:
            self._refuse(hub, problem)

    def _refuse(self, hub: HubName, problem: VlmchatError) -> None:
        """Believe the hub that was chosen; one that only helps out cannot end the download."""
        if hub == self._transfer.plan.hub:
            raise problem
        raise Hiccup("it does not give the file", exhausted=True)

    def _recover(self, job: Job, hub: HubName, hiccup: Hiccup, fruitless: int) -> None:
        """Wait, or let another hub go on; raise when there is nothing left to try."""
        transfer, path = self._transfer, job.file.path
        if hiccup.wrong:
            job.wrong[hub] += 1
        if fruitless >= transfer.limits.attempts:
            raise undelivered(hub, path, hiccup.reason)
        asked = hiccup.retry_after or 0.0
        impatient = (
            hiccup.wrong
            or hiccup.exhausted
            or isinstance(hiccup, TooSlow)
            or asked > _LONG_WAIT_S
            or (fruitless and fruitless % _SWITCH_AFTER == 0)
        )
        if impatient and transfer.switch(job, hub, hiccup.reason, down=not hiccup.wrong):
            return
        if transfer.is_hopeless(job, hub):
            raise altered(hub, path)
        backoff = min(transfer.limits.backoff_s * 2 ** (fruitless - 1), _LONGEST_BACKOFF_S) if fruitless else 0.0
        wait = backoff if hiccup.retry_after is None else asked
        self._tell(Retrying(path, hub, hiccup.reason, wait))
        if transfer.stopped.wait(wait):
            raise Stopped

    def _finish(self, job: Job, part: Part, hub: HubName) -> None:
        """Verify a file that is whole and put it in its place, or begin it anew, alone."""
        transfer, path = self._transfer, job.file.path
        if part.is_right():
            placed = transfer.layout.place(job.file, part.move_to)
            transfer.manifest.add(job.file, placed, part.sha256)
            transfer.agenda.verified(job)
            self._tell(Verified(path, job.file.key, fetched=True))
            return
        job.wrong[hub] += 1
        self._tell(Restarted(path, part.restart(), f"{hub} sent other bytes than it lists"))
        if not transfer.switch(job, hub, "wrong bytes", down=False) and transfer.is_hopeless(job, hub):
            part.discard()
            raise altered(hub, path)
        transfer.agenda.add_pieces(job, part.pieces)

    def _hashing(self, job: Job) -> Callable[[int], None]:
        """Return what is to be told how far hashing is: it tells on, and ends it when the download ends."""
        last = time.monotonic()

        def told(done: int) -> None:
            nonlocal last
            if self._transfer.stopped.is_set():
                raise Stopped
            if (now := time.monotonic()) - last > _TELL_S:
                last = now
                self._tell(Checking(job.file.path, done, job.file.bytes))

        return told

    def _tell(self, event: Checking | FileStarted | Restarted | Retrying | Slow | Verified) -> None:
        self._transfer.events.put(event)


class Floor:
    """Watches one stream for staying below the floor rate."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._begun = time.monotonic()
        self._count = 0

    def below(self, count: int) -> float | None:
        """Count bytes; return the rate at the end of a window that stayed below the floor, else None."""
        self._count += count
        seconds = time.monotonic() - self._begun
        if seconds < self._limits.floor_s:
            return None
        rate = self._count / seconds
        self._begun, self._count = time.monotonic(), 0
        return rate if rate < self._limits.floor_rate else None
