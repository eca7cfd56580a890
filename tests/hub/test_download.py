"""The download from outside: both hubs on loopback, the real clients afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub.loopback import Hubs, noise
from vlmchat.hub.download import Limits, Wanted, download, make_plan
from vlmchat.hub.events import Done, DownloadEvent, Planned, Progress, Verified
from vlmchat.hub.source import HubName

MIB = 1024**2
NAME = "Own/Model-1B"
BOTH = Wanted(NAME, NAME, NAME)
QUICK = Limits(streams=4, piece_bytes=2 * MIB, connect_s=2.0, read_s=1.0, backoff_s=0.01)
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


def run(wanted: Wanted = BOTH, hub: HubName = "huggingface", limits: Limits = QUICK) -> list[DownloadEvent]:
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
