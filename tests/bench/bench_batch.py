"""Requests per second over batch sizes, beside a plain loop of Transformers' ``generate`` in the same run.

``python -m tests.bench.bench_batch [--model demo|1b|FOLDER] [--requests N] [--sizes 1 2 4 8 16] [--clock wall|cpu]``
answers the same requests, from empty caches, by that loop and at each size; medians over alternating runs, and the
ratio. The demo gets drawn pictures with questions and answers to the end; other models a text each and 32 tokens.
``--clock cpu`` counts the process's own seconds, for one thread on a machine where others work.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from tests.bench.bench_engine import folder_of, generated, inputs_of
from vlmchat.conversation import user
from vlmchat.demo.evaluate import SUITES, cases
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions, Sampling

NEW_TOKENS = 32
SEED = 4_000
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def ours(engine: TorchEngine, requests: list[Request], size: int) -> list[list[int]]:
    """Answer from empty caches, ``size`` at a time."""
    engine.runner.forget()
    answers: dict[int, list[int]] = {}
    for number, event in engine.generate_many(requests, size):
        if isinstance(event, Finished):
            answers[number] = list(event.token_ids)
    return [answers[number] for number in range(len(requests))]


def plain(engine: TorchEngine, requests: list[Request]) -> list[list[int]]:
    """Answer one after the other with ``generate`` on the same weights."""
    stops = sorted(engine.runner.model.checkpoint.stop_ids)
    limit = requests[0].sampling.max_new_tokens
    return [
        generated(engine, inputs_of(engine, request), max_new_tokens=limit, eos_token_id=stops).tolist()
        for request in requests
    ]


def asked(model: str, count: int) -> list[Request]:
    """Return ``count`` requests: of the demo's suites in turn, or texts of different lengths."""
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    if model != "demo":
        return [Request((user("red " * (20 + 13 * number % 60)),), sampling) for number in range(count)]
    each = -(-count // len(SUITES))
    # A seed for each suite: with one for all, the suites ask about the same pictures.
    suites = [cases(suite, each, SEED + place) for place, suite in enumerate(SUITES.values())]
    drawn = [case for of_each in zip(*suites, strict=False) for case in of_each]
    return [Request((user(case.turns[0].question, case.picture),), sampling) for case in drawn[:count]]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    engine, clock = TorchEngine(), CLOCKS[arguments.clock]
    for _ in engine.load(folder_of(arguments.model), LoadOptions(dtype=arguments.dtype)):
        pass
    requests = asked(arguments.model, arguments.requests)
    ways: dict[str, Callable[[], list[list[int]]]] = {"generate, one by one": lambda: plain(engine, requests)}
    ways |= {f"vlmchat, {size}": lambda size=size: ours(engine, requests, size) for size in arguments.sizes}  # type: ignore[misc]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, list[list[int]]] = {}
    for repeat in range(arguments.repeats + 1):
        for way, run in ways.items():
            start = clock()
            answers[way] = run()
            if repeat:
                rates[way].append(len(requests) / (clock() - start))
    report(engine, arguments.model, rates, answers)
    engine.close()


def report(engine: TorchEngine, model: str, rates: dict[str, list[float]], answers: dict[str, list[list[int]]]) -> None:
    """Print the table; answers that are not those of the first way are counted."""
    about = engine.runner.model.about
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    )
    first, *_ = rates
    tokens = sum(map(len, answers[first]))
    print(f"{model}: {about.dtype}, {len(answers[first])} requests, {tokens} tokens, medians of {len(rates[first])}\n")
    print("| | requests/s | ratio | other answers |\n| --- | ---: | ---: | ---: |")
    base = statistics.median(rates[first])
    for way, found in rates.items():
        rate = statistics.median(found)
        other = sum(mine != theirs for mine, theirs in zip(answers[way], answers[first], strict=True))
        print(f"| {way} | {rate:,.2f} | {rate / base:.2f} | {other} |")


if __name__ == "__main__":
    main()
