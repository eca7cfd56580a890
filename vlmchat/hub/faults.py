"""What went wrong with a hub, in words: passing faults to try again, and errors a user has to act on.

Nothing here repeats a link, a header or a client's own message: they may hold signatures and tokens.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from vlmchat.errors import (
    AlteredDownload,
    CacheNotWritable,
    DiskFull,
    DownloadError,
    GatedModel,
    HubUnreachable,
    NotInstalled,
    RepositoryMissing,
    TokenRefused,
    VlmchatError,
)
from vlmchat.hub.source import TITLES, HubName

PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others a moment later (RFC 9110, RFC 6585, RFC 8470)."""
_LONGEST_WAIT = 60.0
"""Seconds: a Retry-After beyond that is a hub that is down."""
_LOGIN = {
    "huggingface": "log in with `hf auth login` (or set HF_TOKEN)",
    "modelscope": "log in with `ms login` (or set MODELSCOPE_API_TOKEN)",
}
_SITES = {"huggingface": "https://huggingface.co", "modelscope": "https://modelscope.cn/models"}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_NAME = "its name cannot be resolved (is there a network?)"
_REASONS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"ProxyError"}), "the proxy did not let it through"),
    (
        frozenset({"SSLError", "SSLCertVerificationError", "CertificateError"}),
        "its certificate was not accepted (is this machine's clock right?)",
    ),
    (frozenset({"gaierror", "NameResolutionError"}), _NO_NAME),
    (frozenset({"ConnectTimeout", "ConnectTimeoutError"}), "no connection in time"),
    (frozenset({"ReadTimeout", "ReadTimeoutError", "RequestTimeoutError", "TimeoutError"}), "no byte in time"),
    (frozenset({"ConnectionRefusedError"}), "connection refused"),
    (frozenset({"ConnectionResetError", "BrokenPipeError", "ConnectionAbortedError"}), "connection reset"),
    (frozenset({"TooManyRedirects"}), "redirected in a circle"),
    (
        frozenset({"IncompleteRead", "RemoteProtocolError", "ProtocolError", "ChunkedEncodingError"}),
        "connection closed early",
    ),
)


class Hiccup(Exception):
    """A fault that may pass: worth another attempt, here or at another hub."""

    def __init__(
        self, reason: str, retry_after: float | None = None, exhausted: bool = False, wrong: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        """A few words without any link."""
        self.retry_after = retry_after
        """Seconds the hub asks to wait."""
        self.exhausted = exhausted
        """Whether the official client has tried often enough already."""
        self.wrong = wrong
        """Whether the hub serves another file than it lists, so that what came of it is worth nothing."""


class TooSlow(Hiccup):
    """A stream that stays below the floor rate while another hub has the same bytes."""


def hiccup_of(problem: BaseException) -> Hiccup:
    """Return a failed connection as a passing fault; without a network asking again at once is of no use."""
    reason = reason_of(problem)
    return Hiccup(reason, exhausted=reason == _NO_NAME)


def reason_of(problem: BaseException) -> str:
    """Return a few words on why a connection failed, from the classes of the error and of what caused it."""
    names = {type(link).__name__ for link in _chain(problem)}
    return next((words for classes, words in _REASONS if names & classes), "connection lost")


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, given as a number or a date; at most a minute."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(0.0, seconds), _LONGEST_WAIT)


def unreachable(hub: HubName, reason: str) -> HubUnreachable:
    """Say that ``hub`` did not give what was asked, after all retries."""
    return HubUnreachable(
        f"{TITLES[hub]} cannot be reached: {reason}.", "Run it again when the network is back; what came is kept."
    )


def undelivered(hub: HubName, path: str, reason: str) -> HubUnreachable:
    """Say that ``hub`` did not send a file whole, after all retries."""
    return HubUnreachable(
        f"{TITLES[hub]} did not deliver {path}: {reason}.",
        "Run it again later; what came is kept and goes on from there.",
    )


def altered(hub: HubName, path: str) -> AlteredDownload:
    """Say that a file came wrong again and again."""
    return AlteredDownload(
        f"{path} comes from {TITLES[hub]} with other bytes than it lists.",
        "Try the other hub with --hub, or report it there; the other files are kept.",
    )


def missing(hub: HubName, repository: str, revision: str = "", maybe_private: bool = False) -> RepositoryMissing:
    """Say that ``hub`` has no such repository, or no such revision of it."""
    if revision:
        return RepositoryMissing(
            f"{repository} has no revision {revision!r} on {TITLES[hub]}.", "Check what stands behind the @."
        )
    private = ", or it is private" if maybe_private else ""
    hint = f"Check the name; if it is private, {_LOGIN[hub]}." if maybe_private else "Check the name."
    return RepositoryMissing(f"{TITLES[hub]} has no repository {repository}{private}.", hint)


def gated(hub: HubName, repository: str, has_token: bool) -> GatedModel:
    """Say that ``hub`` wants to know who asks, or wants its conditions accepted first."""
    page = f"{_SITES[hub]}/{repository}"
    if has_token:
        return GatedModel(
            f"{TITLES[hub]} does not give {repository} to this account yet.",
            f"Accept its conditions on {page}, then run it again.",
        )
    return GatedModel(
        f"{TITLES[hub]} gives {repository} only to people who have accepted its conditions.",
        f"Accept them on {page}, then {_LOGIN[hub]}.",
    )


def token_refused(hub: HubName, repository: str) -> TokenRefused:
    """Say that ``hub`` does not accept the token."""
    return TokenRefused(
        f"{TITLES[hub]} does not accept the token for {repository}.",
        f"Take a valid one with read access: {_LOGIN[hub]}.",
    )


def offline_error(name: str) -> NotInstalled:
    """Say that the network may not be used."""
    return NotInstalled(f"{name} cannot be asked for: vlmchat is offline.", "Leave --offline and HF_HUB_OFFLINE away.")


def disk_error(problem: OSError, folder: Path) -> VlmchatError:
    """Return what an error of the disk below ``folder`` means to the user."""
    if problem.errno in _FULL:
        return DiskFull(
            f"The disk of {folder} is full.", "Make room and run it again: what came is kept and goes on from there."
        )
    if problem.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return CacheNotWritable(
            f"{folder} may not be written: {problem.strerror or problem}.",
            "Give it to this user, or name another folder with HF_HOME or MODELSCOPE_CACHE.",
        )
    return DownloadError(f"{folder} cannot be written: {problem.strerror or problem}.", "Mend that; what came is kept.")


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything it wraps, however its library wraps it."""
    seen: set[int] = set()
    waiting: list[object] = [problem]
    while waiting:
        link = waiting.pop()
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
