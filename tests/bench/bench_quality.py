"""What quantization costs in quality: the embedded model in 8 and 4 bits beside bfloat16, through the engine.

    python -m tests.bench.bench_quality [--count 200] [--model FOLDER]

Prints the divergence of the next token's distribution and the share of tokens on which both agree, along the answers
of the whole model, and the mean accuracy over the suites of ``vlmchat.demo.evaluate``, the same questions for each.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from tests.bench.quality import distance, loaded, paths, requests
from vlmchat.demo import CHECKPOINT
from vlmchat.demo.evaluate import SUITES, Examinee, mean, run
from vlmchat.options import LoadOptions, Quantization

SEED = 99_000


def accuracy(folder: Path, quantization: Quantization, count: int) -> float:
    """Return the mean score over all suites, ``count`` questions each."""
    examinee = Examinee(folder, LoadOptions(device="cpu", dtype="bfloat16", quantization=quantization))
    score = mean([result for suite in SUITES.values() for result in run(suite, count, SEED, examinee)])
    examinee.close()
    return score


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=200, help="answers compared token by token")
    parser.add_argument("--questions", type=int, default=20, help="per suite, for the accuracy")
    arguments = parser.parse_args()
    asked = requests(arguments.count, SEED)
    engine = loaded(arguments.model, "none")
    whole = paths(engine, asked)
    engine.close()
    print("| | tokens | KL divergence, nats | same likeliest token | accuracy |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for quantization in get_args(Quantization):
        engine = loaded(arguments.model, quantization)
        found = distance(engine, asked, whole)
        engine.close()
        score = accuracy(arguments.model, quantization, arguments.questions)
        cells = f"{found.tokens} | {found.divergence:.5f} | {found.agreement:.2%} | {score:.2%}"
        print(f"| {'bf16' if quantization == 'none' else quantization} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
