"""The loopback hubs are worth what the real clients say of them: both list, resolve and download from them."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.loopback import MIB, Fault, Hub, HubFile, Hubs, noise, sign_in_page, status
from tests.hub.loopback.clients import huggingface_snapshot, modelscope_snapshot

REPOSITORY = "Own/Model-1B"
SHARD = "model-00001-of-00002.safetensors"
FILES = {
    "config.json": b'{"architectures": ["Any"]}',
    "README.md": b"# A model\n",
    "original/notes.txt": b"in a folder",
    SHARD: noise("one", 3 * MIB + 17),
    "model-00002-of-00002.safetensors": noise("two", 2 * MIB),
}
Snapshot = Callable[[Hub, str], Path]


@pytest.fixture
def files(hubs: Hubs) -> dict[str, HubFile]:
    return hubs.publish(REPOSITORY, FILES)


@pytest.fixture(params=["huggingface", "modelscope"])
def side(request: pytest.FixtureRequest, hubs: Hubs) -> tuple[Hub, Snapshot]:
    if request.param == "huggingface":
        return hubs.huggingface, huggingface_snapshot
    return hubs.modelscope, modelscope_snapshot


def fetch(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask for a URL, following redirects; an error is an answer too."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def shard_link(hub: Hub) -> str:
    if hub.branch == "main":
        return f"{hub.endpoint}/{REPOSITORY}/resolve/main/{SHARD}"
    return f"{hub.endpoint}/api/v1/models/{REPOSITORY}/repo?Revision=master&FilePath={SHARD}"


def test_the_official_client_fetches_everything_once(files: dict[str, HubFile], side: tuple[Hub, Snapshot]) -> None:
    hub, snapshot = side
    folder = snapshot(hub, REPOSITORY)
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert hub.record.bytes() == sum(map(len, FILES.values()))
    snapshot(hub, REPOSITORY)
    assert hub.record.bytes() == sum(map(len, FILES.values())), "a second call fetches nothing"


def test_a_listing_of_many_pages(hubs: Hubs) -> None:
    data = {f"{number}.json": b"{}" * number for number in range(7)}
    hubs.publish(REPOSITORY, data)
    hubs.huggingface.page_size = 3
    folder = huggingface_snapshot(hubs.huggingface, REPOSITORY)
    assert {path.name for path in folder.iterdir()} == set(data)
    assert len([e for e in hubs.huggingface.record.requests() if "/tree/" in e.target]) == 3


def test_another_commit_and_another_branch(hubs: Hubs) -> None:
    hubs.publish(REPOSITORY, {"config.json": b"old"})
    old = hubs.huggingface.repositories[REPOSITORY].head
    for hub in hubs.both:
        repository = hub.repositories[REPOSITORY]
        repository.branches["v1"] = repository.head
        repository.commit({"config.json": hubs.store("config.json", b"new")})
    assert (huggingface_snapshot(hubs.huggingface, REPOSITORY) / "config.json").read_bytes() == b"new"
    assert (huggingface_snapshot(hubs.huggingface, REPOSITORY, old) / "config.json").read_bytes() == b"old"
    assert (huggingface_snapshot(hubs.huggingface, REPOSITORY, "v1") / "config.json").read_bytes() == b"old"
    assert (modelscope_snapshot(hubs.modelscope, REPOSITORY, "v1") / "config.json").read_bytes() == b"old"


def test_a_gated_repository_on_hugging_face(files: dict[str, HubFile], hubs: Hubs) -> None:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    hub = hubs.huggingface
    hub.users = {"hf_reader": "reader", "hf_other": "other"}
    hub.publish(REPOSITORY, files, gated=True, readers=frozenset({"reader"}))
    for token, code in (("", 401), ("hf_other", 403)):
        with pytest.raises(GatedRepoError) as refused:
            huggingface_snapshot(hub, REPOSITORY, token=token)
        assert refused.value.response.status_code == code
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        huggingface_snapshot(hub, REPOSITORY, token="hf_wrong")
    assert huggingface_snapshot(hub, REPOSITORY, token="hf_reader")


def test_a_private_repository(files: dict[str, HubFile], hubs: Hubs) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError
    from modelscope_hub.errors import AuthenticationError, NotExistError

    for hub in hubs.both:
        hub.users = {"token-reader": "reader"}
        hub.publish(REPOSITORY, files, private=True, readers=frozenset({"reader"}))
    with pytest.raises(RepositoryNotFoundError):
        huggingface_snapshot(hubs.huggingface, REPOSITORY)
    with pytest.raises(NotExistError):
        modelscope_snapshot(hubs.modelscope, REPOSITORY)
    hubs.modelscope.repositories[REPOSITORY].private = False
    with pytest.raises(AuthenticationError):
        modelscope_snapshot(hubs.modelscope, REPOSITORY, token="wrong")
    hubs.modelscope.repositories[REPOSITORY].private = True
    assert huggingface_snapshot(hubs.huggingface, REPOSITORY, token="token-reader")
    assert modelscope_snapshot(hubs.modelscope, REPOSITORY, token="token-reader")
    for hub in hubs.both:
        assert any("token-reader" in e.credentials for e in hub.record.requests("hub"))
        assert not any("token-reader" in e.credentials for e in hub.record.requests("cdn"))


def test_missing_repositories_and_revisions(files: dict[str, HubFile], hubs: Hubs) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    from modelscope_hub.errors import NotExistError

    with pytest.raises(RepositoryNotFoundError):
        huggingface_snapshot(hubs.huggingface, "Own/Nothing")
    with pytest.raises(RevisionNotFoundError):
        huggingface_snapshot(hubs.huggingface, REPOSITORY, "v9")
    for repository, revision in (("Own/Nothing", None), (REPOSITORY, "v9")):
        with pytest.raises(NotExistError):
            modelscope_snapshot(hubs.modelscope, repository, revision)


def test_ranges_and_signed_links(files: dict[str, HubFile], side: tuple[Hub, Snapshot]) -> None:
    hub, _ = side
    code, headers, body = fetch(shard_link(hub), Range="bytes=100-199")
    assert (code, body) == (206, FILES[SHARD][100:200])
    assert headers["Content-Range"] == f"bytes 100-199/{len(FILES[SHARD])}"
    assert fetch(shard_link(hub), Range=f"bytes={10**9}-")[0] == 416
    asked = hub.record.requests("cdn")[0]
    link = hub.cdn + asked.target
    assert fetch(link)[2] == FILES[SHARD]
    assert fetch(link, Authorization="Bearer x")[0] == 400
    assert fetch(link.replace("Signature=", "Signature=0"))[0] == 403
    hub.link_uses = 1
    once = hub.link(files[SHARD])
    assert [fetch(once)[0], fetch(once)[0]] == [200, 403]
    hub.link_uses, hub.link_seconds = 1000, -1
    assert fetch(hub.link(files[SHARD]))[0] == 403


def received(link: str, offset: int = 0) -> tuple[bytes, str]:
    """Read a body until it ends, well or badly."""
    wanted = urllib.request.Request(link, headers={"Range": f"bytes={offset}-"})
    body = b""
    try:
        with urllib.request.urlopen(wanted, timeout=1) as answer:
            while piece := answer.read1(65536):
                body += piece
            short = answer.length
    except (OSError, urllib.error.URLError) as error:
        return body, type(error).__name__
    return body, "short" if short else "whole"


@pytest.mark.parametrize(
    ("fault", "offset", "length", "end"),
    [
        (Fault("cut", after=MIB), 0, MIB, "short"),
        (Fault("cut", at=2 * MIB), MIB, MIB, "short"),
        (Fault("cut", at=MIB), 2 * MIB, 0, "short"),
        (Fault("stall", at=MIB, seconds=60), 0, MIB, "TimeoutError"),
        (Fault("short-length", after=1000), 0, 1000, "whole"),
        (Fault("extra", after=1000), 0, len(FILES[SHARD]) + 1000, "whole"),
        (Fault("chunked"), 0, len(FILES[SHARD]), "whole"),
        (Fault("ignore-range"), 1000, len(FILES[SHARD]), "whole"),
        (Fault("shift-range", after=600), 1000, len(FILES[SHARD]) - 400, "whole"),
        (Fault("lie-range", after=600), 1000, len(FILES[SHARD]) - 1000, "whole"),
        (Fault("close"), 0, len(FILES[SHARD]), "whole"),
        (Fault("drop"), 0, 0, "RemoteDisconnected"),
        (status(503, "3"), 0, 0, "HTTPError"),
        (Fault("loop"), 0, 0, "HTTPError"),
        (Fault("wait", seconds=60), 0, 0, "TimeoutError"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else str(value),
)
def test_faults_on_the_wire(
    files: dict[str, HubFile], hubs: Hubs, fault: Fault, offset: int, length: int, end: str
) -> None:
    hub = hubs.huggingface
    hub.faults.add("content", SHARD, fault, times=1 if fault.kind != "loop" else 1000)
    assert received(hub.link(files[SHARD]), offset) == (received_as(fault, offset, length), end)
    if fault.kind == "loop":
        hub.faults.clear()
    assert received(hub.link(files[SHARD])) == (FILES[SHARD], "whole"), "the fault is spent"


def received_as(fault: Fault, offset: int, length: int) -> bytes:
    """What of the shard a fault lets through."""
    whole = FILES[SHARD]
    if fault.kind == "extra":
        return whole + b"x" * 1000
    first = {"ignore-range": 0, "shift-range": offset - 600, "lie-range": offset - 600}.get(fault.kind, offset)
    return whole[first : first + length]


def test_a_reset_counts_only_what_arrived(files: dict[str, HubFile], hubs: Hubs) -> None:
    hub = hubs.huggingface
    hub.faults.add("content", SHARD, Fault("reset", after=2 * MIB), times=1)
    body, end = received(hub.link(files[SHARD]))
    assert end == "ConnectionResetError"
    assert 0 <= hub.record.bytes() - len(body) < MIB


def test_a_flipped_bit(files: dict[str, HubFile], hubs: Hubs) -> None:
    hub = hubs.huggingface
    hub.faults.add("content", SHARD, Fault("flip", at=MIB), times=1)
    body, _ = received(hub.link(files[SHARD]))
    whole = FILES[SHARD]
    assert body == whole[:MIB] + bytes([whole[MIB] ^ 1]) + whole[MIB + 1 :]


def test_a_page_instead_of_a_file_and_a_broken_listing(files: dict[str, HubFile], hubs: Hubs) -> None:
    hub = hubs.huggingface
    hub.faults.add("content", SHARD, sign_in_page(), times=1)
    assert b"Sign in" in received(hub.link(files[SHARD]))[0]
    hub.faults.add("listing", "info", Fault("cut"), times=1)
    code, _, body = fetch(f"{hub.endpoint}/api/models/{REPOSITORY}")
    assert code == 200
    assert not body.endswith(b"}")


def test_a_throttled_stream_and_a_hub_that_goes_down(files: dict[str, HubFile], hubs: Hubs) -> None:
    hub = hubs.huggingface
    hub.rate = MIB
    link = hub.link(files[SHARD])
    with urllib.request.urlopen(link, timeout=5) as answer:
        answer.read(1000)
        hub.stop()
        assert hub.record.bytes() < len(FILES[SHARD])
    with pytest.raises(OSError, match="refused"), socket.socket() as refused:
        refused.connect(("127.0.0.1", int(hub.endpoint.rpartition(":")[2])))


def test_what_the_clients_do_with_faults_is_what_was_measured(files: dict[str, HubFile], hubs: Hubs) -> None:
    """Three rows of the facts, so that the faults are the ones that were meant."""
    for hub in hubs.both:
        hub.faults.add("content", SHARD, Fault("flip", at=MIB), times=1)
    corrupt = huggingface_snapshot(hubs.huggingface, REPOSITORY) / SHARD
    assert corrupt.read_bytes() != FILES[SHARD], "huggingface_hub checks no hash"
    assert (modelscope_snapshot(hubs.modelscope, REPOSITORY) / SHARD).read_bytes() == FILES[SHARD]
    os.truncate(corrupt, MIB)
    huggingface_snapshot(hubs.huggingface, REPOSITORY)
    assert corrupt.stat().st_size == MIB, "nor a size"
