"""The download from outside: both hubs on loopback, the real clients afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.hub.loopback import Fault, Hubs, noise, sign_in_page, status
from vlmchat.errors import AlteredDownload
from vlmchat.hub.download import Limits, Wanted, download, make_plan
from vlmchat.hub.events import Done, DownloadEvent, HubSwitched, Paused, Planned, Progress, Restarted, Slow, Verified
from vlmchat.hub.source import HubName
from vlmchat.settings import Hub

MIB = 1024**2
NAME = "Own/Model-1B"
BOTH = Wanted(NAME, NAME, NAME)
QUICK = Limits(streams=4, piece_bytes=2 * MIB, connect_s=2.0, read_s=3.0, backoff_s=0.01)
CONTENTS = {
    "config.json": b'{"model_type": "x"}',
    "tokenizer.json": noise("tokenizer", 70_000),
    "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
    "model-00001-of-00002.safetensors": noise("one", 5 * MIB + 17),
    "model-00002-of-00002.safetensors": noise("two", 3 * MIB),
    "modeling_x.py": b"print('never')",
    "README.md": b"# x",
    "pytorch_model.bin": noise("bin", MIB),
}
WANTED = {name for name in CONTENTS if name.endswith((".json", ".safetensors"))}
SIZE = sum(len(CONTENTS[name]) for name in WANTED)


@pytest.fixture
def repository(hubs: Hubs) -> Hubs:
    hubs.publish(NAME, CONTENTS)
    return hubs


def run(wanted: Wanted = BOTH, hub: Hub = "huggingface", limits: Limits = QUICK) -> list[DownloadEvent]:
    return list(download(make_plan(wanted, hub, limits=limits), limits=limits))


def done(events: list[DownloadEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def assert_whole(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: CONTENTS[name] for name in WANTED}


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_a_model_comes_whole_and_only_what_it_needs(repository: Hubs, hub: HubName) -> None:
    events = run(hub=hub)
    end = done(events)
    assert_whole(end.folder)
    assert (end.bytes, end.fetched, repository.bytes) == (SIZE, SIZE, SIZE)
    assert isinstance(events[0], Planned)
    assert {event.path for event in events if isinstance(event, Verified)} == WANTED
    totals = [event.done for event in events if isinstance(event, Progress)]
    assert totals == sorted(totals)
    assert totals[-1] == SIZE


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_files_of_equal_bytes_all_come(hubs: Hubs, hub: HubName) -> None:
    """They share a hash, and with it a blob and a partial file."""
    for edition in (b"1", b"2"):
        small, large = b"{" + edition + b"}", noise(edition.decode(), 3 * MIB)
        names = {f"{at}.json": small for at in "abcd"} | {f"{at}.safetensors": large for at in "ab"}
        hubs.publish(NAME, {"config.json": small, **names})
        folder = done(run(hub=hub)).folder
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"config.json": small, **names}


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        (Fault("cut", at=MIB), 0),
        (Fault("reset", at=MIB), MIB),
        (Fault("stall", at=MIB, seconds=30), 0),
        (Fault("ignore-range"), 12 * MIB),
        (Fault("shift-range", after=100), 0),
        (Fault("short-length", after=1000), 0),
        (Fault("chunked"), 0),
        (Fault("drop"), 0),
        (Fault("gzip"), 12 * MIB),
        (Fault("loop"), 0),
        (sign_in_page(), 0),
        (status(503), 0),
        (status(429, "1"), 0),
        (status(403), 0),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_stream_that_breaks_is_taken_up_where_it_ended(repository: Hubs, kind: Fault, extra: int) -> None:
    repository.huggingface.faults.add("content", "model-0000*", kind, times=2)
    assert_whole(done(run()).folder)
    assert repository.huggingface.faults.struck == 2
    assert SIZE <= repository.bytes <= SIZE + extra + 100_000


@pytest.mark.parametrize(("fault", "times"), [(Fault("flip", at=MIB), 1), (Fault("lie-range", after=64), 3)])
def test_a_wrong_file_is_fetched_again_alone(repository: Hubs, fault: Fault, times: int) -> None:
    repository.huggingface.faults.add("content", "model-00001*", fault, times)
    events = run(Wanted(NAME, NAME))
    assert_whole(done(events).folder)
    shard = len(CONTENTS["model-00001-of-00002.safetensors"])
    assert [event.dropped for event in events if isinstance(event, Restarted)] == [shard]
    assert repository.bytes == SIZE + shard


def test_wrong_bytes_for_ever_are_refused_and_the_rest_is_kept(repository: Hubs) -> None:
    repository.huggingface.faults.add("content", "model-00001*", Fault("flip", at=10))
    with pytest.raises(AlteredDownload):
        run(Wanted(NAME, NAME))
    repository.huggingface.faults.clear()
    before = repository.bytes
    assert_whole(done(run(Wanted(NAME, NAME))).folder)
    assert repository.bytes - before <= 9 * MIB


def test_another_hub_goes_on_in_the_middle_of_a_file(repository: Hubs) -> None:
    repository.huggingface.faults.add("content", "model-00001*", Fault("cut", at=MIB), times=1)
    repository.huggingface.faults.add("content", "model-00001*", status(503))
    events = run(hub="auto")
    end = done(events)
    assert_whole(end.folder)
    assert end.hub == "huggingface"
    assert {(event.before, event.after) for event in events if isinstance(event, HubSwitched)} == {
        ("huggingface", "modelscope")
    }
    assert repository.bytes <= SIZE + MIB
    assert 0 < repository.modelscope.record.bytes() < len(CONTENTS["model-00001-of-00002.safetensors"])


def test_a_hub_that_is_down_is_not_waited_for(repository: Hubs) -> None:
    repository.huggingface.stop()
    end = done(run(hub="auto"))
    assert end.hub == "modelscope"
    assert_whole(end.folder)


def test_a_slow_stream_is_given_to_the_other_hub(repository: Hubs) -> None:
    repository.huggingface.faults.add("content", "model-0000*", Fault("drip", at=1000, rate=2000))
    limits = Limits(streams=4, floor_rate=10_000, floor_s=0.5)
    events = run(hub="auto", limits=limits)
    assert_whole(done(events).folder)
    assert any(isinstance(event, HubSwitched) and "kB/s" in event.reason for event in events)


def test_slow_without_another_hub_is_said(repository: Hubs) -> None:
    repository.huggingface.faults.add("content", "tokenizer.json", Fault("drip", at=1000, rate=50_000), times=1)
    events = run(Wanted(NAME, NAME), limits=Limits(floor_rate=1e9, floor_s=0.3))
    done(events)
    assert any(isinstance(event, Slow) for event in events)


def test_pause_while_the_server_says_nothing_then_go_on(repository: Hubs) -> None:
    repository.huggingface.faults.add("content", "model-0000*", Fault("stall", at=MIB, seconds=60), times=2)
    plan = make_plan(Wanted(NAME, NAME))
    cancel = threading.Event()
    events = []
    for event in download(plan, cancel, Limits(streams=4)):
        events.append(event)
        if isinstance(event, Progress) and event.done >= 2 * MIB:
            cancel.set()
    assert isinstance(events[-1], Paused)
    assert events[-1].done >= 2 * MIB
    repository.huggingface.faults.clear()
    assert_whole(done(run(Wanted(NAME, NAME))).folder)
    assert repository.bytes <= SIZE + MIB


def test_what_is_here_is_used_after_a_check_and_one_bad_file_is_mended(repository: Hubs) -> None:
    folder = done(run()).folder
    before = repository.bytes
    assert done(run()).fetched == 0
    assert repository.bytes == before
    shard = (folder / "model-00002-of-00002.safetensors").resolve()
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    events = run()
    assert_whole(done(events).folder)
    assert [event.path for event in events if isinstance(event, Restarted)] == [
        shard_name := "model-00002-of-00002.safetensors"
    ]
    assert repository.bytes - before == len(CONTENTS[shard_name])


@pytest.mark.parametrize("first", ["huggingface", "modelscope"])
def test_the_other_hubs_files_are_not_fetched_twice(repository: Hubs, first: HubName) -> None:
    second: HubName = "modelscope" if first == "huggingface" else "huggingface"
    run(hub=first)
    end = done(run(hub=second))
    assert_whole(end.folder)
    weights = sum(len(CONTENTS[name]) for name in WANTED if name.endswith(".safetensors"))
    assert end.fetched <= SIZE - weights


def test_a_file_that_was_removed_by_hand_comes_back_from_the_other_hubs_copy(repository: Hubs) -> None:
    folder = done(run(hub="huggingface")).folder
    run(hub="modelscope")
    before = repository.bytes
    weights = folder / "model-00001-of-00002.safetensors"
    weights.resolve().unlink()
    assert_whole(done(run(hub="huggingface")).folder)
    assert repository.bytes == before


def test_the_official_clients_adopt_it_without_fetching(repository: Hubs) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    hf, ms = done(run(hub="huggingface")), done(run(hub="modelscope"))
    before = repository.bytes
    patterns = sorted(WANTED)
    endpoint = repository.huggingface.endpoint
    assert (
        Path(snapshot_download(NAME, allow_patterns=patterns, cache_dir=hf.folder.parents[2], endpoint=endpoint))
        == hf.folder
    )
    from modelscope_hub import HubApi, HubConfig

    api = HubApi(HubConfig(endpoint=repository.modelscope.endpoint))
    assert Path(api.download_repo(NAME, "model", allow_patterns=patterns)) == ms.folder
    assert repository.bytes == before
    cache = scan_cache_dir(hf.folder.parents[2])
    assert not cache.warnings
    assert [(repo.repo_id, repo.size_on_disk) for repo in cache.repos] == [(NAME, SIZE)]


def test_a_mirror_that_leaves_hashes_out_is_asked_for_each(repository: Hubs) -> None:
    repository.huggingface.repositories[NAME].hashes = False
    assert_whole(done(run(Wanted(NAME, NAME))).folder)
