"""ModelScope's protocol: file list, revisions, model info, ``repo`` downloads, tokens as header and as cookie."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Any

from tests.hub.loopback.contents import HubFile, Repository
from tests.hub.loopback.faults import Fault
from tests.hub.loopback.hub import Hub
from tests.hub.loopback.wire import Answerer

_MODEL = re.compile(r"/(?:api|openapi)/v1/models/(?P<id>[^/]+/[^/]+)(?:/(?P<what>repo/files|revisions|repo))?")
_NOT_FOUND = 10010205001
_DENIED = 10010205002


def modelscope() -> Hub:
    """Make a hub that speaks ModelScope's protocol."""
    return Hub(ModelScope, "master")


class ModelScope(Answerer):
    """One connection to a hub of ModelScope's kind."""

    def do_POST(self) -> None:  # noqa: N802
        """Read what came, then answer as for anything else."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    def route(self) -> None:
        if self.place == "/api/v1/repos/internalAccelerationInfo":
            self._data({"InternalRegionQueryAddress": ""})
        elif self.place in {"/openapi/v1/users/me", "/api/v1/login"}:
            user = self.hub.user(self.token)
            self._data({"Username": user}) if user else self._refuse(401, _DENIED, "authentication required")
        elif match := _MODEL.fullmatch(self.place):
            self._model(match["id"], match["what"] or "info")
        else:
            self._refuse(404, _NOT_FOUND, "not found")

    @property
    def token(self) -> str:
        """From the header, else from the session's cookie."""
        header = self.exchange.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = SimpleCookie(self.exchange.headers.get("cookie", "")).get("m_session_id")
        return header or (cookie.value if cookie else "")

    def _data(self, data: Any, fault: Fault | None = None) -> None:
        answer = {"Code": 200, "Success": True, "Message": "success", "Data": data}
        self.json(200, answer, fault=fault or Fault())

    def _refuse(self, status: int, code: int, message: str) -> None:
        self.json(status, {"Code": code, "Success": False, "Message": message})

    def _model(self, repository: str, what: str) -> None:
        path = self.query.get("FilePath", "")
        self.exchange.file = path if what == "repo" else ""
        # The list is "tree" in the faults of both hubs.
        named = {"repo/files": "tree", "info": "info", "revisions": "refs"}
        fault = (
            self.hub.faults.take("resolve", repository, path)
            if what == "repo"
            else self.hub.faults.take("listing", repository, named[what])
        )
        if self.spoilt(fault):
            return
        found = self.hub.repositories.get(repository)
        user = self.hub.user(self.token)
        if found is None or (found.private and user not in found.readers):
            self._refuse(404, _NOT_FOUND, f"the model {repository} does not exist")
        elif self.token and not user:
            self._refuse(401, _DENIED, "the token is not valid")
        elif found.gated and user not in found.readers:
            self._refuse(403 if user else 401, _DENIED, "apply for access to this model first")
        else:
            self._granted(found, what, fault)

    def _granted(self, found: Repository, what: str, fault: Fault) -> None:
        if what == "info":
            owner, _, name = found.id.partition("/")
            about = {"Path": owner, "Name": name, "License": found.license, "Visibility": 1 if found.private else 5}
            self._data(about, fault)
            return
        if what == "revisions":
            branches = [{"Revision": name, "Type": "branch"} for name in found.branches]
            self._data({"RevisionMap": {"Branches": branches, "Tags": []}}, fault)
            return
        revision = self.query.get("Revision") or found.branch
        commit = found.resolve(revision)
        if not commit:
            self._refuse(404, _NOT_FOUND, f"the revision {revision} does not exist")
        elif what == "repo/files":
            entries = [self._entry(found, commit, file) for file in found.commits[commit].values()]
            self._data({"Files": entries, "IsVisual": 0}, fault)
        else:
            self._download(found, commit, fault)

    @staticmethod
    def _entry(found: Repository, commit: str, file: HubFile) -> dict[str, Any]:
        return {
            "Path": file.path,
            "Name": file.path.rpartition("/")[2],
            "Type": "blob",
            "Size": file.size,
            "Sha256": file.sha256 if found.hashes else "",
            "IsLFS": file.lfs,
            "Revision": commit,
            "Mode": "33188",
            "CommittedDate": 1735787045,
        }

    def _download(self, found: Repository, commit: str, fault: Fault) -> None:
        file = found.commits[commit].get(self.query.get("FilePath", ""))
        if file is None:
            self._refuse(404, _NOT_FOUND, "the file does not exist")
        elif file.lfs:
            headers = {"Location": self.hub.link(file), "X-Linked-Etag": f'"{file.sha256}"'}
            self.whole(302, b"", headers | dict(fault.headers))
        else:
            # A small file comes at once, whole, whatever range was asked for.
            body = self.hub.faults.take("content", found.id, file.path)
            if not self.spoilt(body):
                self.file(file, {"Content-Type": "application/octet-stream"}, body, ranges=False)
