"""What ``--keep`` saves: the wall time of ``vlmchat ask``, cold and beside a kept engine, in turn in one run.

``python -m tests.bench.bench_keep --count 5``: the embedded model. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PICTURE = Path(__file__).parents[2] / "screenshots" / "example.png"


def ask(*options: str) -> float:
    """Return the seconds of one question."""
    words = ["ask", "-m", "demo", "-i", str(PICTURE), "What is in this picture?", "--no-save", *options]
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vlmchat", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as home:
        os.environ["VLMCHAT_HOME"] = home
        try:
            first = ask("--keep", "5m")
            pairs = [(ask("--cold"), ask("--keep", "5m")) for _ in range(count)]
        finally:
            subprocess.run([sys.executable, "-m", "vlmchat", "stop"], check=True)
    cold, warm = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"cold {cold:.2f} s, starting the engine {first:.2f} s, kept {warm:.2f} s: {cold / warm:.1f} times as fast")


if __name__ == "__main__":
    main()
