"""Hugging Face's protocol: model info, tree, ``resolve`` with its headers, gates and error codes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlencode

from tests.hub.loopback.contents import HubFile, Repository
from tests.hub.loopback.faults import NO_FAULT, Fault
from tests.hub.loopback.hub import Hub
from tests.hub.loopback.wire import Answerer

_REPOSITORY = r"(?P<id>[^/]+/[^/]+)"
_API = re.compile(rf"/api/models/{_REPOSITORY}(?:/(?P<what>revision|tree|refs|auth-check)(?:/(?P<revision>[^/]+))?)?")
_RESOLVE = re.compile(rf"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CACHED = re.compile(rf"/api/resolve-cache/models/{_REPOSITORY}/(?P<revision>[^/]+)/(?P<path>.+)")


def huggingface() -> Hub:
    """Make a hub that speaks Hugging Face's protocol."""
    return Hub(HuggingFace, "main")


class HuggingFace(Answerer):
    """One connection to a hub of Hugging Face's kind."""

    def route(self) -> None:
        if self.place == "/api/whoami-v2":
            self._whoami()
        elif match := _API.fullmatch(self.place):
            self._listing(match["id"], match["what"] or "info", unquote(match["revision"] or ""))
        elif match := _CACHED.fullmatch(self.place):
            self._small(match["id"], match["revision"], unquote(match["path"]))
        elif match := _RESOLVE.fullmatch(self.place):
            self._resolve(match["id"], unquote(match["revision"]), unquote(match["path"]))
        else:
            self._refuse(404, "", "Not found")

    # Who asks

    @property
    def token(self) -> str:
        return self.exchange.headers.get("authorization", "").removeprefix("Bearer ")

    def _known(self) -> bool:
        """Refuse a token that nobody has, as the hub does before it looks at anything else."""
        if self.token and not self.hub.user(self.token):
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return False
        return True

    def _whoami(self) -> None:
        if self._known():
            user = self.hub.user(self.token)
            self.json(200, {"type": "user", "name": user}) if user else self._refuse(401, "", "Invalid username")

    def _repository(self, repository: str) -> Repository | None:
        found = self.hub.repositories.get(repository)
        if not self._known():
            return None
        if found is None or (found.private and self.hub.user(self.token) not in found.readers):
            self._refuse(404 if self.token else 401, "RepoNotFound", "Invalid username or password.")
            return None
        return found

    def _may_read(self, found: Repository) -> bool:
        if not found.gated or self.hub.user(self.token) in found.readers:
            return True
        if self.token:
            self._refuse(403, "GatedRepo", f"Access to model {found.id} is restricted and you are not in the list.")
        else:
            self._refuse(401, "GatedRepo", f"Access to model {found.id} is restricted. You must be authenticated.")
        return False

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.json(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    # Listings

    def _listing(self, repository: str, what: str, revision: str) -> None:
        fault = self.hub.faults.take("listing", repository, what)
        if self.spoilt(fault) or (found := self._repository(repository)) is None:
            return
        commit = found.resolve(revision or found.branch)
        if what == "auth-check":
            self.json(200, {}) if self._may_read(found) else None
        elif what == "refs":
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in found.branches.items()]
            self.json(200, {"branches": branches, "tags": [], "converts": []})
        elif not commit:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif what == "tree":
            self._tree(found, commit, fault)
        else:
            self.json(200, self._info(found, commit), fault=fault)

    def _info(self, found: Repository, commit: str) -> dict[str, Any]:
        details = "blobs" in self.query
        return {
            "_id": commit[:24],
            "id": found.id,
            "modelId": found.id,
            "sha": commit,
            "lastModified": "2025-01-02T03:04:05.000Z",
            "private": found.private,
            "gated": "manual" if found.gated else False,
            "disabled": False,
            "tags": [f"license:{found.license}"],
            "cardData": {"license": found.license, "license_link": found.license_link or None},
            "siblings": [self._sibling(found, f, details) for f in found.commits[commit].values()],
        }

    @staticmethod
    def _sibling(found: Repository, file: HubFile, details: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": file.path}
        if details:
            entry |= {"size": file.size, "blobId": file.git_sha1}
        if details and file.lfs and found.hashes:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
        return entry

    def _tree(self, found: Repository, commit: str, fault: Fault) -> None:
        files = list(found.commits[commit].values())
        first = int(self.query.get("cursor", "0"))
        page = files[first : first + self.hub.page_size]
        headers = {}
        if first + self.hub.page_size < len(files):
            query = urlencode({**self.query, "cursor": first + self.hub.page_size})
            headers["Link"] = f'<{self.hub.endpoint}{self.place}?{query}>; rel="next"'
        self.json(200, [self._entry(found, file) for file in page], headers, fault)

    @staticmethod
    def _entry(found: Repository, file: HubFile) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": file.path, "size": file.size, "oid": file.git_sha1}
        if file.lfs and found.hashes:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
        if file.lfs and found.xet:
            entry["xetHash"] = file.sha256
        return entry

    # Files

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        self.exchange.file = path
        fault = self.hub.faults.take("resolve", repository, path)
        if self.spoilt(fault) or (entry := self._entry_of(repository, revision, path)) is None:
            return
        found, commit, file = entry
        if not file.lfs:
            location = f"/api/resolve-cache/models/{repository}/{commit}/{path}"
            self.whole(307, b"", {"Location": location, "X-Repo-Commit": commit, **fault.headers})
            return
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{file.sha256}"',
            "X-Linked-Size": str(file.size),
            "Location": self.hub.link(file),
        }
        if found.xet:
            token = f"{self.hub.endpoint}/api/models/{repository}/xet-read-token/{commit}"
            headers |= {"X-Xet-Hash": file.sha256, "Link": f'<{token}>; rel="xet-auth"'}
        self.whole(302, b"", headers | dict(fault.headers))

    def _small(self, repository: str, revision: str, path: str) -> None:
        self.exchange.file = path
        if (entry := self._entry_of(repository, revision, path)) is None:
            return
        _, commit, file = entry
        fault = self.hub.faults.take("content", repository, path) if self.command == "GET" else NO_FAULT
        if not self.spoilt(fault):
            self.file(file, {"ETag": f'"{file.git_sha1}"', "X-Repo-Commit": commit}, fault)

    def _entry_of(self, repository: str, revision: str, path: str) -> tuple[Repository, str, HubFile] | None:
        found = self._repository(repository)
        if found is None or not self._may_read(found):
            return None
        commit = found.resolve(revision)
        if not commit:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        file = found.commits[commit].get(path)
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return None
        return found, commit, file
