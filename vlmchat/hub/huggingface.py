"""Hugging Face as a source: listing, tokens, gating and links come from ``huggingface_hub``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import vlmchat
from vlmchat.hub.digests import is_checked
from vlmchat.hub.faults import (
    PASSING_STATUS,
    Hiccup,
    gated,
    hiccup_of,
    missing,
    offline_error,
    retry_after,
    token_refused,
)
from vlmchat.hub.source import HubName, Link, Listing, RemoteFile, remote_file

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata
    from huggingface_hub.errors import HfHubHTTPError

_DEFAULT_ENDPOINT = "https://huggingface.co"
_MAIN = "main"
_LARGEST_IN_GIT = 10_000_000
"""Bytes: a larger file is in LFS (the hub refuses it otherwise), where a git hash is its pointer's."""


class HuggingFace:
    """The hub at ``HF_ENDPOINT``, or the public one.

    Args:
        timeout_s: for an answer to one question.
    """

    hub: HubName = "huggingface"

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout = timeout_s
        self._endpoint = (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")

    def list_files(self, repository: str, revision: str = "") -> Listing:
        """List a repository; see :class:`~vlmchat.hub.source.Source`."""
        from huggingface_hub import HfApi

        token = _token()
        with self._explained(repository, revision, token):
            info = HfApi(
                self._endpoint, token=token or False, library_name="vlmchat", library_version=vlmchat.__version__
            ).model_info(repository, revision=revision or None, timeout=self._timeout, files_metadata=True)
            listing = Listing(
                hub=self.hub,
                repository=repository,
                revision=revision or _MAIN,
                commit=_commit(info.sha),
                files=tuple(
                    self._file(repository, _commit(info.sha), sibling, token)
                    for sibling in info.siblings or ()
                    if is_checked(Path(sibling.rfilename))
                ),
                licence=_licence(info.card_data),
                gated=bool(info.gated),
            )
        if listing.gated and listing.files:
            self.resolve(listing, listing.files[0])
        return listing

    def resolve(self, listing: Listing, file: RemoteFile) -> Link:
        """Ask for a link; the client keeps the token from any other host than the hub."""
        token = _token()
        with self._explained(listing.repository, "", token):
            found = self._ask(listing.repository, listing.commit, file.path, token)
        if found.size is not None and found.size != file.bytes:
            raise Hiccup(f"{file.path} has another size than listed", wrong=True)
        own = urlsplit(found.location)[:2] == urlsplit(self._endpoint)[:2]
        return Link(found.location, {"Authorization": f"Bearer {token}"} if own and token else {})

    def _file(self, repository: str, commit: str, sibling: Any, token: str | None) -> RemoteFile:
        """Take what the listing says of a file; where a mirror leaves its hash out, its ETag is the hash."""
        small = sibling.size is not None and sibling.size <= _LARGEST_IN_GIT
        if sibling.lfs or (small and sibling.blob_id):
            sha256 = sibling.lfs.sha256 if sibling.lfs else None
            return remote_file(sibling.rfilename, sibling.size, sha256, sibling.blob_id)
        found = self._ask(repository, commit, sibling.rfilename, token)
        etag = found.etag or ""
        return remote_file(sibling.rfilename, found.size, *((etag, "") if len(etag) == 64 else ("", etag)))

    def _ask(self, repository: str, commit: str, path: str, token: str | None) -> HfFileMetadata:
        """Ask for one file: where it is, its size and its hash."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        return get_hf_file_metadata(
            hf_hub_url(repository, path, revision=commit, endpoint=self._endpoint),
            token=token or False,
            timeout=self._timeout,
            library_name="vlmchat",
            library_version=vlmchat.__version__,
            endpoint=self._endpoint,
        )

    @contextmanager
    def _explained(self, repository: str, revision: str, token: str | None) -> Iterator[None]:
        """Turn the client's errors into ours, without the links they carry."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled:
            raise offline_error(repository) from None
        except HFValidationError:
            raise missing(self.hub, repository) from None
        except HfHubHTTPError as problem:
            raise self._refusal(problem, repository, revision, token) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as problem:
            raise hiccup_of(problem) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Hiccup("its answer cannot be understood") from None

    def _refusal(self, problem: HfHubHTTPError, repository: str, revision: str, token: str | None) -> Exception:
        from huggingface_hub import errors

        status = problem.response.status_code
        if isinstance(problem, errors.GatedRepoError):
            return gated(self.hub, repository, has_token=token is not None)
        if isinstance(problem, errors.RevisionNotFoundError):
            return missing(self.hub, repository, revision or _MAIN)
        if isinstance(problem, errors.RepositoryNotFoundError):
            return missing(self.hub, repository, maybe_private=True)
        if status in {401, 403}:
            return token_refused(self.hub, repository) if token else gated(self.hub, repository, has_token=False)
        if status in PASSING_STATUS:
            return Hiccup(f"status {status}", retry_after(problem.response.headers.get("Retry-After")))
        return Hiccup(f"status {status}")


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _commit(sha: object) -> str:
    """Check a commit before it becomes the name of a folder."""
    if not re.fullmatch(r"[0-9a-f]{40}", str(sha)):
        raise ValueError("no commit")
    return str(sha)


def _licence(card: Any) -> str:
    if card is None:
        return ""
    name = card.get("license_name") or card.get("license") or ""
    return ", ".join(map(str, name)) if isinstance(name, list) else str(name)
