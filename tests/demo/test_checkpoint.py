"""The shipped weights: small, the same network in the engine as in training, and knowing what they claim to know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.cache_utils import DynamicCache

from vlmchat.conversation import user
from vlmchat.demo import CHECKPOINT
from vlmchat.demo.evaluate import SHORT, SUITES, Examinee, as_picture, cases, mean, run
from vlmchat.demo.example import ANSWER
from vlmchat.demo.network import Network, Sizes
from vlmchat.families.family import Span
from vlmchat.options import LoadOptions, VisionOptions

QUESTIONS = 100
"""Per suite: a small fixed set; ``tests/bench/bench_demo.py`` asks more, with another seed."""
SLACK = 1 / QUESTIONS
"""One question: processors round bfloat16 products differently, and two suites stand within one of their floor."""
SEED = 31_000


@pytest.fixture(scope="module")
def examinee() -> Iterator[Examinee]:
    examinee = Examinee(CHECKPOINT)
    yield examinee
    examinee.close()


def test_it_is_small() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 10_000_000


@pytest.mark.parametrize("suite", ["one tile", "several tiles"])
def test_the_engine_computes_what_training_did(suite: str) -> None:
    """Features and logits in float32 within 1e-4 of the training code."""
    examinee = Examinee(CHECKPOINT, LoadOptions(device="cpu", dtype="float32"))
    model = examinee.engine.runner.model
    network = Network(Sizes())
    network.load_state_dict(load_file(CHECKPOINT / "model.safetensors"), strict=False)
    network.float().eval()
    for case in cases(SUITES[suite], 2, SEED):
        prompt = model.checkpoint.layout((user(case.turns[0].question, case.picture),), VisionOptions())
        length = len(prompt.ids)
        ids, positions = torch.tensor(prompt.ids)[None], torch.arange(length)[None]
        places = torch.full((1, length), -1)
        for slot in prompt.slots:
            places[0, slot.start : slot.start + slot.length] = torch.arange(slot.offset, slot.offset + slot.length)
        with torch.inference_mode():
            pixels = torch.as_tensor(model.checkpoint.pixels(prompt.pictures[0]))
            features = model.network.encode(pixels)
            _, tokens = network.see(pixels)
            assert torch.allclose(features, tokens, atol=1e-4)
            hidden, _ = network.read(
                ids, tokens.flatten(0, 1), places, positions, torch.ones(1, length, length).tril() > 0
            )
            wanted = network.language_model.lm_head(hidden)
            embedded = model.network.embed(ids).clone()
            embedded[0, places[0] >= 0] = features.flatten(0, 1)
            span = Span(embedded, positions, (length,))
            found = model.network.logits(model.network.hidden_states(span, DynamicCache()))
        assert torch.allclose(found, wanted, atol=1e-4)
    examinee.close()


@pytest.mark.parametrize("name", SUITES)
def test_it_knows_what_it_claims(examinee: Examinee, name: str) -> None:
    suite = SUITES[name]
    results = run(suite, QUESTIONS, SEED, examinee)
    wrong = [f"{result.question} -> {result.got} (not {result.wanted})" for result in results if result.score < 1]
    assert mean(results) >= SHORT.get(name, suite.floor) - SLACK, "\n".join(wrong)


def test_what_falls_short_is_a_suite_below_its_floor() -> None:
    assert all(line < SUITES[name].floor for name, line in SHORT.items())


def test_the_example_of_the_readme(examinee: Examinee) -> None:
    path = Path(__file__).parents[2] / "screenshots" / "example.png"
    answer = examinee((user("What is in this picture?", as_picture(Image.open(path).convert("RGB"))),))
    assert answer == ANSWER
