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

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event as CancelEvent

from vlmchat.hub.events import DownloadEvent
from vlmchat.hub.plan import DownloadPlan, Wanted
from vlmchat.settings import Hub


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. The defaults are for people's connections; tests shorten them."""

    streams: int = 8
    """Connections at once, over all files."""
    piece_bytes: int = 64 * 1024**2
    """A file larger than this is fetched in pieces of this size, several at once."""
    connect_s: float = 5.0
    read_s: float = 10.0
    """Seconds without a byte after which a stream is given up and taken up again."""
    attempts: int = 6
    """Attempts in a row without a single byte, over all hubs, before a file is given up."""
    backoff_s: float = 0.5
    """Wait before the second fruitless attempt; doubled up to 8 s, replaced by a Retry-After."""
    floor_rate: float = 16 * 1024
    """Bytes a second of one stream below which another hub is tried."""
    floor_s: float = 30.0
    """Seconds that a stream may stay below the floor."""


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
        RepositoryMissing: no such repository or revision, or a private one and no token.
        GatedModel: the hub gives it only to people it knows.
        TokenRefused: the token is wrong, or may not read this.
        HubUnreachable: no hub answers, after all retries.
        CheckpointError: the repository holds no weights that vlmchat reads.
        KeyboardInterrupt: ``cancel`` was set.
    """
    raise NotImplementedError


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
    raise NotImplementedError
