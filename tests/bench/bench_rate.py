"""Tokens per second in the app beside ``ask``: the same model, the same question, real processes in real terminals.

``python -m tests.bench.bench_rate [--model demo] [--tokens 800] [--runs 4]``. What is compared is the rate each
answer was stored with, of the app, of ``ask`` drawing in a terminal, and of ``ask --no-stream``. Run it alone on
the machine. ``--model 1b`` builds InternVL2-1B's geometry with random weights: a model that takes its time.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.bench.bench_engine import folder_of
from tests.bench.terminal import Terminal

LOADED_S = 120.0
QUESTION = "Go on."


class Home:
    """A store of its own for each way, and what was answered in it."""

    def __init__(self, folder: Path, model: str, tokens: int) -> None:
        self.folder = folder
        # Sampled so hot that the embedded model does not find its end; the seed keeps all answers the same.
        settings = {"MODEL": model, "TEMPERATURE": "100", "SEED": "2", "MAX_NEW_TOKENS": str(tokens)}
        self.environment = {f"VLMCHAT_{key}": value for key, value in settings.items()}
        self.environment |= {"VLMCHAT_HOME": str(folder), "HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8"}

    def rates(self) -> list[float]:
        """Return tokens per second of every finished answer, oldest first."""
        database = next(iter(self.folder.rglob("chats.db")), None)
        if database is None:
            return []
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT provenance FROM turns WHERE role = 'assistant' "
                "AND status IN ('complete', 'length') ORDER BY seq"
            ).fetchall()
        return [float(json.loads(row[0])["decode_tokens_per_s"]) for row in rows]


def in_app(home: Home, runs: int) -> None:
    """Ask ``runs`` times in one app, each time in a new chat."""
    before = len(home.rates())
    terminal = Terminal([sys.executable, "-m", "vlmchat"], home.environment)
    terminal.first_frame()
    terminal.go_on()
    try:
        for run in range(before + 1, before + runs + 1):
            # Typed while the model loads, the first question waits and goes out by itself.
            terminal.type(f"{QUESTION}\r")
            if not terminal.until(Watch(home, run).ended, LOADED_S):
                raise RuntimeError("The app never answered.")
            terminal.until(lambda: False, 0.5)
            terminal.type("\x0e")
            terminal.until(lambda: False, 0.5)
    finally:
        terminal.kill()


class Watch:
    """Looks at a store twice a second, not with every byte: looking costs the cores that are measured."""

    def __init__(self, home: Home, wanted: int) -> None:
        self._home, self._wanted, self._next = home, wanted, 0.0

    def ended(self) -> bool:
        """Say whether the wanted number of answers is there."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + 0.5
        return len(self._home.rates()) >= self._wanted


def by_ask(home: Home, streaming: bool) -> None:
    """Ask once with ``ask``."""
    command = [sys.executable, "-m", "vlmchat", "ask", QUESTION]
    if streaming:
        terminal = Terminal(command, home.environment)
        terminal.until(lambda: False, LOADED_S)
        terminal.kill()
    else:
        subprocess.run(
            [*command, "--no-stream"], env=os.environ | home.environment, stdout=subprocess.DEVNULL, check=True
        )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--runs", type=int, default=4)
    arguments = parser.parse_args()
    model = arguments.model if arguments.model == "demo" else str(folder_of(arguments.model))
    with tempfile.TemporaryDirectory() as folder:
        homes = {way: Home(Path(folder) / way, model, arguments.tokens) for way in ("app", "ask", "still")}
        for _ in range(arguments.runs):
            # In turn: another process on the machine slows one round, not one way.
            by_ask(homes["still"], False)
            in_app(homes["app"], 2)
            by_ask(homes["ask"], True)
        found = {way: statistics.median(home.rates()) for way, home in homes.items()}
    print(f"tokens/s: app {found['app']:.1f}, ask {found['ask']:.1f}, ask --no-stream {found['still']:.1f}")
    print(f"app / ask {found['app'] / found['ask']:.2f}, app / ask --no-stream {found['app'] / found['still']:.2f}")


if __name__ == "__main__":
    main()
