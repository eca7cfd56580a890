"""What a hub is to the download: a list of files with their hashes, and a link to each.

:mod:`~vlmchat.hub.huggingface` and :mod:`~vlmchat.hub.modelscope` are the two sources. Both leave
listing, tokens and gating to the hub's official client, which is imported on first use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

HubName: TypeAlias = Literal["huggingface", "modelscope"]
TITLES: Mapping[HubName, str] = {"huggingface": "Hugging Face", "modelscope": "ModelScope"}
"""How each hub is called in a sentence."""
_PLACES: Mapping[HubName, tuple[tuple[str, ...], str]] = {
    "huggingface": (("HF_ENDPOINT",), "https://huggingface.co"),
    "modelscope": (("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"), "https://modelscope.cn"),
}


def host(hub: HubName) -> str:
    """Return the host that is asked for ``hub``, by the environment that its own client reads; for people to read."""
    variables, public = _PLACES[hub]
    place = next((os.environ[name] for name in variables if os.environ.get(name)), public)
    return urlsplit(place if "//" in place else f"//{place}").netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository, as its hub lists it. At least one of the hashes is there."""

    path: str
    """Inside the repository, with ``/``."""
    bytes: int
    sha256: str = ""
    """Lower-case hex; empty for the small files Hugging Face keeps in git."""
    git_sha1: str = ""
    """Id of the file's git blob (sha1 of ``blob <size>\\0`` and the bytes); empty where the hub names none."""

    @property
    def key(self) -> str:
        """The hash that names the file on disk: a partial file outlives a change of hub or commit with it."""
        return self.sha256 or self.git_sha1


def remote_file(path: object, size: object, sha256: object = None, git_sha1: object = None) -> RemoteFile:
    """Check what a hub says of a file: its hash becomes a file name here.

    Raises:
        ValueError: no size, or no hash.
    """
    hashes = str(sha256 or "").lower(), str(git_sha1 or "").lower()
    if not isinstance(size, int) or size < 0 or not any(hashes):
        raise ValueError("a file without size or hash")
    for digits, found in zip((64, 40), hashes, strict=True):
        if found and not re.fullmatch(f"[0-9a-f]{{{digits}}}", found):
            raise ValueError("a hash that is none")
    return RemoteFile(str(path), size, *hashes)


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one revision."""

    hub: HubName
    repository: str
    """``OWNER/NAME`` on that hub."""
    revision: str
    """Branch, tag or commit that was asked for; ``main`` or ``master`` when none was."""
    commit: str
    """What the snapshot folder is called: the commit on Hugging Face, the revision itself on ModelScope."""
    files: tuple[RemoteFile, ...]
    licence: str = ""
    """Its licence as the hub names it; empty where it does not."""
    gated: bool = False
    """Whether the hub gives it only to people it knows."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where the bytes of one file are right now. Never shown and never logged: its query may be a signature."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What that host needs to be sent. Holds a token only when the host is the hub itself."""
    own: bool = False
    """Whether the hub itself answers there first, so that a refusal is its own word and not an expired link's."""


class Source(Protocol):
    """One hub. Calls block, each with a time limit of its own; they may be made from any thread."""

    hub: HubName

    def list_files(self, repository: str, revision: str = "") -> Listing:
        """List all files of a repository.

        Args:
            repository: ``OWNER/NAME``.
            revision: branch, tag or commit; empty is the hub's main branch.

        Raises:
            RepositoryMissing: no such repository or revision, or a private one and no token.
            GatedModel: the hub gives it only to people it knows.
            TokenRefused: the token is wrong, or may not read this.
            Hiccup: no answer, or an error that may pass (:mod:`vlmchat.hub.faults`).
        """
        ...

    def resolve(self, listing: Listing, file: RemoteFile) -> Link:
        """Ask for a fresh link to ``file``; links expire, so this is asked again for every attempt.

        Raises:
            GatedModel, TokenRefused, RepositoryMissing, Hiccup: as :meth:`list_files`.
        """
        ...
