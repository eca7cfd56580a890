"""The course of the training, as data: stages in steps and seeds, never in seconds.

These stages made the shipped weights. They were cut and joined while the run was watched, which is why some of them
fall to odd shares of their rates. Three things differed in that run: 590 of the 80,000 pictures, empty ones, were
labelled "shapes, none" until the stage "talk"; 40 steps of "see" had rates up to 2 % higher; and rows drew their
random choices in another order before the stage "name".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlmchat.demo.losses import Extras
from vlmchat.demo.rows import Mix
from vlmchat.demo.store import Plan

PLAIN: Final = Extras()
NAMED: Final = Extras(words=0.1)
TEXT_ONLY: Final = Extras(dense=0.0, frozen=True)


@dataclass(frozen=True)
class Stage:
    """Some steps of one kind: ``mix`` None trains the vision tower on dense labels, else conversations are added.

    A step sums ``micro`` batches of ``size`` pictures (or rows). Rates rise over ``warmup`` steps to ``rates``
    (Muon, AdamW), stay, and fall linearly over the last ``fall`` share of the stage to ``floor`` of themselves.
    """

    name: str
    steps: int
    micro: int
    size: int
    rates: tuple[float, float]
    seed: int
    mix: Mix | None = None
    extras: Extras = PLAIN
    warmup: int = 30
    vision: float = 1.0
    """Factor on the rates of the vision tower, which must not unlearn what it was taught first."""
    fall: float = 0.3
    floor: float = 0.3

    def factor(self, step: int) -> float:
        """Return the share of the full rates at ``step`` of this stage."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        left = (self.steps - step) / max(1.0, self.fall * self.steps)
        return rise * (self.floor + (1 - self.floor) * min(1.0, left))


@dataclass(frozen=True)
class Course:
    """Pictures, stages and the decay of the averaged weights per step."""

    plan: Plan
    stages: tuple[Stage, ...]
    average: float = 0.998
    seed: int = 1


FULL: Final = (0.02, 2e-3)
"""Rates of Muon and AdamW. With conversations the weights soon fall far behind their own average at these rates
(shapes 89 against 94 % after 200 steps), so the later stages start lower."""
LOWER: Final = (0.014, 1.4e-3)
LATER: Final = (0.012, 1.2e-3)
LATE: Final = (0.011, 1.1e-3)
LAST: Final = (0.009, 9e-4)
LEAST: Final = (0.006, 6e-4)
HARD: Final = Mix(0.3, 0.4, 240, 0.1, hard=0.5, numbers=0.15, long=0.01)
COURSE: Final = Course(
    plan=Plan(single=64_000, tiled=16_000),
    stages=(
        Stage("see", 2600, 4, 32, FULL, 101, fall=0.8, floor=0.15),
        Stage("look up", 300, 6, 4, FULL, 201, Mix(0.0, 1.0, 320), vision=0.3, floor=1.0),
        Stage("talk", 400, 4, 4, FULL, 301, Mix(0.33, 0.4, 352, long=0.02), vision=0.3, floor=1.0),
        Stage("go on", 400, 4, 4, LOWER, 401, Mix(0.3, 0.45, 352, long=0.02), vision=0.2, fall=1.0, floor=0.8492),
        Stage("widen", 200, 4, 6, LATER, 501, Mix(0.3, 0.5, 240, long=0.015), vision=0.2, fall=1.0, floor=0.9183),
        Stage("wait", 400, 8, 3, LATE, 601, Mix(0.3, 0.5, 240, long=0.01), vision=0.2, fall=1.0, floor=0.7937),
        Stage("name", 400, 8, 3, FULL, 701, Mix(0.1, 0.7, 240, 0.9), NAMED, vision=0.3, floor=1.0),
        Stage(
            "settle",
            400,
            8,
            3,
            LATER,
            801,
            Mix(0.3, 0.5, 240, 0.35, long=0.01),
            NAMED,
            vision=0.2,
            fall=1.0,
            floor=0.736,
        ),
        Stage("text", 600, 8, 3, LAST, 901, Mix(0.3, 0.5, 240, 0.3, long=0.01), TEXT_ONLY, fall=1.0, floor=0.505),
        Stage("rest", 1100, 8, 3, LEAST, 1001, Mix(0.3, 0.5, 240, 0.3, long=0.01), TEXT_ONLY, fall=1.0, floor=0.01),
        Stage(
            "again", 200, 8, 3, LEAST, 1101, Mix(0.3, 0.5, 240, 0.35, long=0.01), NAMED, vision=0.4, fall=1.0, floor=0.9
        ),
        Stage("hard", 350, 8, 3, LATE, 1201, HARD, NAMED, vision=0.4, floor=1.0),
        Stage("finish", 850, 8, 3, LAST, 1301, HARD, TEXT_ONLY, fall=1.0, floor=0.01),
    ),
)
MICRO: Final = Course(
    plan=Plan(single=24, tiled=8),
    stages=(
        Stage("see", 2, 2, 4, (0.02, 2e-3), seed=101),
        Stage("talk", 2, 2, 1, (0.02, 2e-3), 301, Mix(0.3, 0.5, 160), NAMED),
    ),
)
"""A course of seconds, for the tests."""
