"""The course of the training, as data: stages in steps and seeds, never in seconds.

The shipped weights went through these stages, cut and joined while the run was watched, which is why some of them fall
to odd shares of their rates. A new run takes the same course in today's world from its first step, so it will not end
with the shipped bits. What differed in theirs: up to "finish" the world was an earlier one (things between left and
middle, small digits in six fonts, fewer phrasings, "left of" answered instead of declined), and the tokenizer comes
from its conversations; numbers have their present size since "places", the answers to "is it 51?" and "the other one?"
their present form since "calm", and from "gaze" on the kinds of questions in :mod:`vlmchat.demo.talk` were weighted
anew at each stage, towards what was weakest.
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
GAZE: Final = Extras(dense=0.2, words=0.15, gaze=0.2)
STARE: Final = Extras(dense=0.2, words=0.15, gaze=0.5)
RECALL: Final = Extras(dense=0.2, words=0.15, gaze=0.4, recall=0.06)
LIGHT: Final = Extras(dense=0.1, words=0.1, gaze=0.2, recall=0.03)
LAST_WORDS: Final = Extras(dense=0.0, gaze=0.2, recall=0.03, frozen=True)


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
LOOKING: Final = (0.016, 1.6e-3)
LOOKED: Final = (0.015, 1.5e-3)
FAINT: Final = (0.003, 3e-4)
SHARP: Final = Mix(0.15, 0.5, 240, 0.45, hard=0.6, numbers=0.25)
DIGITS: Final = Mix(0.15, 0.5, 240, 0.45, hard=0.6, numbers=0.3)
ALL: Final = Mix(0.3, 0.4, 240, 0.2, hard=0.55, numbers=0.2, long=0.01)
LEANING: Final = Mix(0.3, 0.4, 240, 0.15, hard=0.65, numbers=0.15, long=0.005)
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
        Stage("see anew", 500, 4, 32, LATER, 1401, fall=0.8, floor=0.15),
        Stage("gaze", 400, 8, 3, LOOKING, 1501, Mix(0.1, 0.5, 240, 0.7, hard=0.5), GAZE, vision=0.3, floor=1.0),
        Stage("gaze on", 400, 8, 3, LOOKED, 1601, SHARP, STARE, vision=0.3, fall=1.0, floor=0.867),
        Stage("places", 200, 8, 3, LOWER, 1701, DIGITS, STARE, vision=0.3, floor=1.0),
        Stage("recall", 600, 8, 3, LOWER, 1801, DIGITS, RECALL, vision=0.3, fall=1.0, floor=0.8),
        Stage("blend", 600, 8, 3, LATER, 1901, ALL, LIGHT, vision=0.3, fall=1.0, floor=0.667),
        Stage("calm", 600, 8, 3, LAST, 2001, ALL, LIGHT, vision=0.3, fall=1.0, floor=0.333),
        Stage("rest again", 200, 8, 3, FAINT, 2101, ALL, LAST_WORDS, fall=1.0, floor=0.7525),
        Stage("lean", 400, 8, 3, LEAST, 2201, LEANING, LAST_WORDS, fall=1.0, floor=0.5),
        Stage("end", 560, 8, 3, FAINT, 2301, LEANING, LAST_WORDS, fall=1.0, floor=0.01),
    ),
)
MICRO: Final = Course(
    plan=Plan(single=24, tiled=8),
    stages=(
        Stage("see", 2, 2, 4, (0.02, 2e-3), seed=101),
        Stage("talk", 2, 2, 1, (0.02, 2e-3), 301, Mix(0.3, 0.5, 160), LIGHT),
    ),
)
"""A course of seconds, for the tests."""
