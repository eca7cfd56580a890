"""The threads of a download: sent out together, and left behind at once when it ends."""

from __future__ import annotations

from threading import Thread

from vlmchat.hub.transfer import Transfer
from vlmchat.hub.worker import Worker


class Crew:
    """As many workers as there is work for, up to the limit."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        pieces = sum(-(-job.file.bytes // transfer.limits.piece_bytes) or 1 for job in transfer.agenda.jobs)
        self._workers = [Worker(transfer) for _ in range(min(transfer.limits.streams, pieces))]
        for worker in self._workers:
            Thread(target=worker.run, name="vlmchat-download", daemon=True).start()

    @property
    def fetched(self) -> int:
        """Bytes that came over the network."""
        return sum(worker.fetched for worker in self._workers)

    def dismiss(self) -> None:
        """Let no byte be written any more and end all streams; nobody is waited for.

        A thread that hangs in a server's silence ends when its own time limit does, and can do nothing
        by then: its partial file is closed.
        """
        self._transfer.stopped.set()
        self._transfer.agenda.end()
        for job in self._transfer.agenda.jobs:
            if job.part is not None:
                job.part.close()
        for worker in self._workers:
            worker.cut()
