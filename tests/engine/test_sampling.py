"""Choosing the next token: greedy, temperature, top-k, top-p, repetition penalty, seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from vlmchat.engine.sampling import Sampler
from vlmchat.errors import UsageError
from vlmchat.options import Sampling

LOGITS = torch.log(torch.tensor([[0.5, 0.25, 0.15, 0.1]]))


def drawn(sampling: Sampling, times: int = 4000) -> Counter[int]:
    """Draw independently: a fresh history each time, one generator."""
    sampler = Sampler(sampling)
    counts: Counter[int] = Counter()
    for _ in range(times):
        counts[sampler.next(LOGITS)] += 1
        sampler.generated.clear()
    return counts


def test_greedy_takes_the_largest_whatever_else_is_set() -> None:
    assert drawn(Sampling(top_k=2, top_p=0.1, seed=1), 20) == {0: 20}


def test_temperature_one_draws_the_distribution_itself() -> None:
    counts = drawn(Sampling(temperature=1, seed=1))
    shares = [counts[token] / 4000 for token in range(4)]
    # Three standard deviations of a binomial share at 4,000 draws are at most 0.024.
    assert shares == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.024)


def test_a_lower_temperature_sharpens() -> None:
    counts = drawn(Sampling(temperature=0.5, seed=1))
    # p^2 normalised: 0.25 / 0.345.
    assert counts[0] / 4000 == pytest.approx(0.25 / 0.345, abs=0.024)


def test_top_k_keeps_the_k_largest() -> None:
    assert set(drawn(Sampling(temperature=1, top_k=2, seed=1))) == {0, 1}
    assert set(drawn(Sampling(temperature=1, top_k=100, seed=1))) == {0, 1, 2, 3}


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, {0}), (0.5, {0}), (0.51, {0, 1}), (0.9, {0, 1, 2})])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: set[int]) -> None:
    assert set(drawn(Sampling(temperature=1, top_p=top_p, seed=1))) == kept


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    sampler = Sampler(Sampling(repetition_penalty=2.0))
    logits = torch.tensor([[3.0, 2.0, -1.0, -1.5]])
    assert [sampler.next(logits) for _ in range(3)] == [0, 1, 0]  # 3, then 2 against 1.5, then 1.5 against 1
    sampler = Sampler(Sampling(repetition_penalty=2.0), already=[0, 1, 2])
    assert sampler.next(torch.tensor([[-1.0, -1.0, -1.0, -1.5]])) == 3  # -2 against -1.5


def test_penalty_does_not_change_the_logits_given() -> None:
    logits = torch.tensor([[3.0, 2.0]])
    Sampler(Sampling(repetition_penalty=2.0), already=[0]).next(logits)
    assert logits.tolist() == [[3.0, 2.0]]


def test_seed_decides_the_draws() -> None:
    def sequence(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=1, seed=seed))
        return [sampler.next(LOGITS) for _ in range(40)]

    assert sequence(5) == sequence(5)
    assert sequence(5) != sequence(6)
    assert sequence(None) != sequence(None)


@pytest.mark.parametrize(
    "bad",
    [{"max_new_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1},
     {"top_k": -1}, {"repetition_penalty": 0}],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_name_the_option(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--" + next(iter(bad)).replace("_", "-")):
        Sampling(**bad)  # type: ignore[arg-type]
