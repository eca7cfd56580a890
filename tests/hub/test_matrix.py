"""Every fault of one answer, on each hub alone: the download ends whole or in its own error, never corrupt.

The numbers are the rows of the table of faults that was measured on the official clients.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.hub.loopback import FOREVER, MIB, Fault, Hub, HubFile, Hubs, sign_in_page, status
from tests.hub.loopback.faults import Stage
from tests.hub.loopback.pulling import (
    INDEX,
    QUICK,
    SHARD,
    Pulled,
    assert_cost,
    assert_nothing_corrupt,
    assert_whole,
    pull,
)
from vlmchat.errors import AlteredDownload, DownloadError, HubUnreachable, VlmchatError
from vlmchat.hub.download import Limits
from vlmchat.hub.events import Restarted, Retrying
from vlmchat.hub.source import HubName


@dataclass(frozen=True)
class Row:
    """One row: a fault, where and how often it strikes, and the error it ends in if it does not end well."""

    name: str
    fault: Fault
    times: int = 1
    error: tuple[type[VlmchatError], ...] = ()
    stage: Stage = "content"
    file: str = SHARD
    refetched: int = 0
    """Whole copies of the shard that have to be fetched again."""


GONE = (HubUnreachable,)
ROWS = [
    Row("01-cut-once", Fault("cut", after=2 * MIB)),
    Row("02-reset-once", Fault("reset", after=2 * MIB)),
    Row("02-reset-at-the-first-byte", Fault("reset", after=0), times=2),
    Row("03-cut-each-after-1.5-MiB", Fault("cut", after=3 * MIB // 2), times=FOREVER),
    Row("04-cut-each-after-300-kB", Fault("cut", after=300_000), times=FOREVER),
    Row("04-reset-each-after-300-kB", Fault("reset", after=300_000), times=FOREVER),
    Row("05-cut-always-at-2-MiB", Fault("cut", at=2 * MIB), FOREVER, GONE),
    Row("06-stall-once", Fault("stall", after=2 * MIB, seconds=1)),
    Row("07-stall-for-ever-once", Fault("stall", after=2 * MIB, seconds=600)),
    Row("07-stall-for-ever-always", Fault("stall", at=2 * MIB, seconds=600), FOREVER, GONE),
    Row("09-429-twice-on-the-cdn", status(429, "1"), 2),
    Row("10-429-twice-on-the-file", status(429, "1"), 2, stage="resolve"),
    Row("12-503-three-times-on-the-cdn", status(503), 3),
    Row("12-503-always-on-the-cdn", status(503), FOREVER, GONE),
    Row("12-503-three-times-on-the-file", status(503), 3, stage="resolve"),
    Row("14-wrong-bytes-once", Fault("flip", at=MIB), refetched=1),
    Row("15-wrong-bytes-always", Fault("flip", at=MIB), FOREVER, (AlteredDownload,)),
    Row("15-wrong-bytes-always-in-a-small-file", Fault("flip", at=10), FOREVER, (AlteredDownload,), file="config.json"),
    Row("15-wrong-bytes-once-in-a-small-file", Fault("flip", at=10), file="config.json", refetched=1),
    Row("17-length-too-short-once", Fault("short-length", after=MIB), refetched=1),
    Row("17-length-too-short-always", Fault("short-length", after=0), FOREVER, (DownloadError, AlteredDownload)),
    Row("17-more-bytes-than-listed-once", Fault("extra", after=1000), refetched=1),
    Row(
        "17-more-bytes-than-listed-always",
        Fault("extra", after=1000),
        FOREVER,
        (DownloadError, AlteredDownload),
        refetched=1,
    ),
    Row("18-no-answer-twice", Fault("drop"), 2),
    Row("18-no-answer-always", Fault("drop"), FOREVER, GONE),
    Row("18-silence-once", Fault("wait", seconds=600)),
    Row("18-silence-always", Fault("wait", seconds=600), FOREVER, GONE),
    Row("18-no-answer-for-the-file-twice", Fault("drop"), 2, stage="resolve"),
    Row("19-redirect-loop-on-the-cdn", Fault("loop"), FOREVER, (DownloadError,)),
    Row("19-redirect-loop-on-the-file", Fault("loop"), FOREVER, (DownloadError,), stage="resolve"),
    Row("19-redirect-loop-once", Fault("loop"), 1, stage="resolve"),
    Row("22-chunked-without-length", Fault("chunked"), FOREVER),
    Row("22-gzip-on-small-files", Fault("gzip"), FOREVER, file="tokenizer.json"),
    Row("22-gzip-on-a-shard-once", Fault("gzip"), refetched=1),
    Row("24-403-from-the-cdn-once", status(403)),
    Row("24-403-from-the-cdn-always", status(403), FOREVER, (VlmchatError,)),
    Row("24-404-from-the-cdn-always", status(404), FOREVER, (VlmchatError,)),
    Row("24-416-once", status(416)),
    Row("24-416-always", status(416), FOREVER, (VlmchatError,)),
    Row("sign-in-page-once", sign_in_page(), refetched=1),
    Row("sign-in-page-always", sign_in_page(), FOREVER, (VlmchatError,)),
    Row("sign-in-page-for-a-small-file", sign_in_page(), FOREVER, (VlmchatError,), file="config.json"),
    Row("keep-alive-closed", Fault("close"), FOREVER, file="*"),
    Row("wrong-etag", Fault("headers", headers={"ETag": '"0"', "X-Linked-Etag": f'"{"0" * 64}"'}), stage="resolve"),
    Row("no-etag-on-the-cdn", Fault("headers", headers={"ETag": "", "Accept-Ranges": ""}), FOREVER),
    Row("index-cut-once", Fault("cut", after=20), file=INDEX),
]
HUBS: list[HubName] = ["huggingface", "modelscope"]


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_of_one_answer(hubs: Hubs, files: dict[str, HubFile], row: Row, name: HubName) -> None:
    hub = hubs.named(name)
    hub.faults.add(row.stage, row.file, row.fault, row.times)
    pulled = pull(name)
    assert hub.faults.struck, "the fault never came"
    if row.error and pulled.error:
        assert isinstance(pulled.error, row.error), repr(pulled.error)
        assert_nothing_corrupt(files)
        goes_on_once_the_hub_is_well(hubs, hub, files, row)
        return
    assert_whole(hubs, pulled, files)
    assert_cost(hubs, files, pulled.interruptions + 4 * row.refetched)


def goes_on_once_the_hub_is_well(hubs: Hubs, hub: Hub, files: dict[str, HubFile], row: Row) -> None:
    """After an error what came is kept: a second call fetches the rest, and no whole shard again but the bad one."""
    hub.faults.clear()
    before = hub.record.bytes()
    others = {path: hub.record.bytes(path) for path in files if path != row.file}
    again = pull(hub_name(hubs, hub))
    assert_whole(hubs, again, files)
    fetched = hub.record.bytes() - before
    missing = sum(max(0, file.size - others.get(path, 0)) for path, file in files.items())
    assert fetched <= missing + len(files) * MIB


def hub_name(hubs: Hubs, hub: Hub) -> HubName:
    return "huggingface" if hub is hubs.huggingface else "modelscope"


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.error and row.file == SHARD and row.times == FOREVER], ids=lambda row: row.name
)
def test_the_other_hub_takes_over_from_one_that_never_serves(
    hubs: Hubs, files: dict[str, HubFile], row: Row, name: HubName
) -> None:
    """The same bytes are on both hubs: whatever one does for ever, the other has the file."""
    if name == "modelscope":
        hubs.huggingface.faults.add("listing", "*", status(503))
    else:
        hubs.named(name).faults.add(row.stage, row.file, row.fault, row.times)
    pulled = pull("auto")
    assert_whole(hubs, pulled, files)
    if name == "huggingface" and row.fault.kind != "extra":
        assert hubs.modelscope.record.bytes(SHARD), "it came from the other hub"


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("ignore-range"),  # row 20
        Fault("shift-range", after=500_000),  # row 21
        Fault("lie-range", after=500_000),
        status(416),
    ],
    ids=["20-range-ignored", "21-wrong-content-range", "21-content-range-that-lies", "24-416"],
)
def test_a_resume_that_is_answered_wrongly(hubs: Hubs, files: dict[str, HubFile], fault: Fault, name: HubName) -> None:
    hub = hubs.named(name)
    hub.faults.add("content", SHARD, Fault("cut", after=2 * MIB), times=1)
    hub.faults.add("content", SHARD, fault, times=1)
    pulled = pull(name)
    assert hub.faults.struck == 2
    assert_whole(hubs, pulled, files)
    assert_cost(hubs, files, pulled.interruptions + 4)


@pytest.mark.parametrize("name", HUBS)
def test_23_links_that_expire(hubs: Hubs, files: dict[str, HubFile], name: HubName) -> None:
    """Each link is good for one answer: a fresh one is asked for each attempt."""
    hub = hubs.named(name)
    hub.link_uses = 1
    hub.faults.add("content", SHARD, Fault("cut", after=MIB))
    pulled = pull(name)
    assert_whole(hubs, pulled, files)
    assert_cost(hubs, files, pulled.interruptions)


@pytest.mark.parametrize("name", HUBS)
def test_08_a_trickle_without_another_hub_is_told_and_lasts(
    hubs: Hubs, files: dict[str, HubFile], name: HubName
) -> None:
    hub = hubs.named(name)
    hub.faults.add("content", SHARD, Fault("drip", at=3 * MIB - 60_000, rate=30_000), times=2)
    pulled = pull(name)
    assert_whole(hubs, pulled, files)
    assert_cost(hubs, files, 1 + pulled.interruptions)


def test_08_a_trickle_with_another_hub_is_left(hubs: Hubs, files: dict[str, HubFile]) -> None:
    hubs.huggingface.faults.add("content", SHARD, Fault("drip", at=MIB, rate=1000))
    pulled = pull("auto")
    assert_whole(hubs, pulled, files)
    assert hubs.modelscope.record.bytes(SHARD) <= files[SHARD].size - MIB
    assert_cost(hubs, files, 1)


def test_09_a_retry_after_is_obeyed(hubs: Hubs, files: dict[str, HubFile]) -> None:
    hubs.huggingface.faults.add("content", SHARD, status(429, "1"), times=2)
    waits = [event.wait_s for event in pull("huggingface").of(Retrying)]
    assert len(waits) == 2
    assert min(waits) >= 1


@pytest.mark.parametrize("piece_bytes", [MIB, 700_001])
@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (Fault("cut", after=300_000), FOREVER),
        (Fault("reset", after=300_000), FOREVER),
        (Fault("stall", at=2 * MIB + 5, seconds=600), 1),
        (Fault("flip", at=2 * MIB), 1),
        (Fault("ignore-range"), FOREVER),
        (Fault("lie-range", after=5), 1),
        (status(503), 3),
        (Fault("extra", after=100), 1),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else str(value),
)
def test_files_fetched_in_several_ranges_at_once(
    hubs: Hubs, files: dict[str, HubFile], fault: Fault, times: int, piece_bytes: int
) -> None:
    limits = Limits(streams=6, piece_bytes=piece_bytes, read_s=0.5, attempts=6, backoff_s=0.02)
    hubs.huggingface.faults.add("content", "*.safetensors", fault, times)
    assert_whole(hubs, pull("huggingface", limits), files)


def test_ranges_that_are_never_kept_to_still_end_well(hubs: Hubs, files: dict[str, HubFile]) -> None:
    """A mirror that answers every range with the whole file is slow, and right."""
    hubs.huggingface.faults.add("content", "*", Fault("ignore-range"))
    hubs.huggingface.faults.add("content", SHARD, Fault("cut", after=MIB), times=1)
    assert_whole(hubs, pull("huggingface"), files)


def test_one_bad_file_is_repaired_alone(hubs: Hubs, files: dict[str, HubFile]) -> None:
    hubs.huggingface.faults.add("content", SHARD, Fault("flip", at=MIB), times=1)
    pulled = pull("huggingface")
    assert_whole(hubs, pulled, files)
    assert [event.path for event in pulled.of(Restarted)] == [SHARD]
    assert {path for path, file in files.items() if hubs.huggingface.record.bytes(path) != file.size} == {SHARD}


def test_progress_counts_every_byte_once(hubs: Hubs, files: dict[str, HubFile]) -> None:
    from vlmchat.hub.events import Progress

    hubs.huggingface.faults.add("content", SHARD, Fault("cut", after=MIB), times=2)
    hubs.huggingface.rate = 8 * MIB
    pulled: Pulled = pull("huggingface", QUICK)
    progress = pulled.of(Progress)
    total = sum(file.size for file in files.values())
    assert all(0 <= event.done <= event.total == total for event in progress)
    assert [event.done for event in progress] == sorted(event.done for event in progress), "nothing was restarted"
    assert progress[-1].done == total
    assert pulled.done.fetched == hubs.huggingface.record.bytes() == total
