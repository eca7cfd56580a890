"""Quantized, the embedded model says what it says whole: the numbers of ``tests.bench.bench_quality``, in small."""

from __future__ import annotations

import pytest

from tests.bench.quality import distance, loaded, paths, requests
from vlmchat.demo import CHECKPOINT
from vlmchat.options import Quantization

SEED = 98_000
"""Of no training, and of no other test."""
WORST: dict[Quantization, tuple[float, float]] = {"8-bit": (0.0005, 0.985), "4-bit": (0.01, 0.96)}
"""Nats, share of tokens: over 756 tokens 0.00002 and 100 %, 0.0007 and 99.9 %."""


def test_eight_and_four_bits_say_the_same() -> None:
    asked = requests(8, SEED)
    engine = loaded(CHECKPOINT, "none", "float32")
    whole = paths(engine, asked)
    engine.close()
    found = {}
    for quantization, (divergence, agreement) in WORST.items():
        engine = loaded(CHECKPOINT, quantization, "float32")
        found[quantization] = distance(engine, asked, whole)
        engine.close()
        assert found[quantization].tokens > 30
        assert 0 < found[quantization].divergence < divergence
        assert found[quantization].agreement > agreement
    # The measure tells them apart.
    assert found["4-bit"].divergence > 5 * found["8-bit"].divergence


def test_a_worse_model_is_seen() -> None:
    asked = requests(2, SEED)
    engine = loaded(CHECKPOINT, "none", "float32")
    whole = paths(engine, asked)
    assert distance(engine, asked, whole).divergence == pytest.approx(0, abs=1e-9)
    for layer in engine.runner.model.network.blocks():
        layer.get_parameter("mlp.down_proj.weight").data.zero_()
    assert distance(engine, asked, whole).divergence > WORST["4-bit"][0]
    engine.close()
