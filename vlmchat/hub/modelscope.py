"""ModelScope as a source, through ``modelscope_hub``: ``modelscope`` is a shim over it that imports torch."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vlmchat.hub.digests import is_checked
from vlmchat.hub.faults import Hiccup, gated, missing, reason_of, token_refused
from vlmchat.hub.source import HubName, Link, Listing, RemoteFile, remote_file

if TYPE_CHECKING:
    from modelscope_hub import HubApi
    from modelscope_hub.errors import APIError

_MAIN = "master"
_KIND = "model"


class ModelScope:
    """The hub at ``MODELSCOPE_ENDPOINT`` (``MODELSCOPE_DOMAIN``), or the public one; its client has own timeouts."""

    hub: HubName = "modelscope"

    def __init__(self) -> None:
        self._client: HubApi | None = None

    def list_files(self, repository: str, revision: str = "") -> Listing:
        """List a repository; see :class:`~vlmchat.hub.source.Source`. The client retries by itself."""
        asked = _MAIN if revision in {"", "main"} else revision
        with self._explained(repository, "" if asked == _MAIN else asked):
            found = self._api().list_repo_files(repository, _KIND, revision=asked)
            files = tuple(
                remote_file(item.path, item.size, item.sha256)
                for item in found
                if item.type != "tree" and is_checked(Path(item.path))
            )
        return Listing(self.hub, repository, asked, asked, files)

    def resolve(self, listing: Listing, file: RemoteFile) -> Link:
        """Return the hub's own address of the file; it redirects to wherever the bytes are."""
        legacy = self._api().legacy
        url = legacy.get_download_url(listing.repository, _KIND, file.path, listing.commit)
        if not legacy.token:
            return Link(url, own=True)
        # Both, as the client does: older parts of the hub know only the cookie.
        session = f"m_session_id={legacy.token}"
        return Link(url, {"Authorization": f"Bearer {legacy.token}", "Cookie": session}, own=True)

    def _api(self) -> HubApi:
        if self._client is None:
            from modelscope_hub import HubApi, HubConfig

            # It logs each retry to stderr by itself; the download tells what there is to tell.
            logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)

            class Anonymous(HubConfig):
                """The user's configuration without the lasting id that the client would send along."""

                def get_session_id(self) -> str:
                    """Return an id of this process's own."""
                    return uuid.uuid4().hex

            self._client = HubApi(Anonymous(endpoint=_endpoint()))
        return self._client

    @contextmanager
    def _explained(self, repository: str, revision: str) -> Iterator[None]:
        """Turn the client's errors into ours, without the links they carry."""
        import requests
        from modelscope_hub.errors import APIError, HubError

        try:
            yield
        except APIError as problem:
            raise self._refusal(problem, repository, revision) from None
        except HubError as problem:
            raise Hiccup(reason_of(problem), exhausted=True) from None
        except requests.JSONDecodeError:
            raise Hiccup("its answer cannot be understood") from None
        except requests.RequestException as problem:
            raise Hiccup(reason_of(problem), exhausted=True) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Hiccup("its answer cannot be understood") from None

    def _refusal(self, problem: APIError, repository: str, revision: str) -> Exception:
        from modelscope_hub import errors

        has_token = bool(self._api().legacy.token)
        if isinstance(problem, errors.NotExistError):
            return missing(self.hub, repository, revision, maybe_private=not has_token)
        if isinstance(problem, errors.AuthenticationError):
            return token_refused(self.hub, repository) if has_token else gated(self.hub, repository, has_token)
        if isinstance(problem, errors.PermissionDeniedError):
            return gated(self.hub, repository, has_token)
        return Hiccup(f"status {problem.status_code}", exhausted=True)


def _endpoint() -> str | None:
    """Return the endpoint the environment names; given by hand, the client does not warn about the older variable."""
    return os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN", "").strip() or None
