"""``http(s)://`` -> the bytes of a picture, fetched with limits.

A URL may come from a file that somebody else wrote, so it must not become a way to read what only this
machine can reach. Every host is resolved here, for the first address and for every redirect; an address
that is not on the public internet is refused unless the user asks for it, and the connection goes to the
address that was checked, not to the name (which could resolve to another one the second time).
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.request import getproxies, proxy_bypass

from vlmchat.errors import DownloadError, ImageError
from vlmchat.media.image import MAX_BYTES
from vlmchat.plaintext import one_line

if TYPE_CHECKING:
    import httpx2

MAX_REDIRECTS = 5
CONNECT_S = 10.0
"""Seconds to reach one address."""
SILENCE_S = 20.0
"""Seconds without a byte after which a server counts as gone."""
WHOLE_S = 300.0
"""Seconds one picture may take in all: a server that drips is left too."""
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
"""What a server may call a picture; what it really is decides its content (:mod:`vlmchat.media.image`)."""
_SHOWN = 80

Told: TypeAlias = Callable[[int, int], None]
"""Called with the bytes that came and the bytes there are, 0 where the server does not say."""


@dataclass(frozen=True, slots=True)
class WebRules:
    """What the user allows."""

    offline: bool = False
    private: bool = False
    """Addresses of this machine and of private networks too."""


def is_web(source: str) -> bool:
    """Say whether ``source`` is an http or https URL."""
    return source[:8].lower().startswith(("http://", "https://"))


def fetch(url: str, rules: WebRules, told: Told | None = None, stopped: Callable[[], bool] | None = None) -> bytes:
    """Return what ``url`` holds.

    Args:
        url: http or https.
        rules: what is allowed.
        told: hears of progress.
        stopped: asked between two pieces; True ends the transfer.

    Raises:
        ImageError: the network is switched off, the URL or an address behind it is refused, the server says
            no, what it sends is no picture or is too large, or it was stopped.
        DownloadError: the server cannot be reached, fails, or takes too long.
    """
    if rules.offline:
        raise ImageError(f"{shown(url)} is on the web, and --offline is set.", "Download it, then name the file.")
    # Late: 0.1 CPU-seconds that only a URL has to pay.
    import httpx2

    try:
        with ExitStack() as stack:
            answer = _answer(stack, httpx2.URL(url), rules)
            return _body(answer, shown(url), told, stopped or _never)
    except (httpx2.InvalidURL, UnicodeError) as problem:
        raise ImageError(f"{shown(url)} is no URL: {problem}.", "Check it; quote it in the shell.") from problem
    except httpx2.TimeoutException as problem:
        raise DownloadError(f"{shown(url)} does not answer in time.", "Try again later.") from problem
    except httpx2.HTTPError as problem:
        raise DownloadError(
            f"{shown(url)} cannot be fetched: {problem or type(problem).__name__}.", "Check the network and the URL."
        ) from problem


def shown(url: str) -> str:
    """Return ``url`` for a message: without user, password and query, which may hold a secret, and not too long."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    text = one_line(f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _answer(stack: ExitStack, url: httpx2.URL, rules: WebRules) -> httpx2.Response:
    """Follow ``url`` to an answer that is no redirect; ``stack`` closes all that was opened."""
    begun = url
    for _ in range(1 + MAX_REDIRECTS):
        answer = _request(stack, url, rules)
        if not answer.has_redirect_location:
            _check_head(answer, shown(str(begun)))
            return answer
        url = url.join(answer.headers["location"])
    raise ImageError(f"{shown(str(begun))} leads from one address to the next without end.", "Name the picture itself.")


def _request(stack: ExitStack, url: httpx2.URL, rules: WebRules) -> httpx2.Response:
    """Ask for ``url`` at one of its checked addresses, or through the proxy the environment names."""
    import httpx2

    if url.scheme not in {"http", "https"} or not url.host:
        raise ImageError(f"{shown(str(url))} is no http or https URL.", "Name a file, or such a URL.")
    proxy = _proxy(url)
    # A proxy resolves names itself; what can be checked here are addresses written as such.
    addresses = [url.host] if proxy and not _is_address(url.host) else _addresses(url, rules)
    client = stack.enter_context(
        httpx2.Client(
            transport=httpx2.HTTPTransport(proxy=proxy),
            timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S),
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "vlmchat"},
            trust_env=False,
        )
    )
    for left, address in enumerate(addresses, 1 - len(addresses)):
        try:
            # TLS is still spoken with, and its certificate checked against, the name of the URL.
            return stack.enter_context(
                client.stream(
                    "GET",
                    url.copy_with(host=address),
                    headers={"Host": url.netloc.decode("ascii")},
                    extensions={"sni_hostname": url.raw_host.decode("ascii")},
                )
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            if not left:
                raise
    raise AssertionError("a host that resolves has an address")


def _addresses(url: httpx2.URL, rules: WebRules) -> list[str]:
    """Resolve the host of ``url``.

    Raises:
        DownloadError: nobody knows it.
        ImageError: one of its addresses is not public, and only such are allowed.
    """
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError as problem:
        raise DownloadError(f"There is no host {one_line(url.host)}.", "Check the URL and the network.") from problem
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not rules.private and not all(map(_is_public, addresses)):
        raise ImageError(
            f"{shown(str(url))} leads to {addresses[0]}, an address of this machine or of a private network.",
            "If that is meant, give --private-urls.",
        )
    return addresses


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None) or found
    return bool(inner.is_global and not inner.is_multicast)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _proxy(url: httpx2.URL) -> str | None:
    named = getproxies()
    return None if proxy_bypass(url.host) else named.get(url.scheme) or named.get("all")


def _check_head(answer: httpx2.Response, place: str) -> None:
    """Refuse an answer by its first lines.

    Raises:
        DownloadError: the server failed.
        ImageError: it says no, or announces something else or something too large.
    """
    if answer.status_code >= 500:
        raise DownloadError(f"The server of {place} failed (HTTP {answer.status_code}).", "Try again later.")
    if answer.status_code != 200:
        raise ImageError(f"The server does not give {place} (HTTP {answer.status_code}).", "Check the URL.")
    kind = answer.headers.get("content-type", "").strip().lower()
    if kind and not kind.startswith(_TYPES):
        raise ImageError(f"{place} is {one_line(kind)[:_SHOWN]}, not a picture.", "Name the picture itself.")
    if _announced(answer) > MAX_BYTES:
        raise _too_large(place)


def _body(answer: httpx2.Response, place: str, told: Told | None, stopped: Callable[[], bool]) -> bytes:
    """Read the whole answer within the limits of size and time."""
    total = _announced(answer)
    ends = time.monotonic() + WHOLE_S
    body = bytearray()
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > MAX_BYTES:
            raise _too_large(place)
        if stopped():
            raise ImageError(f"The download of {place} was stopped.", "Attach it again.")
        if time.monotonic() > ends:
            raise DownloadError(f"{place} comes too slowly.", "Download it, then name the file.")
        if told is not None:
            told(len(body), total)
    return bytes(body)


def _announced(answer: httpx2.Response) -> int:
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def _too_large(place: str) -> ImageError:
    return ImageError(f"{place} has more than the {MAX_BYTES:,} bytes pictures may have.", "Name a smaller copy of it.")


def _never() -> bool:
    return False
