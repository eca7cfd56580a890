"""Which hub a file comes from, and which other one has the very same bytes."""

from __future__ import annotations

from threading import Event as CancelEvent
from threading import Lock

from vlmchat.errors import VlmchatError
from vlmchat.hub.faults import gated, token_refused
from vlmchat.hub.limits import Limits
from vlmchat.hub.plan import DownloadPlan
from vlmchat.hub.planning import list_patiently, open_source
from vlmchat.hub.source import HubName, Link, Listing, RemoteFile, Source


class Routes:
    """The hubs of one download. The second one is asked nothing until the first one fails.

    Args:
        plan: the first hub's listing, and which other hub may take over.
        limits: how hard to try.
        stopped: set when the download ends.
    """

    def __init__(self, plan: DownloadPlan, limits: Limits, stopped: CancelEvent) -> None:
        self._plan = plan
        self._limits = limits
        self._stopped = stopped
        self._lock = Lock()
        self._sources: dict[HubName, Source] = {}
        self._listings: dict[HubName, Listing] = {plan.hub: plan.listing}
        self._fallback = plan.fallback
        self.preferred: HubName = plan.hub
        """The hub that served last."""

    def link(self, hub: HubName, file: RemoteFile) -> Link:
        """Return a fresh link; errors as :meth:`vlmchat.hub.source.Source.resolve`."""
        listing = self._listings[hub]
        return self._source(hub).resolve(listing, _same(listing, file) or file)

    def first(self, file: RemoteFile) -> HubName:
        """Return the hub to begin with."""
        return self.preferred if self._has(self.preferred, file) else self._plan.hub

    def other(self, hub: HubName, file: RemoteFile) -> HubName | None:
        """Return another hub that has the same bytes; None where there is none. Asks it once."""
        if hub != self._plan.hub:
            return self._plan.hub
        self._ask_fallback()
        return self._fallback if self._fallback and self._has(self._fallback, file) else None

    def refusal(self, hub: HubName, status: int) -> VlmchatError:
        """Return what it means that the hub itself refused a file with ``status``."""
        repository = self._listings[hub].repository
        # A hub that has just listed the repository knows the token, if there is one.
        return token_refused(hub, repository) if status == 401 else gated(hub, repository, has_token=True)

    def _has(self, hub: HubName, file: RemoteFile) -> bool:
        listing = self._listings.get(hub)
        return listing is not None and _same(listing, file) is not None

    def _source(self, hub: HubName) -> Source:
        with self._lock:
            if hub not in self._sources:
                self._sources[hub] = open_source(hub, self._limits)
            return self._sources[hub]

    def _ask_fallback(self) -> None:
        """List the other hub, once; one that cannot be listed takes nothing over."""
        hub = self._fallback
        if hub is None or hub in self._listings:
            return
        source = self._source(hub)
        with self._lock:
            if self._fallback is None or hub in self._listings:
                return
            try:
                repository = self._plan.wanted.repository(hub) or ""
                self._listings[hub] = list_patiently(source, repository, "", self._stopped, self._limits)
            except VlmchatError:
                self._fallback = None


def _same(listing: Listing, file: RemoteFile) -> RemoteFile | None:
    """Return the file of ``listing`` with the same bytes: by sha256, and a small file without one by name and size.

    A small file is hashed when it has come, so a wrong guess costs its few bytes and nothing else.
    """
    for candidate in listing.files:
        if file.sha256 and candidate.sha256 == file.sha256:
            return candidate
        if candidate.path == file.path and candidate.bytes == file.bytes and not (file.sha256 and candidate.sha256):
            return candidate
    return None
