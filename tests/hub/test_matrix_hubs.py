"""Faults of a whole hub: listings, names, tokens, gates, a hub that is away or differs from the other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event as CancelEvent

import pytest

from tests.hub.loopback import FOREVER, MIB, Fault, HubFile, Hubs, noise, sign_in_page, status
from tests.hub.loopback.pulling import (
    QUICK,
    REPOSITORY,
    SHARD,
    SHARDS,
    assert_cost,
    assert_nothing_corrupt,
    assert_whole,
    pull,
    wanted,
)
from vlmchat.errors import (
    AlteredDownload,
    DownloadError,
    GatedModel,
    HubUnreachable,
    ModelError,
    NotInstalled,
    RepositoryMissing,
    TokenRefused,
)
from vlmchat.hub.download import download, make_plan
from vlmchat.hub.events import Done, HubSwitched, Progress
from vlmchat.hub.local import look
from vlmchat.hub.plan import Wanted
from vlmchat.hub.source import HubName

HUBS: list[HubName] = ["huggingface", "modelscope"]
TOKENS = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}
SECRET = "hf_aVerySecretToken0123456789"


@contextmanager
def endpoint(monkeypatch: pytest.MonkeyPatch, name: HubName, url: str) -> Iterator[None]:
    """Lead one hub's client elsewhere."""
    with monkeypatch.context() as patch:
        patch.setenv("HF_ENDPOINT" if name == "huggingface" else "MODELSCOPE_ENDPOINT", url)
        yield


@contextmanager
def deaf(accepts: bool) -> Iterator[str]:
    """A port where no connection is answered: refused, or its first packet dropped as by a firewall."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = "http://{}:{}".format(*listener.getsockname())
        if not accepts:
            yield url
            return
        listener.listen(0)
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield url
        for filler in fillers:
            filler.close()


# Listings


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (status(429, "1"), 2),  # row 11
        (status(500), 3),  # row 13
        (status(503), 3),
        (Fault("drop"), 2),
        (Fault("wait", seconds=600), 1),  # row 25
        (Fault("cut"), 1),
        (sign_in_page(), 1),
        (status(200, body=b"[]"), 1),
    ],
    ids=["11-429", "13-500", "13-503", "13-drop", "25-silence", "cut-json", "sign-in-page", "wrong-json"],
)
def test_a_listing_that_fails_for_a_while(
    hubs: Hubs, files: dict[str, HubFile], name: HubName, fault: Fault, times: int
) -> None:
    hub = hubs.named(name)
    hub.faults.add("listing", "*", fault, times)
    pulled = pull(name)
    assert hub.faults.struck
    assert_whole(hubs, pulled, files)


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(
    "fault",
    [status(500), Fault("drop"), Fault("wait", seconds=600), Fault("cut"), sign_in_page(), status(404), Fault("loop")],
    ids=["500", "drop", "25-silence", "cut-json", "sign-in-page", "404", "loop"],
)
def test_a_listing_that_fails_for_ever(hubs: Hubs, files: dict[str, HubFile], name: HubName, fault: Fault) -> None:
    hubs.named(name).faults.add("listing", "*", fault)
    error = pull(name).error
    assert isinstance(error, DownloadError | ModelError), repr(error)
    assert not hubs.bytes


@pytest.mark.parametrize(
    "fault",
    [status(500), Fault("drop"), Fault("wait", seconds=600), Fault("cut"), sign_in_page(), status(404), Fault("loop")],
    ids=["500", "drop", "25-silence", "cut-json", "sign-in-page", "404", "loop"],
)
def test_the_other_hub_is_asked_when_the_first_lists_nothing(
    hubs: Hubs, files: dict[str, HubFile], fault: Fault
) -> None:
    hubs.huggingface.faults.add("listing", "*", fault)
    pulled = pull("auto")
    assert pulled.done.hub == "modelscope"
    assert_whole(hubs, pulled, files)


@pytest.mark.parametrize("name", HUBS)
def test_a_listing_without_sha256(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    """A file of which no hash is known may be refused, but nothing wrong may be let in."""
    hub = hubs.named(name)
    hub.repositories[REPOSITORY].hashes = False
    hub.faults.add("content", SHARD, Fault("flip", at=MIB), times=1)
    pulled = pull(name)
    assert_nothing_corrupt(files)
    assert pulled.error or pulled.done.bytes == sum(file.size for file in files.values())


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(
    "said", [{"sha256": "0" * 64}, {"size": 3 * MIB + 999}, {"size": 3 * MIB - 999}], ids=["hash", "longer", "shorter"]
)
def test_a_listing_that_lies(hubs: Hubs, files: dict[str, HubFile], name: HubName, said: dict[str, object]) -> None:
    hubs.named(name).repositories[REPOSITORY].lie(SHARD, **said)
    pulled = pull(name)
    assert isinstance(pulled.error, AlteredDownload | DownloadError), pulled
    assert_nothing_corrupt(files)


# Names, tokens, gates


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(("repository", "revision"), [("Own/Nothing", ""), (REPOSITORY, "v9")])
def test_29_a_repository_or_revision_that_is_not_there(
    hubs: Hubs, files: dict[str, HubFile], name: HubName, repository: str, revision: str
) -> None:
    error = pull(name, repository=repository, revision=revision).error
    assert isinstance(error, RepositoryMissing), repr(error)


def test_29_missing_everywhere(hubs: Hubs) -> None:
    assert isinstance(pull("auto").error, RepositoryMissing)


@pytest.mark.parametrize("name", HUBS)
def test_30_a_gated_repository(
    hubs: Hubs, files: dict[str, HubFile], name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = hubs.named(name)
    hub.users = {SECRET: "reader", "hf_other": "other"}
    hub.publish(REPOSITORY, files, gated=True, readers=frozenset({"reader"}))
    assert isinstance(pull(name).error, GatedModel), "no token"
    monkeypatch.setenv(TOKENS[name], "hf_other")
    assert isinstance(pull(name).error, GatedModel | TokenRefused), "not on the list"
    monkeypatch.setenv(TOKENS[name], "hf_wrong")
    assert isinstance(pull(name).error, TokenRefused), "nobody's token"
    assert not hubs.bytes
    monkeypatch.setenv(TOKENS[name], SECRET)
    assert_whole(hubs, pull(name), files, token=SECRET)


def test_30_a_gated_repository_whose_twin_is_open(hubs: Hubs, files: dict[str, HubFile]) -> None:
    """Whichever way: the gate is told of, or the other hub serves."""
    hubs.huggingface.publish(REPOSITORY, files, gated=True)
    pulled = pull("auto")
    if pulled.error:
        assert isinstance(pulled.error, GatedModel)
    else:
        assert_whole(hubs, pulled, files)


@pytest.mark.parametrize("name", HUBS)
def test_30_a_private_repository(
    hubs: Hubs, files: dict[str, HubFile], name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = hubs.named(name)
    hub.users = {SECRET: "reader"}
    hub.publish(REPOSITORY, files, private=True, readers=frozenset({"reader"}))
    assert isinstance(pull(name).error, RepositoryMissing | GatedModel | TokenRefused)
    monkeypatch.setenv(TOKENS[name], SECRET)
    assert_whole(hubs, pull(name), files, token=SECRET)


@pytest.mark.parametrize("name", HUBS)
def test_31_a_token_goes_to_its_own_hub_alone(
    hubs: Hubs,
    files: dict[str, HubFile],
    name: HubName,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not to a CDN, not to the other hub that takes over, not on disk, not into a log or an event."""
    caplog.set_level("DEBUG")
    hub, other = hubs.named(name), hubs.named("modelscope" if name == "huggingface" else "huggingface")
    hub.users = {SECRET: "reader"}
    monkeypatch.setenv(TOKENS[name], SECRET)
    hub.faults.add("content", SHARD, Fault("cut", after=MIB), times=1)
    hub.faults.add("content", SHARDS[2], status(503), FOREVER)
    pulled = pull("auto" if name == "huggingface" else name)
    assert pulled.error or pulled.done
    hub.faults.clear()
    assert_whole(hubs, pull(name), files, token=SECRET)
    assert any(SECRET in exchange.credentials for exchange in hub.record.requests("hub"))
    leaks = [*hub.record.requests("cdn"), *other.record.requests()]
    assert leaks
    assert not [exchange for exchange in leaks if SECRET in exchange.credentials]
    out, err = capfd.readouterr()
    assert SECRET not in repr(pulled.events) + caplog.text + out + err
    home = os.environ["VLMCHAT_HOME"]
    kept = [os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names]  # noqa: PTH118
    assert not [path for path in kept if SECRET.encode() in open(path, "rb").read()]  # noqa: PTH123, SIM115


# A hub that is away


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize("accepts", [True, False], ids=["26-syn-not-answered", "27-refused"])
def test_a_hub_that_cannot_be_reached(
    hubs: Hubs, files: dict[str, HubFile], name: HubName, accepts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(QUICK, connect_s=0.3, attempts=2)
    with deaf(accepts) as url, endpoint(monkeypatch, name, url):
        assert isinstance(pull(name, limits).error, HubUnreachable)
        if name == "huggingface":
            assert_whole(hubs, pull("auto", limits), files)


def test_27_no_hub_can_be_reached_but_the_cache_is_complete(
    hubs: Hubs, files: dict[str, HubFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan may fail; what is installed stays installed, found without a question to a hub."""
    folder = pull("huggingface").done.folder
    with deaf(False) as url, endpoint(monkeypatch, "huggingface", url):
        error = pull("huggingface", replace(QUICK, attempts=2)).error
        assert error is None or isinstance(error, HubUnreachable)
    local = look(REPOSITORY, REPOSITORY)
    assert (local.state, local.folder) == ("installed", folder)


def test_28_offline_with_a_shard_missing(hubs: Hubs, files: dict[str, HubFile]) -> None:
    folder = pull("huggingface").done.folder
    (folder / SHARD).resolve().unlink()
    (folder / SHARD).unlink()
    asked = len(hubs.huggingface.record.exchanges)
    with pytest.raises(NotInstalled):
        make_plan(wanted(), offline=True)
    assert look(REPOSITORY, REPOSITORY).missing == (SHARD,)
    assert len(hubs.huggingface.record.exchanges) == asked
    before = hubs.bytes
    assert_whole(hubs, pull("huggingface"), files)
    assert hubs.bytes - before == files[SHARD].size


def test_28_the_hub_s_own_switch_for_offline(
    hubs: Hubs, files: dict[str, HubFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NotInstalled):
        make_plan(wanted(), "huggingface")
    assert not hubs.huggingface.record.exchanges


def test_a_hub_that_goes_down_in_the_middle(hubs: Hubs, files: dict[str, HubFile]) -> None:
    """The other one goes on at the very byte."""
    hubs.huggingface.rate = 4 * MIB
    down = CancelEvent()

    def pull_the_plug(event: object) -> None:
        if isinstance(event, Progress) and event.done > 3 * MIB and not down.is_set():
            down.set()
            hubs.huggingface.stop()

    pulled = pull("auto", seen=pull_the_plug)
    assert down.is_set()
    done = pulled.done
    assert_nothing_corrupt(files)
    for path in files:
        assert (done.folder / path).stat().st_size == files[path].size
    assert {event.after for event in pulled.of(HubSwitched)} == {"modelscope"}
    assert_cost(hubs, files, QUICK.streams)


@pytest.mark.parametrize("at", [0, MIB, 3 * MIB])
def test_a_takeover_in_the_middle_of_a_file(hubs: Hubs, files: dict[str, HubFile], at: int) -> None:
    hubs.huggingface.faults.add("content", SHARD, Fault("cut", at=at))
    pulled = pull("auto")
    assert_whole(hubs, pulled, files)
    assert_cost(hubs, files, 0)
    assert [(event.path, event.at) for event in pulled.of(HubSwitched)] == [(SHARD, at)]
    assert hubs.modelscope.record.bytes(SHARD) == files[SHARD].size - at


def test_a_hub_with_other_bytes_does_not_take_over(hubs: Hubs, files: dict[str, HubFile]) -> None:
    """Another file under the same name is not the same file."""
    other = {**files, SHARD: hubs.store(SHARD, noise("other", 3 * MIB))}
    hubs.modelscope.publish(REPOSITORY, other)
    hubs.huggingface.faults.add("content", SHARD, Fault("cut", at=MIB))
    pulled = pull("auto")
    assert isinstance(pulled.error, DownloadError), pulled
    assert_nothing_corrupt(files)
    assert not hubs.modelscope.record.bytes(SHARD)


def test_a_repository_on_one_hub_only(hubs: Hubs, files: dict[str, HubFile]) -> None:
    only = Wanted(REPOSITORY, None, REPOSITORY)
    plan = make_plan(only, limits=QUICK)
    assert plan.hub == "modelscope"
    assert not hubs.huggingface.record.exchanges
    last = list(download(plan, limits=QUICK))[-1]
    assert isinstance(last, Done)
