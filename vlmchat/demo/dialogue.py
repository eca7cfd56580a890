"""Asking about a scene: the turn, the book of phrasings, and how an asker names things and words questions.

The questions themselves are in :mod:`vlmchat.demo.questions`, conversations in :mod:`vlmchat.demo.talk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vlmchat.demo.colours import COLOURS
from vlmchat.demo.dice import Dice
from vlmchat.demo.speech import Language, Words
from vlmchat.demo.wording import Templates, expand, roughen, roughen_chinese, templates
from vlmchat.demo.world import SHAPES, Kind, Scene, Thing


@dataclass(frozen=True)
class Book:
    """The phrasings to ask with, by language and kind."""

    english: Templates = field(default_factory=lambda: templates("english"))
    chinese: Templates = field(default_factory=lambda: templates("chinese"))
    rough: bool = True


TRAINED: Final = Book()
UNSEEN: Final = Book(templates("unseen", "english"), templates("unseen", "chinese"), rough=False)
"""Phrasings that no training row ever used."""


@dataclass(frozen=True)
class Turn:
    """One question and its answer; ``subject`` is the thing that "it" means afterwards.

    ``about`` cuts the answer into pieces, each with the things of the scene (their numbers) that it speaks of.
    """

    kind: str
    question: str
    answer: str
    keys: tuple[str, ...]
    language: Language = "en"
    subject: Thing | None = None
    about: tuple[tuple[str, tuple[int, ...]], ...] = ()


def pieces(answer: str, parts: Sequence[tuple[str, Sequence[Thing]]]) -> list[tuple[str, Sequence[Thing]]]:
    """Cut ``answer`` behind each of ``parts``, which it holds in this order; what is left speaks of nothing."""
    found: list[tuple[str, Sequence[Thing]]] = []
    start = 0
    for text, things in parts:
        stop = answer.lower().index(text.lower(), start) + len(text)
        found.append((answer[start:stop], things))
        start = stop
    return found


class Asker:
    """Names things and words questions about one scene, in one language."""

    def __init__(self, scene: Scene, rng: Dice, language: Language = "en", book: Book = TRAINED) -> None:
        self.scene = scene
        self.things = scene.things if scene.kind is Kind.SHAPES else ()
        self.rng = rng
        self.words = Words(language)
        self.book = book

    @property
    def templates(self) -> Templates:
        """The phrasings of the asker's language."""
        return self.book.english if self.words.english else self.book.chinese

    def turn(self, kind: str, answer: str, keys: tuple[str, ...], subject: Thing | None = None, **slots: str) -> Turn:
        """Word a question of ``kind`` and pair it with ``answer``, all of which speaks of the subject."""
        question = expand(self.rng.choice(self.templates[kind]), self.rng).format(**slots)
        turn = Turn(kind, self.typed(question, kind), answer, keys, self.words.language, subject)
        return self.telling(turn, [(answer, [subject])]) if subject else turn

    def telling(self, turn: Turn, about: Sequence[tuple[str, Sequence[Thing]]]) -> Turn:
        """Note which things the pieces of an answer speak of."""
        numbers = self.scene.things.index
        return replace(turn, about=tuple((piece, tuple(map(numbers, things))) for piece, things in about))

    def typed(self, question: str, kind: str = "") -> str:
        """Apply the sloppiness of typing, for books that want it."""
        if not self.book.rough:
            return question[:1].upper() + question[1:]
        if not self.words.english:
            return roughen_chinese(question, self.rng)
        return roughen(question, self.rng, framed=kind not in ("hello", "thanks", "bye", "identity", "look"))

    def pick(self) -> Thing | None:
        """Choose a thing of the picture."""
        return self.things[self.rng.integers(len(self.things))] if self.things else None

    def reference(self, thing: Thing) -> str | None:
        """Name ``thing`` by shape, colour or both so that nothing else is meant; None where that is impossible."""
        same_shape = sum(other.symbol == thing.symbol for other in self.things)
        same_colour = sum(other.colour == thing.colour for other in self.things)
        both = sum((other.symbol, other.colour) == (thing.symbol, thing.colour) for other in self.things)
        options = [self.words.a_shape(thing.symbol, self.rng)] * 4 if same_shape == 1 else []
        colour = self.words.a_colour(thing.colour, self.rng)
        if same_colour == 1:
            noun = self.rng.choice(["one", "one", "shape", "thing", "object"])
            options.append(
                f"{colour} {noun}" if self.words.english else f"{colour}的{self.rng.choice(['图形', '那个'])}"
            )
        if both == 1:
            shape = self.words.a_shape(thing.symbol, self.rng)
            options.append(f"{colour} {shape}" if self.words.english else f"{colour}的{shape}")
        return str(options[self.rng.integers(len(options))]) if options else None

    def absent(self) -> tuple[str, str]:
        """Name something that is not there: the words of the question, and of the answer."""
        there = {(thing.symbol, thing.colour) for thing in self.things}
        shapes = {symbol for symbol, _ in there}
        missing = [symbol for symbol in range(len(SHAPES)) if symbol not in shapes]
        symbol = int(self.rng.choice(missing))
        if self.rng.random() < 0.75 or not there:
            return self.words.a_shape(symbol, self.rng), self.words.shape(symbol)
        symbol, other = list(there)[self.rng.integers(len(there))] if self.rng.random() < 0.6 else (symbol, -1)
        colours = [c for c in range(len(COLOURS)) if (symbol, c) not in there and c != other]
        colour = int(self.rng.choice(colours))
        asked, shape = self.words.a_colour(colour, self.rng), self.words.a_shape(symbol, self.rng)
        plain = self.words.colour(colour)
        if self.words.english:
            return f"{asked} {shape}", f"{plain} {SHAPES[symbol]}"
        return f"{asked}的{shape}", f"{plain}的{self.words.shape(symbol)}"

    def missing(self, name: str) -> str:
        """Say that ``name`` is not there."""
        return f"There is no {name}." if self.words.english else f"没有{name}。"

    def yes(self, text: str) -> str:
        """Affirm with ``text``, a sentence without its full stop."""
        return f"Yes, {text}." if self.words.english else f"是的，{text}。"

    def no(self, text: str) -> str:
        """Deny with ``text``, a sentence without its full stop."""
        return f"No, {text}." if self.words.english else f"不，{text}。"

    def affirm(self, positive: bool) -> str:
        """Key word of a yes/no answer."""
        return ("yes" if positive else "no") if self.words.english else ("是的" if positive else "不")
