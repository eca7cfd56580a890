"""The course of the training, as data: stages in steps and seeds, never in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlmchat.demo.rows import Mix
from vlmchat.demo.store import Plan


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
    dense: float = 0.0
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


COURSE: Final = Course(
    plan=Plan(single=64_000, tiled=16_000),
    stages=(
        Stage("see", 2600, 4, 32, (0.02, 2e-3), seed=101, fall=0.8, floor=0.15),
        Stage("look up", 500, 6, 4, (0.02, 2e-3), 201, Mix(0.0, 1.0, 320), dense=0.1, vision=0.3, floor=1.0),
        Stage(
            "talk",
            2800,
            6,
            4,
            (0.02, 2e-3),
            301,
            Mix(0.33, 0.4, 352, 0.02),
            dense=0.1,
            vision=0.3,
            fall=0.7,
            floor=0.02,
        ),
    ),
)
MICRO: Final = Course(
    plan=Plan(single=24, tiled=8),
    stages=(
        Stage("see", 2, 2, 4, (0.02, 2e-3), seed=101),
        Stage("talk", 2, 2, 1, (0.02, 2e-3), seed=301, mix=Mix(0.3, 0.5, 160), dense=0.1),
    ),
)
"""A course of seconds, for the tests."""
