"""Features in memory: bounded in bytes and in pictures, those used longest ago leave first."""

from __future__ import annotations

import torch

from vlmchat.engine.vision_cache import VisionCache


def kept(cache: VisionCache, *names: str) -> str:
    return "".join(name for name in names if cache.get(name) is not None)


def test_what_was_used_longest_ago_leaves_when_the_bytes_are_full() -> None:
    cache = VisionCache(capacity=3 * 40, pictures=9)
    for name in "abc":
        cache.put(name, torch.zeros(10))
    assert cache.get("a") is not None
    cache.put("d", torch.zeros(5, 2))
    assert kept(cache, *"abcd") == "acd"
    cache.put("e", torch.zeros(30))
    assert kept(cache, *"abcde") == "e"


def test_many_small_pictures_leave_too() -> None:
    cache = VisionCache(capacity=10**6, pictures=2)
    for name in "abc":
        cache.put(name, torch.zeros(1))
    assert kept(cache, *"abc") == "bc"


def test_a_picture_larger_than_the_cache_drives_nothing_out() -> None:
    cache = VisionCache(capacity=40)
    cache.put("a", torch.ones(10))
    cache.put("b", torch.ones(11))
    assert kept(cache, *"ab") == "a"


def test_the_same_picture_counts_once() -> None:
    cache = VisionCache(capacity=80, pictures=2)
    cache.put("b", torch.ones(10))
    for _ in range(3):
        cache.put("a", torch.ones(10))
    assert kept(cache, *"ab") == "ab"
    cache.clear()
    assert kept(cache, *"ab") == ""
