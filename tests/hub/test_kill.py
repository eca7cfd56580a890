"""Killed again and again at random moments, a download is whole in the end and has cost next to nothing more."""

from __future__ import annotations

import random
import time

from tests.hub.loopback import MIB, Hubs
from tests.hub.loopback.command import pulling, run
from tests.hub.loopback.pulling import REPOSITORY, assert_nothing_corrupt, checkpoint
from vlmchat.hub.local import look

KILLS = 20
ALLOWED = 1.02
SHARD_BYTES = 30 * MIB
RATE = 5 * MIB // 2
"""Of each stream: fast enough for a short test, slow enough that little is under way at any moment."""


def test_32_kill_9_at_twenty_random_moments_then_one_resume(hubs: Hubs) -> None:
    files = hubs.publish(REPOSITORY, checkpoint(SHARD_BYTES))
    total = sum(file.size for file in files.values())
    chance = random.Random(32)
    moments = sorted(chance.uniform(0, 1) for _ in range(KILLS))
    hubs.huggingface.rate = RATE
    for moment in moments:
        with pulling("--hub", "huggingface") as running:
            hubs.huggingface.record.wait_for_bytes(round(moment * total), stopped=lambda: running.poll() is not None)
            time.sleep(chance.uniform(0, 0.02))
            running.kill()
        assert_nothing_corrupt(files)
    last = run("--hub", "huggingface")
    assert last.code == 0, last.err
    assert_nothing_corrupt(files)
    local = look(REPOSITORY, None)
    assert (local.state, local.bytes) == ("installed", total)
    assert hubs.bytes <= ALLOWED * total, f"{hubs.bytes / total:.4f} of the size was fetched"
