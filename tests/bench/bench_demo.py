"""What the shipped demo model knows: the accuracy table of the README, on freshly drawn pictures.

``python -m tests.bench.bench_demo [--model FOLDER] [--count 200] [--wrong N]`` prints one line per suite of
:mod:`vlmchat.demo.evaluate`: questions, score, floor; ``--wrong`` shows some of the wrong answers.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

from vlmchat.demo import CHECKPOINT
from vlmchat.demo.evaluate import SUITES, Examinee, mean, run

SEED = 99_000
"""Neither a training seed nor the one of the tests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=200, help="questions per suite")
    parser.add_argument("--suite", help="only suites whose name contains this")
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers to show per suite")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    examinee = Examinee(options.model)
    print(f"| {'suite':30s} | {'n':>4s} | score | floor | ms/question |\n|---|---|---|---|---|")
    for name, suite in SUITES.items():
        if options.suite and options.suite not in name:
            continue
        begun = time.perf_counter()
        results = run(suite, options.count, SEED, examinee)
        pace = (time.perf_counter() - begun) / len(results) * 1000
        print(
            f"| {name:30s} | {len(results):4d} | {mean(results):5.1%} | {suite.floor:5.0%} | {pace:5.0f} |", flush=True
        )
        for result in [result for result in results if result.score < 1][: options.wrong]:
            print(f"    {result.kind}: {result.question!r} -> {result.got!r}, not {result.wanted!r}")
    examinee.close()


if __name__ == "__main__":
    main()
