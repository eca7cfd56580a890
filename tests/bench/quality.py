"""How far a quantized model is from the whole one, token by token along the answers of the whole one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlmchat.conversation import user
from vlmchat.demo.evaluate import SUITES, cases
from vlmchat.engine import batch
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.sampling import Sampler
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions, Quantization, Sampling


@dataclass(frozen=True)
class Distance:
    """What a sample of tokens says."""

    tokens: int
    divergence: float
    """Mean Kullback-Leibler divergence of the next token's distribution from that of the whole model, in nats."""
    agreement: float
    """Share of tokens for which both find the same one likeliest."""


def requests(count: int, seed: int) -> list[Request]:
    """Return ``count`` questions about fresh drawings, from every suite of first questions in turn."""
    suites = [suite for suite in SUITES.values() if not suite.follow]
    per_suite = -(-count // len(suites))
    drawn = [[*cases(suite, per_suite, seed)] for suite in suites]
    found = [case for turn in zip(*drawn, strict=True) for case in turn]
    return [
        Request((user(case.turns[0].question, case.picture),), Sampling(max_new_tokens=40)) for case in found[:count]
    ]


def loaded(folder: Path, quantization: Quantization, dtype: str = "bfloat16") -> TorchEngine:
    """Return an engine as every front end has it."""
    engine = TorchEngine()
    for _ in engine.load(folder, LoadOptions(device="cpu", dtype=dtype, quantization=quantization)):  # type: ignore[arg-type]
        pass
    return engine


def along(engine: TorchEngine, request: Request, path: Sequence[int] = ()) -> tuple[Tensor, list[int]]:
    """Answer cold, and where there is a ``path`` say it whatever is likeliest.

    Returns:
        (logits [tokens, vocab], ids)
    """
    seen: list[Tensor] = []

    def chosen(samplers: Sequence[Sampler], logits: Tensor) -> list[int]:
        token = path[len(seen)] if path else int(logits.argmax())
        seen.append(logits[0])
        samplers[0].generated.append(token)
        return [token]

    engine.runner.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "choose", chosen)
        *_, finished = engine.generate(request)
    assert isinstance(finished, Finished)
    return torch.stack(seen), list(finished.token_ids)


def paths(engine: TorchEngine, asked: Sequence[Request]) -> list[tuple[Tensor, list[int]]]:
    """Return what ``engine`` answers, with its logits."""
    return [along(engine, request) for request in asked]


def distance(engine: TorchEngine, asked: Sequence[Request], whole: Sequence[tuple[Tensor, list[int]]]) -> Distance:
    """Compare ``engine`` with what the ``whole`` model found, on the same paths."""
    pairs = [(exact, along(engine, request, ids)[0]) for request, (exact, ids) in zip(asked, whole, strict=True)]
    divergences, same = (torch.cat(list(parts)) for parts in zip(*_compared(pairs), strict=True))
    return Distance(len(same), float(divergences.mean()), float(same.float().mean()))


def _compared(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    for exact, near in pairs:
        expected, found = exact.double().log_softmax(-1), near.double().log_softmax(-1)
        divergence = (expected.exp() * (expected - found)).sum(-1)
        yield divergence, exact.argmax(-1) == near.argmax(-1)
