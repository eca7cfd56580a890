"""What changes while a model is fetched or after: caches, commits, lost files, pauses; and what is taken at all."""

from __future__ import annotations

import os

import pytest

from tests.hub.loopback import MIB, Fault, HubFile, Hubs, noise, status
from tests.hub.loopback.clients import huggingface_snapshot
from tests.hub.loopback.pulling import (
    QUICK,
    REPOSITORY,
    SHARD,
    SHARDS,
    assert_cost,
    assert_nothing_corrupt,
    assert_whole,
    checkpoint,
    paused,
    pull,
    wanted,
)
from vlmchat.errors import (
    DownloadError,
    ModelError,
    VlmchatError,
)
from vlmchat.hub.download import download, make_plan
from vlmchat.hub.events import Done, Paused, Progress
from vlmchat.hub.source import HubName

HUBS: list[HubName] = ["huggingface", "modelscope"]


# What changes meanwhile


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize("harm", ["altered", "truncated"])
def test_16_a_cached_shard_that_was_harmed(hubs: Hubs, files: dict[str, HubFile], name: HubName, harm: str) -> None:
    shard = pull(name).done.folder / SHARD
    if harm == "truncated":
        os.truncate(shard, MIB)
    else:
        data = bytearray(shard.read_bytes())
        data[MIB] ^= 1
        shard.resolve().write_bytes(data)
    before = hubs.bytes
    assert_whole(hubs, pull(name), files)
    assert hubs.bytes - before <= files[SHARD].size


@pytest.mark.parametrize("name", HUBS)
def test_41_a_repository_that_moved_on(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    old = pull(name).done
    fresh = {**files, SHARD: hubs.store(SHARD, noise("newer", 3 * MIB))}
    hubs.named(name).repositories[REPOSITORY].commit(fresh)
    before = hubs.bytes
    pulled = pull(name)
    done = pulled.done
    assert (done.folder / SHARD).read_bytes() == fresh[SHARD].location.read_bytes()
    assert hubs.bytes - before == fresh[SHARD].size, "only what changed"
    assert_nothing_corrupt(files, fresh)
    if name == "huggingface":
        assert old.folder != done.folder
        assert (old.folder / SHARD).read_bytes() == files[SHARD].location.read_bytes(), "the old snapshot is kept"


@pytest.mark.parametrize("name", HUBS)
def test_a_new_commit_between_plan_and_download(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    """Either the planned commit comes, or an error; a mixture never does."""
    hub = hubs.named(name)
    plan = make_plan(wanted(), name, limits=QUICK)
    fresh = {**files, SHARD: hubs.store(SHARD, noise("newer", 3 * MIB + 5))}
    hub.repositories[REPOSITORY].commit(fresh)
    try:
        last = list(download(plan, limits=QUICK))[-1]
    except VlmchatError as error:
        assert error.hint
        assert_nothing_corrupt(files)
    else:
        assert isinstance(last, Done)
        assert (last.folder / SHARD).read_bytes() == files[SHARD].location.read_bytes()
    assert pull(name).done


@pytest.mark.parametrize("name", HUBS)
def test_a_new_commit_while_paused_keeps_what_is_the_same(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    hub = hubs.named(name)
    hub.rate = 4 * MIB
    stopped = paused(5 * MIB, hubs, name)
    last = stopped.events[-1]
    assert isinstance(last, Paused)
    kept, sent = last.done, hubs.bytes
    fresh = {**files, "config.json": hubs.store("config.json", b'{"architectures": ["Other"]}')}
    hub.repositories[REPOSITORY].commit(fresh)
    hub.rate = 0
    done = pull(name).done
    assert (done.folder / "config.json").read_bytes() == fresh["config.json"].location.read_bytes()
    assert_nothing_corrupt(files, fresh)
    total = done.bytes
    assert hubs.bytes - sent <= total - kept + files["config.json"].size + hub.record.most_open * MIB


@pytest.mark.parametrize("name", HUBS)
def test_a_file_that_vanishes_on_the_way(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    hub = hubs.named(name)
    hub.faults.add("content", SHARD, Fault("cut", after=MIB), times=1)
    hub.faults.add("content", SHARD, status(404))
    pulled = pull(name)
    assert isinstance(pulled.error, DownloadError | ModelError), pulled
    assert_nothing_corrupt(files)
    before = hubs.bytes
    assert_whole(hubs, pull("auto"), files)
    total = sum(file.size for file in files.values())
    assert hubs.bytes - before <= total - MIB, "what came is kept"


@pytest.mark.parametrize("name", HUBS)
def test_36_one_shard_is_missing_at_once(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    """The error does not wait for the other shards to come to their end, minutes later."""
    hub = hubs.named(name)
    hub.rate = 100_000
    hub.faults.add("resolve", SHARD, status(404))
    pulled = pull(name)
    assert isinstance(pulled.error, DownloadError | ModelError), pulled
    assert hubs.bytes < sum(file.size for file in files.values()) // 2


# Cancel


@pytest.mark.parametrize("name", HUBS)
def test_42_cancel_while_moving_costs_less_than_1_mib_a_stream(hubs: Hubs, name: HubName) -> None:
    files = hubs.publish(REPOSITORY, checkpoint(24 * MIB))
    paused(20 * MIB, hubs, name)
    assert_nothing_corrupt(files)
    hub = hubs.named(name)
    streams = hub.record.most_open
    assert_whole(hubs, pull(name), files)
    assert_cost(hubs, files, streams)


@pytest.mark.parametrize("name", HUBS)
def test_42_pause_and_resume_many_times(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    hub = hubs.named(name)
    hub.rate = 8 * MIB
    total = sum(file.size for file in files.values())
    for tenth in range(1, 8):
        paused(tenth * total // 10, hubs, name)
    assert_whole(hubs, pull(name), files)
    assert_cost(hubs, files, 7 * hub.record.most_open)


def test_a_download_that_is_closed_early_is_a_pause(hubs: Hubs, files: dict[str, HubFile]) -> None:
    hubs.huggingface.rate = 4 * MIB
    stream = download(make_plan(wanted(), "huggingface", limits=QUICK), limits=QUICK)
    for event in stream:
        if isinstance(event, Progress) and event.fetched > MIB:
            stream.close()  # type: ignore[attr-defined]
            break
    hubs.huggingface.rate = 0
    assert_whole(hubs, pull("huggingface"), files)
    assert_cost(hubs, files, hubs.huggingface.record.most_open)


# Xet, licence, what is taken


def test_43_xet_is_left_alone(hubs: Hubs, files: dict[str, HubFile], monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository in Xet comes over plain HTTP: the link is in the same answer."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hubs.huggingface.repositories[REPOSITORY].xet = True
    pulled = pull("huggingface")
    assert_whole(hubs, pulled, files)
    assert not [e for e in hubs.huggingface.record.exchanges if "xet" in e.target]


def test_only_what_a_model_needs_is_fetched(hubs: Hubs) -> None:
    data = checkpoint(MIB)
    extra = {
        "README.md": b"# Read me",
        "modeling_own.py": b"import os",
        "pytorch_model-00001-of-00001.bin": noise("twice", MIB),
        "examples/image.jpg": noise("picture", 10_000),
    }
    files = hubs.publish(REPOSITORY, data | extra)
    done = pull("huggingface").done
    assert {path.name for path in done.folder.iterdir()} == set(data)
    before = hubs.bytes
    huggingface_snapshot(hubs.huggingface, REPOSITORY)
    assert hubs.bytes - before == sum(files[path].size for path in extra)


def test_files_of_the_official_client_are_used_after_verification(hubs: Hubs, files: dict[str, HubFile]) -> None:
    huggingface_snapshot(hubs.huggingface, REPOSITORY)
    before = hubs.bytes
    assert_whole(hubs, pull("huggingface"), files)
    assert hubs.bytes == before


@pytest.mark.parametrize("skew", [-86_400 * 400, 86_400 * 400], ids=["behind", "ahead"])
@pytest.mark.parametrize("name", HUBS)
def test_a_hub_whose_clock_is_wrong(hubs: Hubs, files: dict[str, HubFile], name: HubName, skew: float) -> None:
    hub = hubs.named(name)
    hub.clock_skew = skew
    hub.faults.add("content", SHARD, status(429, "1"), times=1)
    hub.faults.add("content", SHARDS[0], status(503, "Fri, 31 Dec 1999 23:59:59 GMT"), times=1)
    assert_whole(hubs, pull(name), files)
