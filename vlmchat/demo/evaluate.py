"""What the model has learnt: fresh pictures, real answers through the engine, scored by kind of question.

An answer counts when it holds all the key words and names nothing else that the true answer does not (a shape, colour,
place or number word too many is as wrong as one too few). "describe" is the share of key words instead.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from PIL import Image

from vlmchat.conversation import Message, Picture, assistant, user
from vlmchat.demo.colours import COLOURS
from vlmchat.demo.dialogue import TRAINED, UNSEEN, Asker, Book, Turn
from vlmchat.demo.dice import Dice
from vlmchat.demo.draw import draw
from vlmchat.demo.others import draw_like_others
from vlmchat.demo.questions import ask
from vlmchat.demo.speech import COLOUR_ZH, NUMERALS, SHAPE_ZH, Language
from vlmchat.demo.store import SINGLE_ASPECT, TILED_ASPECTS
from vlmchat.demo.talk import FOLLOW_UPS, KINDS, follow_up, lookup
from vlmchat.demo.world import SHAPES, Kind, Scene, sample_scene
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.engine.torch_engine import TorchEngine
from vlmchat.options import LoadOptions, Sampling

Answer = Callable[[tuple[Message, ...]], str]
"""A conversation in, the model's answer out."""
NAMES: Final = (
    *COLOURS,
    *SHAPES,
    *NUMERALS["en"][1:],
    *SHAPE_ZH,
    *COLOUR_ZH,
    "left",
    "right",
    "top",
    "bottom",
    "middle",
)
"""Words that are wrong wherever the true answer does not have them."""


@dataclass(frozen=True)
class Suite:
    """One line of the table: which questions, on which pictures, in which words, and the floor that must hold."""

    kinds: tuple[str, ...]
    floor: float
    language: Language = "en"
    book: Book = TRAINED
    most: int = 4
    """Only pictures with at most this many shapes."""
    tiled: float = 0.25
    """Share of pictures that are cut into several tiles."""
    others: bool = False
    """Drawn by the independent drawing routine."""
    jpeg: int = 0
    """Quality to which every picture is squeezed; 0 leaves it as a PNG."""
    follow: bool = False
    """Score the follow-up, not the question before it."""


LOOKS: Final = ("shape_it", "colour_it", "colour_of", "shape_of")
EVERYTHING: Final = (*LOOKS, "describe", "count_all", "count_some", "where", "at", "exists", "is_colour", "number")
LEANING: Final = tuple(kind for kind in FOLLOW_UPS if kind != "other")
SUITES: Final[Mapping[str, Suite]] = {
    "colour and shape, 1-2 things": Suite(LOOKS, 0.97, most=2),
    "colour and shape, up to 4": Suite(LOOKS, 0.9),
    "count up to four": Suite(("count_all", "count_some"), 0.9),
    "place": Suite(("where", "at"), 0.9),
    "number, 1-3 digits": Suite(("number", "number_is"), 0.85),
    "yes or no": Suite(("exists", "is_colour"), 0.9),
    "describe (key words)": Suite(("describe",), 0.85),
    "bigger, smaller": Suite(("biggest", "smallest", "compare", "is_bigger"), 0.85),
    "lists and background": Suite(("shapes", "colours", "background"), 0.85),
    "follow-up": Suite(LEANING, 0.9, follow=True),
    "the other one of two": Suite(("other",), 0.9, follow=True),
    "what it is, what it declines": Suite(("identity", "odd", "beyond", "baffled", "hello", "thanks", "bye"), 0.9),
    "Chinese colour and shape": Suite(LOOKS, 0.9, language="zh", most=2),
    "Chinese, the rest": Suite(EVERYTHING[4:], 0.85, language="zh"),
    "unseen phrasing": Suite(EVERYTHING, 0.8, book=UNSEEN),
    "unseen phrasing, Chinese": Suite(EVERYTHING, 0.8, language="zh", book=UNSEEN),
    "unseen phrasing, follow-up": Suite(LEANING, 0.8, book=UNSEEN, follow=True),
    "one tile": Suite(EVERYTHING, 0.9, tiled=0.0),
    "several tiles": Suite(EVERYTHING, 0.9, tiled=1.0),
    "JPEG, quality 40": Suite(EVERYTHING, 0.9, jpeg=40),
    "drawings by others": Suite((*LOOKS, "describe", "count_all", "exists"), 0.9, others=True),
    "drawings by others, Chinese": Suite((*LOOKS, "describe", "count_all", "exists"), 0.9, language="zh", others=True),
}

SHORT: Final[Mapping[str, float]] = {"the other one of two": 0.35}
"""Suites in which the shipped weights miss their floor, with the line they must not fall below: the tests hold that
line, the README says that the model does not know it, and the next training has to empty the table."""


@dataclass(frozen=True)
class Case:
    """A picture and the turns about it; the last one is scored."""

    scene: Scene
    picture: Picture
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Result:
    """What came back: ``score`` is 1 or 0, for "describe" a share."""

    kind: str
    question: str
    wanted: str
    got: str
    score: float


def as_picture(image: Image.Image, jpeg: int = 0) -> Picture:
    """Encode a drawing as the file a user would attach."""
    packed = io.BytesIO()
    if jpeg:
        image.save(packed, "JPEG", quality=jpeg)
    else:
        image.save(packed, "PNG")
    data = packed.getvalue()
    media_type = "image/jpeg" if jpeg else "image/png"
    return Picture(hashlib.sha256(data).hexdigest(), "drawing", media_type, image.width, image.height, data)


def cases(suite: Suite, count: int, seed: int) -> Iterator[Case]:
    """Draw ``count`` cases, the kinds of questions in turn; the same seed gives the same ones."""
    found, index = 0, 0
    while found < count:
        index += 1
        dice = Dice(seed, index)
        scene, image = _scene(suite, dice, seed, index)
        if scene.kind is Kind.SHAPES and len(scene.things) > suite.most:
            continue
        turns = _turns(suite, Asker(scene, dice, suite.language, suite.book), suite.kinds[found % len(suite.kinds)])
        if turns:
            found += 1
            yield Case(scene, as_picture(image or draw(scene), suite.jpeg), turns)


def _scene(suite: Suite, dice: Dice, seed: int, index: int) -> tuple[Scene, Image.Image | None]:
    if suite.others:
        return draw_like_others(seed, index)
    tiled = dice.random() < suite.tiled
    return sample_scene(seed, index, dice.choice(TILED_ASPECTS) if tiled else SINGLE_ASPECT), None


def _turns(suite: Suite, asker: Asker, kind: str) -> tuple[Turn, ...]:
    """Ask a question of ``kind``, or a first question and then the follow-up ``kind``."""
    if not suite.follow:
        turn = ask(asker, kind) if kind in KINDS[asker.scene.kind] or kind in ("hello", "thanks", "bye") else None
        return (turn,) if turn else ()
    if asker.scene.kind is not Kind.SHAPES:
        return ()
    first = lookup(replace_book(asker), KINDS[Kind.SHAPES])
    second = follow_up(asker, [first], kind)
    return (first, second) if second else ()


def replace_book(asker: Asker) -> Asker:
    """Return an asker with trained phrasings, for the question before an unseen follow-up."""
    return Asker(asker.scene, asker.rng, asker.words.language, replace(TRAINED, rough=False))


def run(suite: Suite, count: int, seed: int, answer: Answer) -> list[Result]:
    """Put ``count`` cases to the model; earlier turns keep the model's own answers."""
    results = []
    for case in cases(suite, count, seed):
        messages: list[Message] = []
        got = ""
        for place, turn in enumerate(case.turns):
            messages.append(user(turn.question, case.picture) if place == 0 else user(turn.question))
            got = answer(tuple(messages))
            messages.append(assistant(got))
        last = case.turns[-1]
        results.append(Result(last.kind, last.question, last.answer, got, score(last, got)))
    return results


def score(turn: Turn, got: str) -> float:
    """Score one answer, see the module's text."""
    found = [_holds(got, key) for key in turn.keys]
    if turn.kind == "describe":
        return sum(found) / len(found)
    foreign = any(_holds(got, name) and not _holds(turn.answer, name) for name in NAMES)
    return float(all(found) and not foreign)


def _holds(text: str, key: str) -> bool:
    """Whether ``text`` has ``key`` as whole words; Chinese has no spaces, so there as a part."""
    plain, wanted = text.lower(), key.lower()
    if not wanted.isascii():
        return wanted in plain
    plural = "(?:s|es)?" if wanted.isalpha() else ""
    return re.search(rf"(?<![a-z0-9]){re.escape(wanted)}{plural}(?![a-z0-9])", plain) is not None


def mean(results: Sequence[Result]) -> float:
    """Return the mean score."""
    return sum(result.score for result in results) / len(results)


class Examinee:
    """A checkpoint answering through the engine, greedily: call it with a conversation."""

    def __init__(self, folder: Path, options: LoadOptions | None = None) -> None:
        self.engine = TorchEngine()
        for _ in self.engine.load(folder, options or LoadOptions(device="cpu")):
            pass

    def __call__(self, messages: tuple[Message, ...]) -> str:
        """Return the answer to the last message."""
        request = Request(messages, Sampling(max_new_tokens=80))
        finished = list(self.engine.generate(request))[-1]
        if not isinstance(finished, Finished):
            raise TypeError(f"the engine ended with {type(finished).__name__}")
        return finished.text

    def close(self) -> None:
        """Free the model."""
        self.engine.close()
