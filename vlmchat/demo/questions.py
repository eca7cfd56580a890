"""Every kind of question, with its true answer.

A question is only asked where people would agree on the answer (no place between left and middle, no near tie in
size). Each turn carries its ``kind`` and the ``keys`` by which :mod:`vlmchat.demo.evaluate` scores an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vlmchat.demo import relations, speech
from vlmchat.demo.colours import COLOURS
from vlmchat.demo.dialogue import Asker, Turn, pieces
from vlmchat.demo.speech import NUMERALS, Words, article, plural
from vlmchat.demo.wording import expand, templates
from vlmchat.demo.world import SHAPES, SYMBOLS, Kind, Thing


def _describe(asker: Asker) -> Turn | None:
    scene, words = asker.scene, asker.words
    if scene.kind is Kind.UNKNOWN:
        return asker.turn("describe", speech.UNKNOWN_PICTURE[words.language], _declined(words))
    if scene.background is None:
        return None
    ground = words.colour(scene.background)
    if scene.kind is Kind.EMPTY:
        answer = (
            f"The picture is empty, only a {ground} background." if words.english else f"图是空的，只有{ground}的背景。"
        )
        return asker.turn("describe", answer, ("empty" if words.english else "空", ground))
    on = f" on {article(ground)} {ground} background." if words.english else f"，背景是{ground}。"
    if scene.kind is Kind.MANY:
        return asker.turn(
            "describe", ("More than four shapes" if words.english else "有四个以上的图形") + on, (_four(words),)
        )
    if scene.kind is Kind.NUMBER:
        colour = words.colour(scene.things[0].colour)
        answer = f"The number {scene.number} in {colour}" if words.english else f"有{colour}的数字{scene.number}"
        return asker.telling(asker.turn("describe", answer + on, (scene.number, colour)), _digits(asker, answer))
    if not scene.things:
        return None
    parts = words.counted(scene.things)
    listing = words.join([text for text, _ in parts])
    keys = tuple(name for thing in scene.things for name in (words.shape(thing.symbol), words.colour(thing.colour)))
    single = scene.things[0] if len(scene.things) == 1 else None
    answer = (listing[0].upper() + listing[1:] if words.english else f"有{listing}") + on
    return asker.telling(asker.turn("describe", answer, keys, single), pieces(answer, parts))


def _digits(asker: Asker, answer: str) -> list[tuple[str, Sequence[Thing]]]:
    """Cut ``answer`` behind each digit of the number."""
    return pieces(answer, [(SYMBOLS[thing.symbol], [thing]) for thing in asker.scene.things])


def _declined(words: Words) -> tuple[str, ...]:
    return ("tiny",) if words.english else ("演示模型",)


def _four(words: Words) -> str:
    return "more than four" if words.english else "四个以上"


def _shape_it(asker: Asker) -> Turn | None:
    if len(asker.scene.things) != 1 or asker.scene.kind is not Kind.SHAPES:
        return None
    thing, words = asker.scene.things[0], asker.words
    shape = words.shape(thing.symbol)
    return asker.turn(
        "shape_it", words.be("it", f"{article(shape)} {shape}" if words.english else shape), (shape,), thing
    )


def _colour_it(asker: Asker) -> Turn | None:
    if len(asker.scene.things) != 1 or asker.scene.kind is not Kind.SHAPES:
        return None
    thing, words = asker.scene.things[0], asker.words
    colour = words.colour(thing.colour)
    return asker.turn("colour_it", words.be("it", colour if words.english else colour + "的"), (colour,), thing)


def _colour_of(asker: Asker) -> Turn | None:
    words = asker.words
    if asker.rng.random() < 0.15:
        asked, name = asker.absent()
        return asker.turn("colour_of", asker.missing(name), ("no" if words.english else "没有", name), a=asked)
    thing = asker.pick()
    name_ = asker.reference(thing) if thing else None
    if thing is None or name_ is None:
        return None
    shape, colour = words.shape(thing.symbol), words.colour(thing.colour)
    return asker.turn(
        "colour_of", words.be(shape, colour if words.english else colour + "的"), (colour,), thing, a=name_
    )


def _shape_of(asker: Asker) -> Turn | None:
    words, thing = asker.words, asker.pick()
    if asker.rng.random() < 0.1 or thing is None:
        used = {other.colour for other in asker.things} | {asker.scene.background}
        colour = int(asker.rng.choice([c for c in range(len(COLOURS)) if c not in used]))
        name = words.colour(colour)
        answer = f"Nothing is {name}." if words.english else f"没有{name}的。"
        return asker.turn(
            "shape_of", answer, ("nothing" if words.english else "没有",), c=words.a_colour(colour, asker.rng)
        )
    if sum(other.colour == thing.colour for other in asker.things) > 1:
        return None
    shape, colour_name = words.shape(thing.symbol), words.colour(thing.colour)
    answer = f"The {shape} is {colour_name}." if words.english else f"{colour_name}的是{shape}。"
    return asker.turn("shape_of", answer, (shape,), thing, c=words.a_colour(thing.colour, asker.rng))


def _count_all(asker: Asker) -> Turn | None:
    words, count = asker.words, len(asker.things)
    if asker.scene.kind is Kind.MANY:
        answer = "There are more than four shapes." if words.english else "有四个以上的图形。"
        return asker.turn("count_all", answer, (_four(words),))
    return asker.turn(
        "count_all", _amount(asker, count, "shape" if words.english else "图形"), (_numeral(words, count),)
    )


def _numeral(words: Words, count: int) -> str:
    return "没有" if count == 0 and not words.english else NUMERALS[words.language][count]


def _amount(asker: Asker, count: int, noun: str) -> str:
    if not asker.words.english:
        return f"有{NUMERALS['zh'][count]}个{noun}。" if count else f"没有{noun}。"
    return f"There {'is' if count == 1 else 'are'} {NUMERALS['en'][count]} {noun if count == 1 else plural(noun)}."


def _count_some(asker: Asker) -> Turn | None:
    words, rng, things = asker.words, asker.rng, asker.things
    thing = asker.pick()
    if rng.random() < 0.4 and thing is not None:  # by colour
        meant = [other for other in things if other.colour == thing.colour]
        colour, asked = words.colour(thing.colour), words.a_colour(thing.colour, rng)
        nouns = f"{asked} {rng.choice(['shapes', 'things', 'objects', 'ones'])}" if words.english else f"{asked}的图形"
        noun = f"{colour} shape" if words.english else f"{colour}的图形"
        answer = _amount(asker, len(meant), noun)
        turn = asker.turn("count_some", answer, (_numeral(words, len(meant)),), ss=nouns)
        return asker.telling(turn, [(answer, meant)])
    symbol = thing.symbol if thing is not None and rng.random() < 0.75 else int(rng.integers(len(SHAPES)))
    meant = [other for other in things if other.symbol == symbol]
    asked = words.a_shape(symbol, rng)
    answer = _amount(asker, len(meant), words.shape(symbol))
    slot = plural(asked) if words.english else asked
    turn = asker.turn("count_some", answer, (_numeral(words, len(meant)),), ss=slot)
    return asker.telling(turn, [(answer, meant)])


def _exists(asker: Asker) -> Turn | None:
    words, rng, thing = asker.words, asker.rng, asker.pick()
    equal: list[Thing] = []
    positive = bool(rng.random() < 0.55) and thing is not None
    if positive and thing is not None:
        shape, colour = words.a_shape(thing.symbol, rng), words.a_colour(thing.colour, rng)
        coloured = rng.random() < 0.3
        plain = words.thing(thing) if coloured else words.shape(thing.symbol)
        asked = (f"{colour} {shape}" if words.english else f"{colour}的{shape}") if coloured else shape
        equal = [t for t in asker.things if t.symbol == thing.symbol and (t.colour == thing.colour or not coloured)]
        text = f"there is {article(plain)} {plain}" if words.english else f"有{plain}"
        if len(equal) > 1 and words.english:
            text = f"there are {NUMERALS['en'][len(equal)]} {plural(plain)}"
        answer, subject = asker.yes(text), thing if len(equal) == 1 else None
    else:
        asked, plain = asker.absent()
        answer, subject = asker.no(f"there is no {plain}" if words.english else f"没有{plain}"), None
    slots = {"one": f"{article(asked)} {asked}" if words.english else asked, "s": asked, "ss": plural(asked)}
    turn = asker.turn("exists", answer, (asker.affirm(positive),), subject, **slots)
    return asker.telling(turn, [(answer, equal)])


def _is_colour(asker: Asker) -> Turn | None:
    words, rng, thing = asker.words, asker.rng, asker.pick()
    name = asker.reference(thing) if thing else None
    if thing is None or name is None or any(words.colour(c) in name for c in range(len(COLOURS))):
        return None
    positive = bool(rng.random() < 0.5)
    others = [c for c in range(len(COLOURS)) if c != thing.colour]
    near = [other.colour for other in asker.things if other.colour != thing.colour]
    asked = thing.colour if positive else int(rng.choice(near if near and rng.random() < 0.5 else others))
    colour = words.colour(thing.colour)
    text = (
        f"the {words.shape(thing.symbol)} is {colour}" if words.english else f"{words.shape(thing.symbol)}是{colour}的"
    )
    answer = asker.yes(text) if positive else asker.no(text)
    return asker.turn(
        "is_colour", answer, (asker.affirm(positive), colour), thing, a=name, c=words.a_colour(asked, rng)
    )


def _background(asker: Asker) -> Turn | None:
    if asker.scene.background is None or asker.scene.kind is Kind.UNKNOWN:
        return None
    colour = asker.words.colour(asker.scene.background)
    answer = f"The background is {colour}." if asker.words.english else f"背景是{colour}的。"
    return asker.turn("background", answer, (colour,))


def _colours(asker: Asker) -> Turn | None:
    if asker.scene.kind is not Kind.SHAPES:
        return None
    groups: dict[str, list[Thing]] = {}
    for thing in asker.scene.things:
        groups.setdefault(asker.words.colour(thing.colour), []).append(thing)
    return _listing(asker, "colours", groups)


def _shapes(asker: Asker) -> Turn | None:
    if asker.scene.kind is not Kind.SHAPES:
        return None
    groups: dict[str, list[Thing]] = {}
    for thing in asker.scene.things:
        groups.setdefault(asker.words.shape(thing.symbol), []).append(thing)
    return _listing(asker, "shapes", groups)


def _listing(asker: Asker, kind: str, groups: Mapping[str, list[Thing]]) -> Turn:
    """Answer with a list of names, in the order of the things."""
    listing = asker.words.join(list(groups))
    answer = listing[0].upper() + listing[1:] + ("." if asker.words.english else "。")
    return asker.telling(asker.turn(kind, answer, tuple(groups)), pieces(answer, list(groups.items())))


def _number(asker: Asker) -> Turn | None:
    number = asker.scene.number
    if not number:
        return None
    answer = _is_number(asker)
    return asker.telling(asker.turn("number", answer, (number,)), _digits(asker, answer))


def _is_number(asker: Asker) -> str:
    return f"The number is {asker.scene.number}." if asker.words.english else f"数字是{asker.scene.number}。"


def _number_is(asker: Asker) -> Turn | None:
    """Ask whether it is this number; the answer says which it is: yes or no it told apart in three cases of four."""
    number, rng = asker.scene.number, asker.rng
    if not number:
        return None
    asked = number if rng.random() < 0.5 else str(rng.integers(10 ** (len(number) - 1), 10 ** len(number)))
    answer = _is_number(asker)
    return asker.telling(asker.turn("number_is", answer, (number,), n=asked), _digits(asker, answer))


def _number_colour(asker: Asker) -> Turn | None:
    if not asker.scene.number:
        return None
    colour = asker.words.colour(asker.scene.things[0].colour)
    answer = f"The number is {colour}." if asker.words.english else f"数字是{colour}的。"
    return asker.turn("number_colour", answer, (colour,))


def _baffled(asker: Asker) -> Turn | None:
    """Ask any question about a picture that shows nothing of this world."""
    if asker.scene.kind is not Kind.UNKNOWN:
        return None
    rng, words = asker.rng, asker.words
    shape = words.a_shape(int(rng.integers(len(SHAPES))), rng)
    slots = {
        "a": shape,
        "b": words.a_shape(int(rng.integers(len(SHAPES))), rng),
        "s": shape,
        "one": f"{article(shape)} {shape}" if words.english else shape,
        "ss": plural(shape) if words.english else shape,
        "c": words.a_colour(int(rng.integers(len(COLOURS))), rng),
        "p": words.a_place(int(rng.integers(9)), rng),
        "n": "7",
    }
    kind = str(rng.choice(BAFFLING))
    turn = asker.turn(kind, speech.UNKNOWN_PICTURE[words.language], _declined(words), None, **slots)
    return replace(turn, kind="baffled")


BAFFLING: Final = (
    "describe",
    "describe",
    "shape_it",
    "colour_it",
    "shapes",
    "count_all",
    "where",
    "exists",
    "number",
    "colour_of",
)


def _odd(asker: Asker) -> Turn | None:
    """Ask for what no scene of this world can answer."""
    rng, phrases = asker.rng, templates("odd", "english" if asker.words.english else "chinese")
    if rng.random() < 0.5:
        abouts, things = phrases["about_things"], phrases["things"]
        question = rng.choice(abouts).format(x=rng.choice(things))
    else:
        question = expand(rng.choice(phrases["questions"]), rng)
    answer = speech.UNKNOWN_QUESTION[asker.words.language]
    return Turn("odd", asker.typed(question), answer, _declined(asker.words), asker.words.language)


def _beyond(asker: Asker) -> Turn | None:
    """Ask what is beside a thing, or whether one thing is beside another (English only): this it does not learn."""
    thing, other = asker.pick(), asker.pick()
    name, second = (asker.reference(t) if t else None for t in (thing, other))
    if name is None or second is None or not asker.words.english:
        return None
    turn = asker.turn(asker.rng.choice(BESIDE), speech.UNKNOWN_QUESTION["en"], _declined(asker.words), a=name, b=second)
    return replace(turn, kind="beyond")


BESIDE: Final = ("left_of", "right_of", "above", "below", "is_left", "is_right", "is_above", "is_below")


def _canned(kind: str, answers: Mapping[str, str], keys: Mapping[str, str]) -> Callable[[Asker], Turn | None]:
    def ask(asker: Asker) -> Turn | None:
        language = asker.words.language
        return asker.turn(kind, answers[language], (keys[language],))

    return ask


def _no_picture(asker: Asker) -> Turn | None:
    question = asker.rng.choice(templates("odd", "english" if asker.words.english else "chinese")["no_picture"])
    answer = speech.NO_PICTURE[asker.words.language]
    key = "no picture" if asker.words.english else "没有图片"
    return Turn("no_picture", asker.typed(question), answer, (key,), asker.words.language)


QUESTIONS: Final[Mapping[str, Callable[[Asker], Turn | None]]] = {
    "describe": _describe,
    "shape_it": _shape_it,
    "colour_it": _colour_it,
    "colour_of": _colour_of,
    "shape_of": _shape_of,
    "count_all": _count_all,
    "count_some": _count_some,
    "where": relations.ask_where,
    "at": relations.ask_at,
    "exists": _exists,
    "is_colour": _is_colour,
    "compare": lambda asker: relations.ask_compare(asker, "compare"),
    "is_bigger": lambda asker: relations.ask_compare(asker, "is_bigger"),
    "background": _background,
    "colours": _colours,
    "shapes": _shapes,
    "number": _number,
    "number_is": _number_is,
    "number_colour": _number_colour,
    "biggest": lambda asker: relations.ask_extreme(asker, "biggest", -1),
    "smallest": lambda asker: relations.ask_extreme(asker, "smallest", 1),
    "beyond": _beyond,
    "baffled": _baffled,
    "odd": _odd,
    "no_picture": _no_picture,
    "identity": _canned("identity", speech.ABOUT, {"en": "tiny demonstration", "zh": "演示模型"}),
    "hello": _canned("hello", speech.HELLO, {"en": "hello", "zh": "你好"}),
    "thanks": _canned("thanks", speech.THANKS, {"en": "welcome", "zh": "不客气"}),
    "bye": _canned("bye", speech.BYE, {"en": "goodbye", "zh": "再见"}),
}
ORPHANS: Final = ("odd", "baffled", "no_picture", "beyond")
"""Kinds whose wording is not looked up under their own name."""


def ask(asker: Asker, kind: str) -> Turn | None:
    """Ask one question of ``kind``; None where it has no clear answer, or the book no phrase for it."""
    return QUESTIONS[kind](asker) if kind in asker.templates or kind in ORPHANS else None
