"""A disk that is full, read-only, or somebody else's: one sentence each, and what came is kept."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.hub.loopback import MIB, Hubs
from tests.hub.loopback.command import run
from tests.hub.loopback.pulling import (
    QUICK,
    REPOSITORY,
    assert_cost,
    assert_nothing_corrupt,
    assert_whole,
    checkpoint,
    pull,
)
from vlmchat.errors import CacheNotWritable, DiskFull, ExitCode
from vlmchat.hub.events import Progress
from vlmchat.hub.source import HubName

HUBS: list[HubName] = ["huggingface", "modelscope"]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 40 MiB that holds both caches."""
    place = tmp_path / "disk"
    place.mkdir()
    tool = shutil.which("mount")
    mounted = (
        tool
        and sys.platform == "linux"
        and os.geteuid() == 0
        and not _mount("-t", "tmpfs", "-o", "size=40m", "t", str(place))
    )
    if not mounted:
        pytest.skip("mounting a tmpfs takes root; test_40 fills a limit of the same kind without it")
    monkeypatch.setenv("HF_HOME", str(place / "huggingface"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(place / "modelscope"))
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode


def free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


@pytest.mark.parametrize("name", HUBS)
def test_39_too_small_a_disk_is_seen_before_the_first_byte(hubs: Hubs, disk: Path, name: HubName) -> None:
    hubs.publish(REPOSITORY, checkpoint(14 * MIB))
    pulled = pull(name)
    assert isinstance(pulled.error, DiskFull), pulled
    assert not hubs.bytes


@pytest.mark.parametrize("name", HUBS)
def test_39_a_disk_that_runs_full_on_the_way(hubs: Hubs, disk: Path, name: HubName) -> None:
    files = hubs.publish(REPOSITORY, checkpoint())
    ballast = disk / "ballast"
    hubs.named(name).rate = MIB

    def fill(event: object) -> None:
        if isinstance(event, Progress) and event.done > 2 * MIB and not ballast.exists():
            # Bytes come meanwhile: where they take the room first, the disk is just as full.
            with suppress(OSError):
                ballast.write_bytes(bytes(max(0, free(disk) - 2 * MIB)))

    pulled = pull(name, seen=fill)
    hubs.named(name).rate = 0
    assert isinstance(pulled.error, DiskFull), pulled
    assert_nothing_corrupt(files)
    assert hubs.bytes < sum(file.size for file in files.values()), "it stopped at once"
    again = pull(name)
    assert isinstance(again.error, DiskFull), again
    ballast.unlink()
    assert_whole(hubs, pull(name), files)
    assert_cost(hubs, files, QUICK.streams)


@pytest.mark.parametrize("name", HUBS)
def test_a_read_only_cache(hubs: Hubs, disk: Path, name: HubName) -> None:
    files = hubs.publish(REPOSITORY, checkpoint(MIB))
    assert _mount("-o", "remount,ro", str(disk)) == 0
    pulled = pull(name)
    assert isinstance(pulled.error, CacheNotWritable), pulled
    assert not hubs.bytes
    assert _mount("-o", "remount,rw", str(disk)) == 0
    assert_whole(hubs, pull(name), files)


@pytest.mark.parametrize("name", HUBS)
def test_a_read_only_cache_that_is_complete_serves(hubs: Hubs, disk: Path, name: HubName) -> None:
    files = hubs.publish(REPOSITORY, checkpoint(MIB))
    folder = pull(name).done.folder
    assert _mount("-o", "remount,ro", str(disk)) == 0
    before = hubs.bytes
    assert pull(name).done.folder == folder
    assert hubs.bytes == before
    assert_nothing_corrupt(files)


def as_anybody() -> None:
    """Give up root's right to write where others own: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER."""
    if os.geteuid() == 0:
        for capability in (1, 2, 3):
            assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root can be held back on Linux only")
@pytest.mark.parametrize("name", HUBS)
def test_a_cache_folder_of_somebody_else(hubs: Hubs, name: HubName, tmp_path: Path) -> None:
    hubs.publish(REPOSITORY, checkpoint(MIB))
    for cache in (tmp_path / "huggingface", tmp_path / "modelscope"):
        cache.mkdir()
        cache.chmod(0o555)
        if os.geteuid() == 0:
            os.chown(cache, 65534, 65534)
    failed = run("--hub", name, first=as_anybody)
    assert failed.code == ExitCode.DOWNLOAD, failed
    failed.assert_one_sentence()
    assert not hubs.bytes
