"""The in-place KV cache against Transformers' own, and the common prefix."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from vlmchat.conversation import Picture
from vlmchat.engine.grain import KV_BLOCK as BLOCK
from vlmchat.engine.kv import SequenceCache, mark_of_token, marks_of
from vlmchat.families.family import PictureInput, Prompt, Slot


def test_equals_the_concatenating_cache_over_growth_and_crop() -> None:
    torch.manual_seed(0)
    ours, theirs = SequenceCache(2), DynamicCache()
    for length in (5, 1, BLOCK, 1, 300):
        for layer in range(2):
            keys, values = torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
            got = ours.native.update(keys, values, layer)
            expected = theirs.update(keys, values, layer)
            assert torch.equal(got[0], expected[0])
            assert torch.equal(got[1], expected[1])
        ours.note(range(len(ours), len(ours) + length))
        assert ours.native.get_seq_length() == theirs.get_seq_length() == len(ours)
    assert ours.keep_common([*range(100), -1, -2]) == 100
    theirs.crop(-(theirs.get_seq_length() - 100))
    keys = torch.randn(1, 2, 3, 8)
    assert torch.equal(ours.native.update(keys, keys, 0)[0], theirs.update(keys, keys, 0)[0])


def test_buffers_grow_by_blocks_and_are_counted() -> None:
    cache = SequenceCache(1)
    keys = torch.zeros(1, 2, BLOCK + 1, 8)
    cache.native.update(keys, keys, 0)
    assert cache.bytes() == 2 * 2 * 2 * BLOCK * 8 * 4
    cache.reset()
    assert cache.bytes() == 0


def test_the_last_position_is_always_computed() -> None:
    cache = SequenceCache(1)
    keys = torch.zeros(1, 1, 4, 2)
    cache.native.update(keys, keys, 0)
    cache.note([1, 2, 3, 4])
    assert cache.keep_common([1, 2, 3, 4]) == 3
    assert cache.keep_common([9]) == 0
    assert cache.native.get_seq_length() == 0


def _picture(digest: str, preprocessing: str = "tiles-12") -> PictureInput:
    return PictureInput(Picture(digest, "x", "image/png", 1, 1), 1, 2, preprocessing)


def test_marks_tell_pictures_positions_and_experts_apart() -> None:
    def marks(picture: PictureInput, positions: tuple[int, ...] | None = None) -> list[object]:
        return list(marks_of(Prompt((7, 0, 0, 8), (Slot(1, 2, 0),), (picture,), positions=positions)))

    assert marks(_picture("a")) == marks(_picture("a"))
    assert marks(_picture("a"))[0] == marks(_picture("b"))[0] == 7
    assert marks(_picture("a"))[1:3] != marks(_picture("b"))[1:3]
    assert marks(_picture("a"))[1] != marks(_picture("a"))[2]
    assert marks(_picture("a", "tiles-1"))[1] != marks(_picture("a"))[1]
    assert marks(_picture("a"), (0, 1, 1, 2)) != marks(_picture("a"), (0, 1, 2, 3))


def test_a_generated_token_has_the_mark_it_gets_in_the_next_prompt() -> None:
    before = Prompt((5, 6), positions=(0, 4), experts=(True, False))
    after = Prompt((5, 6, 9), positions=(0, 4, 5), experts=(True, False, False))
    assert marks_of(after)[2] == mark_of_token(9, 5, before)
    assert marks_of(Prompt((5, 9)))[1] == mark_of_token(9, 1, Prompt((5,)))
