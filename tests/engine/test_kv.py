"""The in-place KV cache against Transformers' own, and the common prefix."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor
from transformers import DynamicCache

from vlmchat.conversation import Picture
from vlmchat.engine.grain import KV_BLOCK as BLOCK
from vlmchat.engine.kv import Piece, RowCache, mark_of_token, marks_of
from vlmchat.families.family import PictureInput, Prompt, Slot


def written(cache: RowCache, length: int, *marks: list[Hashable]) -> tuple[Tensor, Tensor]:
    """Append ``length`` random places to each row of a cache of one layer, of which ``marks`` are real."""
    keys, values = torch.randn(len(cache), 2, length, 8), torch.randn(len(cache), 2, length, 8)
    cache.native.update(keys, values, 0)
    cache.note(marks)
    return keys, values


def test_equals_the_concatenating_cache_over_growth_and_cut() -> None:
    torch.manual_seed(0)
    ours, theirs = RowCache(2), DynamicCache()
    for length in (5, 1, BLOCK, 1, 300):
        for layer in range(2):
            keys, values = torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
            got = ours.native.update(keys, values, layer)
            expected = theirs.update(keys, values, layer)
            assert torch.equal(got[0], expected[0])
            assert torch.equal(got[1], expected[1])
        ours.note([range(ours.lengths[0], ours.lengths[0] + length)])
        assert ours.native.get_seq_length() == theirs.get_seq_length() == ours.lengths[0]
    common = ours.common([*range(100), -1, -2])
    assert common == Piece(ours, 0, 100)
    ours.take([common])
    theirs.crop(-(theirs.get_seq_length() - 100))
    keys = torch.randn(1, 2, 3, 8)
    assert torch.equal(ours.native.update(keys, keys, 0)[0], theirs.update(keys, keys, 0)[0])


def test_memory_is_what_the_tokens_need_within_5_percent_at_every_thousand() -> None:
    """As a chat grows, 50 places at a time; the spare places of the buffers count."""
    cache, at_thousands = RowCache(2), list[int]()
    needed = 2 * 2 * 2 * 8 * 4  # bytes a token: layers, keys and values, heads, head size, float32
    while cache.lengths[0] < 6000:
        for layer in range(2):
            cache.native.update(torch.zeros(1, 2, 50, 8), torch.zeros(1, 2, 50, 8), layer)
        cache.note([range(50)])
        if cache.lengths[0] % 1000 == 0:
            at_thousands.append(cache.bytes())
    assert len(at_thousands) == 6
    for thousands, held in enumerate(at_thousands, 1):
        assert 1 <= held / (1000 * thousands * needed) <= 1.05


def test_rows_of_different_lengths_are_written_behind_their_own_ends() -> None:
    cache = RowCache(1, 2)
    first, _ = written(cache, 3, [1, 2, 3], [1])
    second, _ = written(cache, 2, [4], [5, 6])
    assert cache.lengths == (4, 3)
    assert cache.starts == (4, 3)
    keys = torch.randn(2, 2, 1, 8)
    held, _ = cache.native.update(keys, keys, 0)
    assert held.shape == (2, 2, 5, 8)
    assert torch.equal(held[0], torch.cat([first[0], second[0, :, :1], keys[0]], dim=1))
    assert torch.equal(held[1, :, :4], torch.cat([first[1, :, :1], second[1], keys[1]], dim=1))


def test_what_is_read_behind_a_row_is_a_number() -> None:
    """Attention weighs it with zero, and zero times not-a-number would spoil the row."""
    # New memory is filled with not-a-number in this mode.
    torch.use_deterministic_algorithms(True)
    try:
        cache = RowCache(1, 2)
        written(cache, 4, [1, 2, 3, 4], [1])
        one = RowCache(1)
        written(one, BLOCK, list(range(BLOCK)))
        cache.take([Piece(one, 0, BLOCK), Piece(cache, 1, 1)])
        keys = torch.zeros(2, 2, 9, 8)
        for held in cache.native.update(keys, keys, 0):
            assert held.isfinite().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_rows_come_go_and_are_taken_over() -> None:
    cache, other = RowCache(1, 3), RowCache(1, 1)
    keys, values = written(cache, 4, [1, 2, 3, 4], [1, 2], [7])
    newer, _ = written(other, 2, [8, 9])
    cache.take([Piece(cache, 2, 1), Piece(other, 0, 2), Piece(cache, 0, 3), Piece(cache, 1, 0)])
    assert cache.lengths == (1, 2, 3, 0)
    layer = cache.native.layers[0]
    assert torch.equal(layer.keys[0, :, :1], keys[2, :, :1])
    assert torch.equal(layer.keys[1, :, :2], newer[0])
    assert torch.equal(layer.values[2, :, :3], values[0, :, :3])
    assert cache.common([1, 2, 3, 4, 5]) == Piece(cache, 2, 3)
    assert cache.common([8, 9, 1]) == Piece(cache, 1, 2)
    taken = RowCache(1)
    taken.adopt(cache)
    assert list(taken.lengths) == [1, 2, 3, 0]
    taken.reset()
    assert list(taken.lengths) == [0]


def test_buffers_grow_by_blocks_and_are_counted() -> None:
    cache = RowCache(1)
    written(cache, BLOCK + 1, list(range(BLOCK + 1)))
    assert cache.bytes() == 2 * 2 * 2 * BLOCK * 8 * 4
    cache.take([Piece(cache, 0, 3), Piece(cache, 0, 2)])
    assert cache.bytes() == 2 * 2 * 2 * BLOCK * 8 * 4
    cache.reset()
    assert cache.bytes() == 0


def test_the_last_position_is_always_computed() -> None:
    cache = RowCache(1)
    written(cache, 4, [1, 2, 3, 4])
    assert cache.common([1, 2, 3, 4]).length == 3
    nothing = cache.common([9])
    cache.take([nothing])
    assert cache.native.get_seq_length() == nothing.length == 0


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
