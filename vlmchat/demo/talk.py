"""Conversations: one-question lookups, chains of turns that lean on each other, pictures that come late or twice.

A :class:`Talk` is what one user and the demo say, with the pictures (numbered within a training row) before the turns
they come with; :mod:`vlmchat.demo.rows` renders it with the prompt code of the InternVL2 family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vlmchat.demo.colours import COLOURS
from vlmchat.demo.dialogue import TRAINED, Asker, Book, Turn, pieces
from vlmchat.demo.dice import Dice
from vlmchat.demo.questions import ask
from vlmchat.demo.speech import Language, article
from vlmchat.demo.world import Kind, Scene

# How often each kind is asked of a picture, before impossible ones are dropped.
SHAPE_KINDS: Final[Mapping[str, float]] = {
    "describe": 1.6,
    "shape_it": 1.2,
    "colour_it": 1.2,
    "colour_of": 2.2,
    "shape_of": 1.2,
    "count_all": 1.2,
    "count_some": 1.3,
    "where": 2.2,
    "at": 1.8,
    "exists": 1.6,
    "is_colour": 1.0,
    "biggest": 0.5,
    "smallest": 0.5,
    "compare": 0.5,
    "is_bigger": 0.5,
    "beyond": 0.4,
    "background": 0.5,
    "colours": 0.5,
    "shapes": 0.6,
    "odd": 0.5,
    "identity": 0.15,
}
NUMBER_KINDS: Final[Mapping[str, float]] = {
    "describe": 1.5,
    "number": 3.0,
    "number_is": 0.8,
    "number_colour": 0.8,
    "background": 0.3,
    "count_all": 0.2,
    "exists": 0.2,
    "odd": 0.2,
}
EMPTY_KINDS: Final[Mapping[str, float]] = {
    "describe": 2.0,
    "count_all": 1.0,
    "count_some": 0.6,
    "at": 0.5,
    "exists": 1.0,
    "colour_of": 0.4,
    "where": 0.4,
    "background": 0.6,
}
KINDS: Final[Mapping[Kind, Mapping[str, float]]] = {
    Kind.SHAPES: SHAPE_KINDS,
    Kind.NUMBER: NUMBER_KINDS,
    Kind.EMPTY: EMPTY_KINDS,
    Kind.MANY: {"describe": 1.0, "count_all": 1.0, "background": 0.3, "odd": 0.1},
    Kind.UNKNOWN: {"baffled": 3.0, "odd": 0.3, "identity": 0.1},
}
NAMED_KINDS: Final[Mapping[str, float]] = {
    "colour_of": 2.0,
    "where": 4.0,
    "exists": 2.5,
    "count_some": 2.0,
    "is_colour": 2.0,
    "shape_of": 1.0,
    "at": 2.5,
}
"""Questions that need a word matched with what the picture shows."""
HARD_KINDS: Final[Mapping[Kind, Mapping[str, float]]] = {
    Kind.SHAPES: {
        "where": 3.0,
        "at": 2.5,
        "is_colour": 4.0,
        "exists": 2.0,
        "count_some": 1.5,
        "count_all": 1.0,
        "shapes": 0.7,
        "colours": 1.5,
        "compare": 1.0,
        "is_bigger": 1.0,
        "biggest": 0.7,
        "smallest": 0.7,
    },
    Kind.NUMBER: {"number": 4.0, "number_is": 3.0, "describe": 1.0, "number_colour": 0.7},
}
"""What candidates of the weights still got wrong: places, numbers, yes or no, lists, comparisons."""
SMALL_TALK: Final = ("hello", "thanks", "identity", "bye", "odd", "no_picture")
HARD_FOLLOW_UPS: Final[Mapping[str, tuple[str, ...]]] = {
    "other": ("where", "colour_of", "exists", "at", "shape_of", "biggest"),
    "what_about": ("where", "colour_of"),
    "they_are": ("count_all",),
    "they_colour": ("count_all", "shapes"),
    "it_is_colour": (),
    "it_where": (),
}
"""Follow-ups that are learnt last, and what each of them follows; nothing stands for any question."""
ASIDES: Final = ("hello", "thanks", "identity", "bye", "odd", "odd", "beyond", "beyond")
LISTED: Final = 3
"""Most things that "what are they?" is asked of: of four, 16 of 25 lists came out whole."""
COLOUR_TOPIC: Final = ("colour_of", "colour_it", "it_colour")
PLACE_TOPIC: Final = ("where", "it_where")


@dataclass(frozen=True)
class Talk:
    """Turns, and for each the pictures that come with it (numbers of the training row)."""

    turns: tuple[Turn, ...]
    pictures: tuple[tuple[int, ...], ...]


def lookup(asker: Asker, weights: Mapping[str, float] | None = None) -> Turn:
    """Ask one question about the scene, with the kinds weighted for it (or as given)."""
    table = weights or KINDS[asker.scene.kind]
    kinds = list(table)
    shares = [table[kind] for kind in kinds]
    while True:
        turn = ask(asker, kinds[asker.rng.weighted(shares)])
        if turn is not None:
            return turn


def chain(asker: Asker, length: int, follow: float = 0.65) -> list[Turn]:
    """Ask ``length`` questions in a row; each follows up on the one before it with probability ``follow``."""
    turns = [lookup(asker)]
    while len(turns) < length:
        turn = follow_up(asker, turns) if asker.rng.random() < follow else None
        turns.append(turn or lookup(asker))
    if asker.rng.random() < 0.12:
        closing = ask(asker, asker.rng.choice(("thanks", "bye", "hello", "identity")))
        if closing is not None:
            turns[-1] = closing
    return turns


def follow_up(asker: Asker, turns: Sequence[Turn], kind: str | None = None) -> Turn | None:
    """Ask a question that only makes sense after ``turns`` (one of ``kind``, if given); None where nothing fits."""
    if kind is not None:
        return FOLLOW_UPS[kind](asker, turns[-1]) if kind in asker.templates else None
    fitting = [kind for kind in FOLLOW_UPS if kind in asker.templates]
    for place in asker.rng.permutation(len(fitting)):
        turn = FOLLOW_UPS[fitting[place]](asker, turns[-1])
        if turn is not None:
            return turn
    return None


def _it_colour(asker: Asker, last: Turn) -> Turn | None:
    if last.subject is None or last.kind in COLOUR_TOPIC:
        return None
    colour = asker.words.colour(last.subject.colour)
    answer = asker.words.be("it", colour if asker.words.english else colour + "的")
    return asker.turn("it_colour", answer, (colour,), last.subject)


def _it_where(asker: Asker, last: Turn) -> Turn | None:
    thing = last.subject
    if thing is None or thing.row is None or thing.column is None or last.kind in PLACE_TOPIC:
        return None
    place = asker.words.place(thing.row, thing.column)
    return asker.turn("it_where", f"It is {place}." if asker.words.english else f"它在{place}。", (place,), thing)


def _it_shape(asker: Asker, last: Turn) -> Turn | None:
    if last.subject is None or last.kind in ("shape_it", "shape_of"):
        return None
    shape = asker.words.shape(last.subject.symbol)
    answer = asker.words.be("it", f"{article(shape)} {shape}" if asker.words.english else shape)
    return asker.turn("it_shape", answer, (shape,), last.subject)


def _it_is_colour(asker: Asker, last: Turn) -> Turn | None:
    if last.subject is None or last.kind in COLOUR_TOPIC:
        return None
    positive = bool(asker.rng.random() < 0.5)
    others = [c for c in range(len(COLOURS)) if c != last.subject.colour]
    asked = last.subject.colour if positive else int(asker.rng.choice(others))
    colour = asker.words.colour(last.subject.colour)
    text = f"it is {colour}" if asker.words.english else f"它是{colour}的"
    answer = asker.yes(text) if positive else asker.no(text)
    slots = {"c": asker.words.a_colour(asked, asker.rng)}
    return asker.turn("it_is_colour", answer, (asker.affirm(positive), colour), last.subject, **slots)


def _other(asker: Asker, last: Turn) -> Turn | None:
    """Ask for the other one of two things; the answer says what it is, whatever was asked before."""
    if len(asker.things) != 2 or last.subject is None or last.kind in ("other", "it_is_colour", "is_colour"):
        return None
    other = next(thing for thing in asker.things if thing is not last.subject)
    words = asker.words
    name = words.thing(other)
    answer = f"The other one is {article(name)} {name}." if words.english else f"另一个是{name}。"
    return asker.turn("other", answer, (words.shape(other.symbol), words.colour(other.colour)), other)


def _what_about(asker: Asker, last: Turn) -> Turn | None:
    """Ask of another thing what was asked of the one before."""
    thing, words = asker.pick(), asker.words
    name = asker.reference(thing) if thing else None
    if thing is None or name is None or thing is last.subject or last.subject is None:
        return None
    shape, colour = words.shape(thing.symbol), words.colour(thing.colour)
    if last.kind in COLOUR_TOPIC:
        answer = words.be(shape, colour if words.english else colour + "的")
        return asker.turn("what_about", answer, (colour,), thing, a=name)
    if last.kind not in PLACE_TOPIC or thing.row is None or thing.column is None:
        return None
    place = words.place(thing.row, thing.column)
    answer = f"The {shape} is {place}." if words.english else f"{shape}在{place}。"
    return asker.turn("what_about", answer, (place,), thing, a=name)


def _they_are(asker: Asker, last: Turn) -> Turn | None:
    if last.kind != "count_all" or not 2 <= len(asker.things) <= LISTED:
        return None
    parts = asker.words.counted(asker.things)
    listing = asker.words.join([text for text, _ in parts])
    keys = tuple(
        key for thing in asker.things for key in (asker.words.shape(thing.symbol), asker.words.colour(thing.colour))
    )
    answer = f"{listing[0].upper() + listing[1:]}." if asker.words.english else f"{listing}。"
    return asker.telling(asker.turn("they_are", answer, keys), pieces(answer, parts))


def _they_colour(asker: Asker, last: Turn) -> Turn | None:
    if last.kind not in ("count_all", "shapes") or not 2 <= len(asker.things) <= LISTED:
        return None
    colours = ask(asker, "colours")
    if colours is None:
        return None
    return replace(asker.turn("they_colour", colours.answer, colours.keys), about=colours.about)


FOLLOW_UPS: Final[Mapping[str, Callable[[Asker, Turn], Turn | None]]] = {
    "it_colour": _it_colour,
    "it_where": _it_where,
    "it_shape": _it_shape,
    "it_is_colour": _it_is_colour,
    "other": _other,
    "what_about": _what_about,
    "they_are": _they_are,
    "they_colour": _they_colour,
}


def sample_talk(scene: Scene, second: Scene, rng: Dice, lookups: float, book: Book = TRAINED) -> Talk:
    """Draw one conversation about ``scene`` (picture 0), sometimes also about ``second`` (picture 1).

    ``lookups`` is the share of one-question conversations; the rest mixes chains of 2 to 6 turns, talks without a
    picture, with a late one, and with a second one that replaces the first.
    """
    language: Language = "zh" if rng.random() < 0.24 else "en"
    asker = Asker(scene, rng, language, book)
    if rng.random() < lookups:
        return Talk((lookup(asker),), ((0,),))
    draw = rng.random()
    if draw < 0.12:
        turns = _chatter(asker, int(rng.integers(1, 3)))
        return Talk(tuple(turns), ((),) * len(turns))
    if draw < 0.2:
        before = _chatter(asker, int(rng.integers(1, 3)))
        after = chain(asker, int(rng.integers(1, 4)))
        return Talk((*before, *after), ((),) * len(before) + ((0,),) + ((),) * (len(after) - 1))
    turns = chain(asker, int(rng.integers(2, 7)))
    if draw < 0.3:
        after = chain(Asker(second, rng, language, book), int(rng.integers(1, 4)))
        return Talk((*turns, *after), _pictures(len(turns), 0) + _pictures(len(after), 1))
    if draw < 0.34:
        return _pair(scene, second, rng, language, book)
    if rng.random() < 0.08:  # the user changes the language
        turns += chain(Asker(scene, rng, "en" if language == "zh" else "zh", book), 1)
    return Talk(tuple(turns), _pictures(len(turns), 0))


def sample_lookup(scene: Scene, dice: Dice) -> Talk:
    """Ask for one thing by its name or place."""
    asker = Asker(scene, dice, "zh" if dice.random() < 0.3 else "en")
    return Talk((lookup(asker, NAMED_KINDS),), ((0,),))


def sample_hard(scene: Scene, dice: Dice) -> Talk:
    """Ask what is learnt last: a question of such a kind, or any one and one that leans on it, or small talk."""
    asker = Asker(scene, dice, "zh" if dice.random() < 0.3 else "en")
    aside = ask(asker, dice.choice(ASIDES)) if dice.random() < 0.1 else None
    if aside is not None:
        return Talk((aside,), ((0,),))
    if scene.kind is Kind.SHAPES and dice.random() < 0.6:
        kind = dice.choice(list(HARD_FOLLOW_UPS))
        before = HARD_FOLLOW_UPS[kind]
        first = (ask(asker, dice.choice(before)) if before else None) or lookup(asker)
        second = follow_up(asker, [first], kind) or follow_up(asker, [first])
        return Talk((first, second) if second else (first,), _pictures(2 if second else 1, 0))
    return Talk((lookup(asker, HARD_KINDS.get(scene.kind)),), ((0,),))


def _pictures(turns: int, picture: int) -> tuple[tuple[int, ...], ...]:
    return ((picture,),) + ((),) * (turns - 1)


def _chatter(asker: Asker, length: int) -> list[Turn]:
    """Talk without a picture."""
    turns: list[Turn] = []
    while len(turns) < length:
        turn = ask(asker, asker.rng.choice(SMALL_TALK))
        if turn is not None:
            turns.append(turn)
    return turns


ORDINALS: Final = {
    "en": (
        ("the first picture", "image 1", "picture 1", "the first image"),
        ("the second picture", "image 2", "picture 2", "the second image"),
    ),
    "zh": (("第一张图", "图1"), ("第二张图", "图2")),
}


def _pair(scene: Scene, second: Scene, rng: Dice, language: Language, book: Book) -> Talk:
    """Show two pictures in one turn and ask what each of them is."""
    turns: list[Turn] = []
    for place in rng.permutation(2):
        turn = None
        while turn is None:
            asker = Asker((scene, second)[place], rng, language, book)
            turn = ask(asker, "baffled" if asker.scene.kind is Kind.UNKNOWN else "describe")
            if turn is None:  # a background without a name: show the other picture alone
                return Talk((lookup(Asker(scene, rng, language, book)),), ((0,),))
        where = rng.choice(ORDINALS[language][place])
        question = f"what is in {where}?" if language == "en" else f"{where}里有什么？"
        turns.append(
            replace(
                turn, kind="pair", about=(), question=Asker(scene, rng, language, book).typed(question), subject=None
            )
        )
    return Talk(tuple(turns), ((0, 1), ()))
