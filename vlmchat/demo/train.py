"""Train the demo model from nothing: ``python -m vlmchat.demo.train --out DIR``.

Draws the pictures, learns the tokenizer, runs the stages of :mod:`vlmchat.demo.schedule`, and writes
``DIR/checkpoint`` in the original InternVL2 layout. Stop it at any time and start it again: it goes on from the last
saved step and ends with the same bits.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import torch

from vlmchat.demo.export import export
from vlmchat.demo.network import Network, Sizes
from vlmchat.demo.optim import Optimizer, Rates, parts_of, read_flat
from vlmchat.demo.schedule import COURSE, Course
from vlmchat.demo.store import Plan, Store, shards
from vlmchat.demo.team import Task, Team
from vlmchat.demo.vocabulary import train_tokenizer

log = logging.getLogger(__name__)
SAVE_EVERY: Final = 200
LOG_EVERY: Final = 20


def prepare(folder: Path, plan: Plan, workers: int) -> None:
    """Write the tokenizer and the pictures that are not there yet."""
    checkpoint, pictures = folder / "checkpoint", folder / "pictures"
    if not (checkpoint / "added_tokens.json").exists():
        log.info("learning the tokenizer")
        train_tokenizer(checkpoint)
    pictures.mkdir(parents=True, exist_ok=True)
    Store(pictures, plan, write=True)
    missing = [shard for shard in shards(plan) if not (pictures / f"drawn-{shard.start}").exists()]
    if not missing:
        return
    log.info("drawing %d shards of pictures", len(missing))
    work = partial(_draw, pictures, plan)
    if workers == 1:
        for shard in missing:
            work(shard)
        return
    with get_context("spawn").Pool(workers) as pool:
        pool.map(work, missing, chunksize=1)


def _draw(folder: Path, plan: Plan, shard: range) -> None:
    store = Store(folder, plan, write=True)
    for index in shard:
        store.draw(index)
    (folder / f"drawn-{shard.start}").touch()


class Run:
    """One training run in a folder: weights, optimizer, and how far it has come."""

    def __init__(self, folder: Path, course: Course, sizes: Sizes, helpers: int, start: Callable[[], None]) -> None:
        self.folder = folder
        self.course = course
        self.sizes = sizes
        self.team = Team(folder, course, sizes, helpers, start)
        torch.manual_seed(course.seed)
        network = Network(sizes)
        parameters = list(network.parameters())
        read_flat(iter(parameters), (p.numel() for p in parameters), self.team.master)
        self.optimizer = Optimizer(parts_of(network), self.team.master)
        self.stage, self.step = 0, 0
        self._resume()

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, mmap=True)
        self.team.master.copy_(state["master"])
        for name, value in self.optimizer.state.items():
            value.copy_(state[name])
        self.optimizer.count.copy_(state["count"])
        self.stage, self.step = state["stage"], state["step"]
        if self.stage < len(self.course.stages) and self.step >= self.course.stages[self.stage].steps:
            self.stage, self.step = self.stage + 1, 0  # the schedule was cut there
        log.info("going on with stage %d at step %d", self.stage, self.step)

    def _frozen_before(self) -> bool:
        """Whether the stage before left the vision tower as it is, too."""
        return self.stage > 0 and self.course.stages[self.stage - 1].extras.frozen

    def _calm_vision(self) -> None:
        """Take the averaged weights for the vision tower and projector, which see better than the last ones."""
        for part in self.optimizer.parts:
            if part.name.startswith(("vision_model", "mlp1")):
                here = slice(part.start, part.stop)
                self.team.master[here] = self.optimizer.state["average"][here]

    def save(self) -> None:
        """Write the state beside the old one, then replace it."""
        state = {"master": self.team.master, "count": self.optimizer.count, "stage": self.stage, "step": self.step}
        fresh = self.folder / "state.tmp"
        torch.save(state | self.optimizer.state, fresh)
        fresh.replace(self.folder / "state.pt")

    def train(self, steps: int | None = None) -> None:
        """Run to the end of the course, or ``steps`` more steps, and save."""
        begun, seen = time.monotonic(), 0
        while self.stage < len(self.course.stages) and (steps is None or seen < steps):
            stage = self.course.stages[self.stage]
            if stage.extras.frozen and not self._frozen_before() and self.step == 0:
                self._calm_vision()
            gradient, loss, answers = self.team.step(Task(self.stage, self.step, stage.micro))
            factor = stage.factor(self.step)
            muon, adam = (rate * factor for rate in stage.rates)
            self.optimizer.step(gradient, Rates(muon, adam, stage.vision), self.course.average)
            seen += 1
            self.step += 1
            if self.step % LOG_EVERY == 0:
                pace = (time.monotonic() - begun) / seen
                log.info(
                    "%s %d/%d loss %.3f answers %.4f %.2f s/step",
                    stage.name,
                    self.step,
                    stage.steps,
                    loss,
                    answers,
                    pace,
                )
            if self.step == stage.steps:
                self.stage, self.step = self.stage + 1, 0
                begun, seen = (time.monotonic(), 0) if steps is None else (begun, seen)
            if self.step % SAVE_EVERY == 0:
                self.save()
        self.save()

    def finish(self) -> Path:
        """Export the averaged weights; return the checkpoint folder."""
        export(self.optimizer.state["average"], self.sizes, self.folder / "checkpoint")
        return self.folder / "checkpoint"


def _settle(core: int | None, nice: int) -> None:
    """Keep a process on one core and let it give way to others, where the system can."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    if nice:
        os.nice(nice)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m vlmchat.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures, state, log and checkpoint")
    parser.add_argument("--workers", type=int, default=2, help="processes; the result is the same for any number")
    parser.add_argument("--pin", action="store_true", help="keep process n on core n")
    parser.add_argument("--helper-nice", type=int, default=0, help="how far helpers give way to other programs")
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint of the saved state")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = (logging.StreamHandler(), logging.FileHandler(options.out / "train.log"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    if options.export_only:
        state = torch.load(options.out / "state.pt", weights_only=True, mmap=True)
        export(state["average"], Sizes(), options.out / "checkpoint")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the helpers end too
    prepare(options.out, COURSE.plan, options.workers)
    _settle(0 if options.pin else None, 0)
    helpers = options.workers - 1
    run = Run(options.out, COURSE, Sizes(), helpers, partial(_settle, 1 if options.pin else None, options.helper_nice))
    run.train()
    run.team.close()
    log.info("checkpoint written to %s", run.finish())


if __name__ == "__main__":
    main()
