"""``vlmchat pull`` as a process: signals, two at once, a proxy, the licence, what it prints and how it exits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.hub.loopback import MIB, Fault, HubFile, Hubs, status
from tests.hub.loopback.clients import huggingface_snapshot
from tests.hub.loopback.command import Ended, ended, pulling, run, words
from tests.hub.loopback.proxy import Proxy
from tests.hub.loopback.pulling import REPOSITORY, SHARD, assert_cost, assert_nothing_corrupt
from vlmchat.errors import ExitCode
from vlmchat.hub.local import huggingface_cache, look

HANG_S = 5.0
"""A guard against waiting for a server, not a claim about speed."""


def total(files: dict[str, HubFile]) -> int:
    return sum(file.size for file in files.values())


def assert_installed(hubs: Hubs, files: dict[str, HubFile]) -> None:
    local = look(REPOSITORY, REPOSITORY)
    assert local.state == "installed"
    assert local.bytes == total(files)
    assert_nothing_corrupt(files)
    before = hubs.bytes
    huggingface_snapshot(hubs.huggingface, REPOSITORY)
    assert hubs.bytes == before


def test_a_pull_from_the_command_line(hubs: Hubs, files: dict[str, HubFile]) -> None:
    done = run()
    assert done.code == 0, done.err
    assert done.lines
    assert_installed(hubs, files)
    assert hubs.bytes == total(files)
    assert run().code == 0
    assert hubs.bytes == total(files), "what is installed is not fetched again"


@pytest.mark.parametrize("kind", ["33-SIGTERM", "34-SIGINT"])
@pytest.mark.parametrize("stalled", [False, True], ids=["moving", "35-stalled"])
def test_a_signal_ends_it_at_once_and_keeps_what_came(
    hubs: Hubs, files: dict[str, HubFile], kind: str, stalled: bool
) -> None:
    if stalled:
        hubs.huggingface.faults.add("content", "model-*", Fault("stall", at=2 * MIB, seconds=600))
    else:
        hubs.huggingface.rate = 2 * MIB
    with pulling("--hub", "huggingface") as running:
        assert hubs.huggingface.record.wait_for_bytes(5 * MIB, stopped=lambda: running.poll() is not None)
        running.send_signal(signal.SIGTERM if "TERM" in kind else signal.SIGINT)
        stopped = ended(running, HANG_S)
    assert stopped.code in {ExitCode.INTERRUPTED, -signal.SIGTERM, 128 + signal.SIGTERM}, stopped
    assert stopped.code == ExitCode.INTERRUPTED or "TERM" in kind
    assert "Traceback" not in stopped.err
    streams = hubs.huggingface.record.most_open
    hubs.huggingface.faults.clear()
    hubs.huggingface.rate = 0
    assert run().code == 0
    assert_installed(hubs, files)
    assert_cost(hubs, files, streams)


def test_37_two_processes_fetch_once(hubs: Hubs, files: dict[str, HubFile]) -> None:
    hubs.huggingface.rate = 3 * MIB
    with pulling() as first, pulling() as second:
        both = ended(first), ended(second)
    assert [one.code for one in both] == [0, 0], both
    assert_installed(hubs, files)
    assert hubs.bytes == total(files)


def test_38_the_second_goes_on_when_the_first_is_killed(hubs: Hubs, files: dict[str, HubFile]) -> None:
    hubs.huggingface.rate = 2 * MIB
    with pulling() as first:
        assert hubs.huggingface.record.wait_for_bytes(2 * MIB)
        with pulling() as second:
            assert hubs.huggingface.record.wait_for_bytes(5 * MIB)
            first.kill()
            hubs.huggingface.rate = 0
            last = ended(second)
    assert last.code == 0, last.err
    assert_installed(hubs, files)
    assert_cost(hubs, files, hubs.huggingface.record.most_open)


@pytest.mark.parametrize(
    ("arguments", "harm", "code"),
    [
        (("--hub", "modelscope"), status(401), ExitCode.MODEL),
        ((), Fault("drop"), ExitCode.DOWNLOAD),
    ],
    ids=["refused", "away"],
)
def test_how_it_exits(
    hubs: Hubs, files: dict[str, HubFile], arguments: tuple[str, ...], harm: Fault, code: ExitCode
) -> None:
    for hub in hubs.both:
        hub.faults.add("listing", "*", harm)
    failed = run(*arguments)
    assert failed.code == code, failed
    failed.assert_one_sentence()
    assert not hubs.bytes


def test_a_missing_repository_exits_with_the_code_of_models(hubs: Hubs) -> None:
    failed = run()
    assert failed.code == ExitCode.MODEL, failed
    failed.assert_one_sentence()


def test_altered_files_exit_with_their_own_code(hubs: Hubs, files: dict[str, HubFile]) -> None:
    for hub in hubs.both:
        hub.faults.add("content", "config.json", Fault("flip", at=3))
    failed = run()
    assert failed.code == ExitCode.CHECKPOINT, failed
    failed.assert_one_sentence()
    assert_nothing_corrupt(files)


def test_offline_asks_nobody(hubs: Hubs, files: dict[str, HubFile]) -> None:
    failed = run("--offline")
    assert failed.code == ExitCode.MODEL
    failed.assert_one_sentence()
    assert not hubs.huggingface.record.exchanges
    assert not hubs.modelscope.record.exchanges


def test_40_a_limit_on_the_size_of_files(hubs: Hubs, files: dict[str, HubFile]) -> None:
    """As a quota does: the first write beyond it fails, and is not tried again."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))

    failed = run("--hub", "huggingface", first=limit)
    assert failed.code == ExitCode.DOES_NOT_FIT, failed
    failed.assert_one_sentence()
    assert_nothing_corrupt(files)
    sent = hubs.bytes
    assert run("--hub", "huggingface").code == 0
    assert_installed(hubs, files)
    assert hubs.bytes - sent < total(files) - MIB, "what was kept is used"


# Licence


def without_yes() -> Ended:
    plain = [word for word in words() if word != "--yes"]
    finished = subprocess.run(plain, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    return Ended(finished.returncode, finished.stdout, finished.stderr)


def test_a_licence_is_accepted_before_the_first_byte_and_once(hubs: Hubs, files: dict[str, HubFile]) -> None:
    for hub in hubs.both:
        hub.repositories[REPOSITORY].license = "own-research-licence"
        hub.repositories[REPOSITORY].license_link = "https://example.org/licence"
    refused = without_yes()
    assert refused.code == ExitCode.MODEL, refused
    refused.assert_one_sentence()
    assert "own-research-licence" in refused.err
    assert not hubs.bytes
    assert run().code == 0
    assert without_yes().code == 0, "it was accepted"


# Proxy


def test_through_a_proxy(hubs: Hubs, files: dict[str, HubFile], monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        done = run("--hub", "huggingface")
        assert done.code == 0, done.err
        assert len(proxy.passed) == len(hubs.huggingface.record.exchanges), "nothing went past it"
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.delenv("http_proxy")
    assert_installed(hubs, files)


def test_a_proxy_that_refuses(hubs: Hubs, files: dict[str, HubFile], monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(refuses=True) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        failed = run("--hub", "huggingface")
    assert failed.code == ExitCode.DOWNLOAD, failed
    failed.assert_one_sentence()


# What it leaves


def test_a_log_never_holds_a_token_or_a_signed_link(
    hubs: Hubs, files: dict[str, HubFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hf_aVerySecretToken0123456789"
    hubs.huggingface.users = {secret: "reader"}
    monkeypatch.setenv("HF_TOKEN", secret)
    hubs.huggingface.faults.add("content", SHARD, Fault("cut", after=MIB), times=1)
    done = run("--hub", "huggingface", "--verbose")
    assert done.code == 0, done.err
    assert secret not in done.out + done.err
    assert "Signature=" not in done.out + done.err


def test_rm_frees_a_finished_and_a_begun_download(hubs: Hubs, files: dict[str, HubFile]) -> None:
    cache = huggingface_cache()

    def used() -> int:
        return sum(path.stat().st_blocks * 512 for path in cache.rglob("*") if path.is_file() and not path.is_symlink())

    def remove() -> int:
        command = [sys.executable, "-m", "vlmchat", "rm", REPOSITORY, "--yes"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).returncode

    assert run("--hub", "huggingface").code == 0
    assert used() >= total(files)
    assert remove() == 0
    assert used() < MIB
    hubs.huggingface.rate = 2 * MIB
    with pulling("--hub", "huggingface") as running:
        assert hubs.huggingface.record.wait_for_bytes(hubs.bytes + 4 * MIB)
        running.kill()
    assert used() > MIB
    assert remove() == 0
    assert used() < MIB
    assert look(REPOSITORY, None).state == "missing"


def test_files_dated_in_another_century_are_no_reason_to_start_again(hubs: Hubs, files: dict[str, HubFile]) -> None:
    """A clock that was wrong when the download began says nothing about its bytes."""
    hubs.huggingface.rate = 2 * MIB
    for year in (1990, 2090):
        with pulling("--hub", "huggingface") as running:
            assert hubs.huggingface.record.wait_for_bytes(hubs.bytes + 2 * MIB)
            running.kill()
        then = time.mktime((year, 1, 1, 0, 0, 0, 0, 1, 0))
        for path in huggingface_cache().rglob("*"):
            os.utime(path, (then, then), follow_symlinks=False)
    hubs.huggingface.rate = 0
    assert run("--hub", "huggingface").code == 0
    assert_installed(hubs, files)
    assert_cost(hubs, files, 2 * hubs.huggingface.record.most_open)
