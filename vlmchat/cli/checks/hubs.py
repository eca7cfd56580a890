"""Faults between this machine and the hubs: the default model, caches, tokens, mirrors, proxies, certificates."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from vlmchat.chat import opening
from vlmchat.chat.shelf import offers
from vlmchat.cli.checks.problem import Problem, Seen
from vlmchat.cli.output import size_text
from vlmchat.errors import VlmchatError
from vlmchat.hub.local import huggingface_cache, modelscope_cache
from vlmchat.hub.source import TITLES, HubName
from vlmchat.paths import existing, user_path

TOKENS = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}
"""Hub -> the variable that holds a token for it."""
_MIRRORS = {"huggingface": "HF_ENDPOINT", "modelscope": "MODELSCOPE_ENDPOINT"}
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXY_PATIENCE_S = 2.0
"""A proxy is near; one that needs longer to take a connection is as good as none."""


def _model(seen: Seen) -> Iterator[Problem]:
    try:
        opening.find(seen.settings.model, seen.settings.hub)
    except VlmchatError as problem:
        yield Problem.of("model", problem, "The default model: ")


def _partial(seen: Seen) -> Iterator[Problem]:
    """Name what was begun and never finished; the default model is told by its own check."""
    for found in offers("", seen.settings.hub):
        spec, local = found.spec, found.local
        if local.state == "partial" and spec.name != seen.settings.model and (spec.huggingface or spec.modelscope):
            yield Problem(
                "partial-download",
                f"{spec.title} is only partly here and takes {size_text(local.bytes)}.",
                f"Go on with `vlmchat pull {spec.name}`, or remove it with `vlmchat rm {spec.name}`.",
            )


def _caches(seen: Seen) -> Iterator[Problem]:
    chosen = {"huggingface": (huggingface_cache(), "HF_HOME"), "modelscope": (modelscope_cache(), "MODELSCOPE_CACHE")}
    for hub, (folder, variable) in chosen.items():
        found = existing(folder)
        if seen.settings.hub not in {"auto", hub}:
            continue
        if not found.is_dir():
            yield Problem(
                "hub-cache", f"{found} is a file where a folder for models should be.", f"Move it, or set {variable}."
            )
        elif not os.access(found, os.W_OK | os.X_OK):
            yield Problem(
                "hub-cache",
                f"{found} cannot be written: models there can be used, but none fetched.",
                f"Change its permissions, or set {variable} to another folder.",
            )


def _offline(seen: Seen) -> Iterator[Problem]:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"} and not seen.settings.offline:
        yield Problem(
            "hub-offline",
            "HF_HUB_OFFLINE is set, so nothing comes from Hugging Face.",
            "Unset it, or use --hub modelscope.",
        )


def _tokens(seen: Seen) -> Iterator[Problem]:
    """Look at the form of each token, and at who may read its file; nobody is asked whether it is known."""
    for hub, variable in TOKENS.items():
        text = os.environ.get(variable)
        if text is not None and not _is_token(text):
            yield Problem(
                "token",
                f"{variable} holds no token of {TITLES[_named(hub)]}: it is empty, or has blanks or odd letters in it.",
                "Copy the token again, or unset it.",
            )
    file = token_file()
    if not file.is_file():
        return
    if os.name == "posix" and file.stat().st_mode & 0o077:
        yield Problem("token-file", f"Others may read the token in {file}.", f"Close it with: chmod 600 {file}")
    try:
        whole = _is_token(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        whole = False
    if not whole:
        yield Problem("token-file", f"{file} cannot be read as a token.", "Log in again with: hf auth login")


def _mirrors(seen: Seen) -> Iterator[Problem]:
    for hub, variable in _MIRRORS.items():
        text = os.environ.get(variable)
        if not text:
            continue
        address = _split(text)
        if address is None or (hub == "huggingface" and address.scheme not in {"http", "https"}):
            yield Problem("mirror", f"{variable} holds no address of a hub.", "Write https:// and a host.")
        elif address.scheme == "http" and os.environ.get(TOKENS[hub]) and not _is_near(address.hostname or ""):
            yield Problem(
                "mirror", f"{variable} is not encrypted, and your token goes there.", "Use its https address."
            )


def _proxies(seen: Seen) -> Iterator[Problem]:
    """See that each proxy the environment names takes a connection."""
    for text in sorted({text for scheme, text in getproxies().items() if scheme in {"http", "https", "all"}}):
        address = _split(text if "://" in text else f"http://{text}")
        if address is None or not address.hostname:
            yield Problem("proxy", "A proxy variable (HTTPS_PROXY) holds no address.", "Write http://HOST:PORT.")
            continue
        port = _port(address) or (443 if address.scheme == "https" else 80)
        place = f"{address.hostname}:{port}"
        try:
            socket.create_connection((address.hostname, port), _PROXY_PATIENCE_S).close()
        except OSError as problem:
            yield Problem(
                "proxy",
                f"The proxy {place} does not answer ({problem.strerror or problem}), so no hub can be reached.",
                "Start it, or unset HTTPS_PROXY, HTTP_PROXY and ALL_PROXY.",
            )


def _certificates(seen: Seen) -> Iterator[Problem]:
    for variable in _CERTIFICATES:
        text = os.environ.get(variable)
        if text and not Path(text).exists():
            yield Problem(
                "certificates",
                f"{variable} names {text}, which is not there, so no https address can be trusted.",
                "Unset it, or name the file of your certificates.",
            )


def token_file() -> Path:
    """Return where ``hf auth login`` keeps its token, by huggingface_hub's own environment variables."""
    if os.environ.get("HF_TOKEN_PATH"):
        return user_path(os.environ["HF_TOKEN_PATH"])
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(os.environ.get("HF_HOME") or f"{base}/huggingface") / "token"


def _is_token(text: str) -> bool:
    """Say whether a header can carry ``text``: the clients cut blanks at its ends off."""
    return text.strip().isascii() and text.strip().isprintable() and len(text.split()) == 1


def _named(hub: str) -> HubName:
    return "modelscope" if hub == "modelscope" else "huggingface"


def _split(text: str) -> SplitResult | None:
    try:
        return urlsplit(text.strip())
    except ValueError:
        return None


def _port(address: SplitResult) -> int | None:
    try:
        return address.port
    except ValueError:
        return None


def _is_near(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "::1"}


CHECKS: tuple[Callable[[Seen], Iterator[Problem]], ...] = (
    _model, _partial, _caches, _offline, _tokens, _mirrors, _proxies, _certificates,
)  # fmt: skip
