"""Dialogues: what is said is true of the scene, in both languages, and the unseen phrasings are unseen."""

from __future__ import annotations

import re
from itertools import pairwise, product

import pytest

from vlmchat.demo.colours import COLOURS
from vlmchat.demo.dialogue import TRAINED, UNSEEN, Asker, Book
from vlmchat.demo.dice import Dice
from vlmchat.demo.evaluate import SUITES, cases, score
from vlmchat.demo.questions import QUESTIONS, ask
from vlmchat.demo.speech import Language
from vlmchat.demo.talk import FOLLOW_UPS, chain, sample_talk
from vlmchat.demo.wording import expand, templates
from vlmchat.demo.world import SHAPES, Kind, Scene, sample_scene

SCENES = [sample_scene(8, index) for index in range(400)]
SHAPE_SCENES = [scene for scene in SCENES if scene.kind is Kind.SHAPES]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def asked(scene: Scene, kind: str, language: Language = "en", book: Book = TRAINED, seed: int = 0) -> tuple[str, str]:
    turn = ask(Asker(scene, Dice(seed), language, book), kind)
    return (turn.question, turn.answer) if turn else ("", "")


def test_the_same_dice_say_the_same() -> None:
    for index in range(50):
        first = sample_talk(SCENES[index], SCENES[index + 1], Dice(1, index), 0.4)
        assert first == sample_talk(SCENES[index], SCENES[index + 1], Dice(1, index), 0.4)
        assert len(first.turns) == len(first.pictures)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_is_asked_and_nothing_is_left_open(language: Language) -> None:
    heard = set()
    for index, scene in enumerate(SCENES):
        for kind in QUESTIONS:
            turn = ask(Asker(scene, Dice(index), language), kind)
            if turn:
                heard.add(kind)
                assert not re.search(r"[{}\[\]|]", turn.question + turn.answer.replace("`", ""))
                assert score(turn, turn.answer) == 1
    missing = set(QUESTIONS) - heard
    assert missing <= (set() if language == "en" else {"beyond"})


def test_colours_and_shapes_are_those_of_the_scene() -> None:
    for index, scene in enumerate(SHAPE_SCENES):
        pairs = {(SHAPES[thing.symbol], COLOURS[thing.colour]) for thing in scene.things}
        _, answer = asked(scene, "colour_of", seed=index)
        if match := re.fullmatch(r"The (\w+) is (\w+)\.", answer):
            assert match.groups() in pairs
        elif match := re.fullmatch(r"There is no (?:(\w+) )?(\w+)\.", answer):
            colour, shape = match.groups()
            assert all(shape != name or (colour and colour != other) for name, other in pairs)


def test_counts_are_right() -> None:
    words = ("no", "one", "two", "three", "four")
    for index, scene in enumerate(SHAPE_SCENES):
        assert f" {words[len(scene.things)]} shape" in asked(scene, "count_all", seed=index)[1]
        question, answer = asked(scene, "count_some", seed=index)
        if match := re.search(r"(\w+) (circle|square|triangle|star|heart|diamond)s?\.", answer):
            count = sum(SHAPES[thing.symbol] == match.group(2) for thing in scene.things)
            assert match.group(1) == words[count], question


def test_descriptions_name_everything_once() -> None:
    for index, scene in enumerate(SHAPE_SCENES):
        answer = asked(scene, "describe", seed=index)[1].lower()
        for thing in scene.things if answer else ():
            assert re.search(rf"{COLOURS[thing.colour]} {SHAPES[thing.symbol]}", answer)


def test_places_are_where_things_are() -> None:
    for index, scene in enumerate(SHAPE_SCENES):
        turn = ask(Asker(scene, Dice(index)), "where")
        if turn is None or turn.subject is None:
            continue
        thing = turn.subject
        assert ("left" in turn.answer) == (thing.x < 0.4)
        assert ("right" in turn.answer) == (thing.x > 0.6)
        assert ("top" in turn.answer) == (thing.y < 0.4)
        assert ("bottom" in turn.answer) == (thing.y > 0.6)


def test_a_follow_up_speaks_of_the_thing_before() -> None:
    seen = set()
    for index, scene in enumerate(SHAPE_SCENES):
        turns = chain(Asker(scene, Dice(index)), 6, follow=1.0)
        for before, turn in pairwise(turns):
            seen.add(turn.kind)
            if turn.kind == "it_colour" and before.subject:
                assert COLOURS[before.subject.colour] in turn.answer
            if turn.kind == "other" and before.subject:
                assert turn.subject is not before.subject
    assert set(FOLLOW_UPS) <= seen


def test_unknown_pictures_are_declined() -> None:
    for index, scene in enumerate(SCENES):
        if scene.kind is Kind.UNKNOWN:
            assert "tiny demonstration model" in asked(scene, "baffled", seed=index)[1]


def wordings(template: str) -> list[str]:
    """Spell out a template: every branch of every choice."""
    pieces = re.split(r"\[([^\[\]]*)\]", template)
    options = [piece.split("|") if at % 2 else [piece] for at, piece in enumerate(pieces)]
    return [" ".join("".join(choice).lower().split()).rstrip("?.。？!") for choice in product(*options)]


def test_unseen_phrasings_are_unseen() -> None:
    for language, unseen in (("english", UNSEEN.english), ("chinese", UNSEEN.chinese)):
        trained = {text for phrases in templates(language).values() for phrase in phrases for text in wordings(phrase)}
        for kind, phrases in unseen.items():
            if kind in ("hello", "thanks", "bye"):  # there is only so much one can say
                continue
            assert not trained & {text for phrase in phrases for text in wordings(phrase)}, kind


def test_choices_are_expanded() -> None:
    assert {expand("[a|b] c[ d|]", Dice(seed)) for seed in range(50)} == {"a c", "b c", "a c d", "b c d"}


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_finds_its_cases(name: str) -> None:
    found = list(cases(SUITES[name], 3, 1))
    assert len(found) == 3
    assert all(score(case.turns[-1], case.turns[-1].answer) == 1 for case in found)
    assert all(score(case.turns[-1], "A purple moon.") < 1 for case in found)
