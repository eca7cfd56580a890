"""The towers' own attention in bfloat16 against exact arithmetic, and that the families use it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference_cases import QWEN2
from vlmchat.engine.loader import draw_up
from vlmchat.families.tower_attention import LONG, NAME, tower_attention, tower_attention_forward


def drawn(length: int, dtype: torch.dtype, tiles: int = 2) -> list[Tensor]:
    """Return query, key and value [tiles, 3 heads, length, 16], laid out as a projection leaves them."""
    torch.manual_seed(0)
    return [torch.randn(tiles, length, 3, 16).to(dtype).transpose(1, 2) for _ in range(3)]


def exact(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Return the same in float64, step by step."""
    scores = (query.double() @ key.double().transpose(2, 3) * scale).softmax(-1)
    return (scores @ value.double()).transpose(1, 2)


@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float32, 1e-5)])
def test_attention_is_that_of_exact_arithmetic(length: int, dtype: torch.dtype, tolerance: float) -> None:
    query, key, value = drawn(length, dtype)
    before = query.clone()
    found = tower_attention(query, key, value, 0.3)
    wanted = exact(query, key, value, 0.3)
    assert found.shape == (2, length, 3, 16) and found.dtype == dtype and found.is_contiguous()
    assert (found.double() - wanted).norm() / wanted.norm() < tolerance
    assert torch.equal(query, before)


def test_a_long_tile_in_bfloat16_takes_the_way_by_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    fused: list[int] = []
    real = functional.scaled_dot_product_attention

    def counting(query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Tensor:
        fused.append(query.shape[2])
        return real(query, key, value, scale=scale)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counting)
    for length, dtype in ((LONG, torch.bfloat16), (LONG, torch.float32), (LONG - 1, torch.bfloat16)):
        query, key, value = drawn(length, dtype)
        tower_attention(query, key, value, 0.3)
    assert fused == [LONG, LONG - 1]


def test_a_mask_is_heeded() -> None:
    query, key, value = drawn(LONG, torch.bfloat16, tiles=1)
    seen = torch.ones(LONG, LONG, dtype=torch.bool).tril()[None, None]
    module = nn.Module()
    found, _ = tower_attention_forward(module, query, key, value, seen, scaling=0.3, dropout=0.0, is_causal=False)
    first = value.transpose(1, 2)[:, 0]
    assert torch.allclose(found[:, 0], first, atol=1e-2)
    plain, _ = tower_attention_forward(module, query, key, value, None, scaling=0.3, dropout=0.0, is_causal=False)
    assert not torch.allclose(plain[:, 0], first, atol=1e-2)


def test_only_the_tower_of_a_model_attends_so() -> None:
    config: Any = draw_up(QWEN2 / "checkpoint").network.module.config
    assert (config.vision_config._attn_implementation, config.text_config._attn_implementation) == (NAME, "sdpa")
