"""Several single-threaded processes that share one training step, with the same result however the work falls.

A step is a list of micro-batches; every process takes the next one that is free and writes its gradient into that
batch's own slot in shared memory. The slots are added in order, so a slow or busy core changes the speed and never a
bit of the outcome. (One process with two threads collapses when something else holds a core.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch import multiprocessing as processes

from vlmchat.demo.grounding import Grounding
from vlmchat.demo.losses import seeing_loss, talking_loss
from vlmchat.demo.network import Network, Sizes
from vlmchat.demo.optim import load_flat, read_flat
from vlmchat.demo.rows import Scribe, build_batch
from vlmchat.demo.schedule import Course
from vlmchat.demo.store import Store
from vlmchat.demo.vocabulary import Vocabulary

DTYPE: Final = torch.bfloat16
"""Arithmetic of forward and backward; the master weights stay float32."""


@dataclass(frozen=True)
class Task:
    """One step: which stage, which step of it, and how many micro-batches."""

    stage: int
    step: int
    micro: int


class Worker:
    """Computes the gradient of one micro-batch at a time."""

    def __init__(self, folder: Path, course: Course, sizes: Sizes) -> None:
        self._course = course
        self._store = Store(folder / "pictures", course.plan)
        vocabulary = Vocabulary(folder / "checkpoint")
        self._scribe = Scribe(vocabulary)
        self._grounding = Grounding(vocabulary)
        self._network = Network(sizes).to(DTYPE)

    def load(self, master: Tensor) -> None:
        """Take over the master weights."""
        load_flat(self._network, master)

    def gradient(self, task: Task, micro: int, slot: Tensor) -> tuple[float, float]:
        """Write the gradient of micro-batch ``micro`` into ``slot``; return its loss and its answers' loss."""
        stage = self._course.stages[task.stage]
        self._network.zero_grad(set_to_none=True)
        if stage.mix is None:
            rng = np.random.default_rng((stage.seed, task.step, micro))
            loss = seeing_loss(self._network, self._store, self._pictures(task, micro), DTYPE, rng)
            answers = loss.detach()
        else:
            batch = build_batch(self._store, self._scribe, stage.mix, stage.size, stage.seed, task.step, micro)
            loss, answers = talking_loss(self._network, self._store, batch, DTYPE, stage.extras, self._grounding)
        value = float(loss.detach())
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        parameters = list(self._network.parameters())
        read_flat((p.grad for p in parameters), (p.numel() for p in parameters), slot)
        return value, float(answers)

    def _pictures(self, task: Task, micro: int) -> Any:
        """Choose the pictures of a seeing batch: every picture once before any comes again."""
        stage, total = self._course.stages[task.stage], self._course.plan.total
        start = (task.step * stage.micro + micro) * stage.size
        places = range(start, start + stage.size)
        turns = {place // total for place in places}
        orders = {turn: np.random.default_rng((stage.seed, turn)).permutation(total) for turn in turns}
        return np.asarray([orders[place // total][place % total] for place in places])


def _shared(*shape: int) -> Tensor:
    return torch.as_tensor(torch.zeros(shape).share_memory_())  # type: ignore[no-untyped-call]


class Team:
    """The calling process and ``helpers`` more."""

    def __init__(self, folder: Path, course: Course, sizes: Sizes, helpers: int, start: Callable[[], None]) -> None:
        torch.set_num_threads(1)
        self._worker = Worker(folder, course, sizes)
        count = sum(parameter.numel() for parameter in Network(sizes).parameters())
        most = max(stage.micro for stage in course.stages)
        self.master = _shared(count)
        self._slots = _shared(most, count)
        self._losses = _shared(most, 2)
        context = processes.get_context("spawn")
        self._next = context.Value("i", 0)
        self._inboxes = [context.SimpleQueue() for _ in range(helpers)]
        self._done = context.SimpleQueue()
        shared = (self.master, self._slots, self._losses, self._next, self._done)
        self._helpers = [
            context.Process(target=_help, args=(folder, course, sizes, inbox, shared, start), daemon=True)
            for inbox in self._inboxes
        ]
        for helper in self._helpers:
            helper.start()

    def step(self, task: Task) -> tuple[Tensor, float, float]:
        """Return the mean gradient of the micro-batches, their mean loss and their mean answers' loss."""
        self._next.value = 0
        for inbox in self._inboxes:
            inbox.put(task)
        _work(self._worker, task, self.master, self._slots, self._losses, self._next)
        for _ in self._helpers:
            self._done.get()
        total = self._slots[0].clone()
        for slot in range(1, task.micro):
            total += self._slots[slot]
        losses = self._losses[: task.micro].mean(0)
        return total / task.micro, float(losses[0]), float(losses[1])

    def close(self) -> None:
        """Send the helpers home."""
        for inbox in self._inboxes:
            inbox.put(None)
        for helper in self._helpers:
            helper.join()


def _work(worker: Worker, task: Task, master: Tensor, slots: Tensor, losses: Tensor, counter: Any) -> None:
    worker.load(master)
    while True:
        with counter.get_lock():
            micro = counter.value
            counter.value += 1
        if micro >= task.micro:
            return
        losses[micro] = torch.tensor(worker.gradient(task, micro, slots[micro]))


def _help(folder: Path, course: Course, sizes: Sizes, inbox: Any, shared: Any, start: Callable[[], None]) -> None:
    start()
    torch.set_num_threads(1)
    master, slots, losses, counter, done = shared
    worker = Worker(folder, course, sizes)
    while (task := inbox.get()) is not None:
        _work(worker, task, master, slots, losses, counter)
        done.put(os.getpid())
