"""Questions about where things are and how they compare; asked only where people would agree on the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vlmchat.demo.dialogue import Asker, Turn
from vlmchat.demo.speech import article
from vlmchat.demo.world import Kind, Thing


def ask_where(asker: Asker) -> Turn | None:
    """Ask for the place of a thing, one time in eight of one that is not there."""
    words = asker.words
    if asker.rng.random() < 0.12:
        asked, name = asker.absent()
        return asker.turn("where", asker.missing(name), ("no" if words.english else "没有", name), a=asked)
    thing = asker.pick()
    name_ = asker.reference(thing) if thing else None
    if thing is None or name_ is None or thing.row is None or thing.column is None:
        return None
    place = words.place(thing.row, thing.column)
    shape = words.shape(thing.symbol)
    answer = f"The {shape} is {place}." if words.english else f"{shape}在{place}。"
    return asker.turn("where", answer, (place,), thing, a=name_)


def things_at(things: tuple[Thing, ...], place: int) -> list[Thing] | None:
    """Return the things at place 3 * row + column (sides take the whole side); None where one stands on the border."""
    row, column = divmod(place, 3)
    chosen = []
    for thing in things:
        tests = []
        if row != 1 or column == 1:
            tests.append((thing.row, row))
        if column != 1 or row == 1:
            tests.append((thing.column, column))
        if any(value is None for value, _ in tests):
            return None
        if all(value == wanted for value, wanted in tests):
            chosen.append(thing)
    return chosen


def ask_at(asker: Asker) -> Turn | None:
    """Ask what is at one of the nine places, three times in four one that holds something."""
    words, rng, thing = asker.words, asker.rng, asker.pick()
    place = int(rng.integers(9))
    if thing is not None and thing.row is not None and thing.column is not None and rng.random() < 0.75:
        place = int(rng.choice([p for p in range(9) if thing in (things_at(asker.things, p) or [])] or [place]))
    found = things_at(asker.things, place)
    if found is None or len(found) > 1:
        return None
    asked = words.a_place(place, rng)
    if not found:
        answer = "There is nothing there." if words.english else "那里什么都没有。"
        return asker.turn("at", answer, ("nothing" if words.english else "没有",), p=asked)
    name = words.thing(found[0])
    keys = (words.shape(found[0].symbol), words.colour(found[0].colour))
    answer = f"There is {article(name)} {name}." if words.english else f"那里有一个{name}。"
    return asker.turn("at", answer, keys, found[0], p=asked)


def ask_extreme(asker: Asker, kind: str, sign: int) -> Turn | None:
    """Ask for the biggest (``sign`` -1) or smallest (1) thing."""
    things = sorted(asker.scene.things, key=lambda thing: sign * thing.area)
    if len(things) < 2 or asker.scene.kind is not Kind.SHAPES or not _clear(things[0], things[1]):
        return None
    words, thing = asker.words, things[0]
    name = words.thing(thing)
    adjective = ("biggest" if sign < 0 else "smallest") if words.english else ("最大" if sign < 0 else "最小")
    answer = f"The {name} is the {adjective}." if words.english else f"{name}{adjective}。"
    return asker.turn(kind, answer, (words.shape(thing.symbol), words.colour(thing.colour)), thing)


def _clear(one: Thing, two: Thing) -> bool:
    """Whether nobody would take the two for the same size: 1.6 times the area."""
    return max(one.area, two.area) >= 1.6 * min(one.area, two.area)


def _two(asker: Asker) -> tuple[Thing, str, Thing, str] | None:
    """Choose two things that can be named, in random order, with their names."""
    if len(asker.scene.things) < 2 or asker.scene.kind is not Kind.SHAPES:
        return None
    first, second = (asker.scene.things[at] for at in asker.rng.permutation(len(asker.scene.things))[:2])
    name, other = asker.reference(first), asker.reference(second)
    return (first, name, second, other) if name is not None and other is not None else None


def ask_compare(asker: Asker) -> Turn | None:
    """Ask which of two things is bigger."""
    pair, words = _two(asker), asker.words
    if pair is None or not _clear(pair[0], pair[2]):
        return None
    bigger = max(pair[0], pair[2], key=lambda thing: thing.area)
    shape = words.shape(bigger.symbol) if pair[0].symbol != pair[2].symbol else words.thing(bigger)
    answer = f"The {shape} is bigger." if words.english else f"{shape}更大。"
    return asker.turn("compare", answer, (shape,), bigger, a=pair[1], b=pair[3])


def ask_is_bigger(asker: Asker) -> Turn | None:
    """Ask whether one thing is bigger than another."""
    pair, words = _two(asker), asker.words
    if pair is None or not _clear(pair[0], pair[2]):
        return None
    bigger = max(pair[0], pair[2], key=lambda thing: thing.area)
    shape = words.shape(bigger.symbol) if pair[0].symbol != pair[2].symbol else words.thing(bigger)
    text = f"the {shape} is bigger" if words.english else f"{shape}更大"
    positive = bigger is pair[0]
    answer = asker.yes(text) if positive else asker.no(text)
    return asker.turn("is_bigger", answer, (asker.affirm(positive),), None, a=pair[1], b=pair[3])


DIRECTIONS: Final = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
FAR: Final = 0.16
"""Centres closer than this share of the picture are neither left nor right of each other."""


def ask_is_side(asker: Asker) -> Turn | None:
    """Ask whether one thing is left of, right of, above or below another (English only)."""
    pair = _two(asker)
    if pair is None or not asker.words.english:
        return None
    side = str(asker.rng.choice(list(DIRECTIONS)))
    first, name, second, other = pair
    along = (first.x - second.x) * DIRECTIONS[side][0] + (first.y - second.y) * DIRECTIONS[side][1]
    if abs(along) < FAR:
        return None
    shape = asker.words.shape(first.symbol) if first.symbol != second.symbol else asker.words.thing(first)
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[side]
    true = side if along > 0 else opposite
    text = f"the {shape} is {'on the ' + true if true in ('left', 'right') else true}"
    answer = asker.yes(text) if along > 0 else asker.no(text)
    return replace(asker.turn(f"is_{side}", answer, (asker.affirm(along > 0),), None, a=name, b=other), kind="is_side")


def ask_side_of(asker: Asker) -> Turn | None:
    """Ask what is left of, right of, above or below a thing (English only)."""
    thing = asker.pick()
    name = asker.reference(thing) if thing else None
    if thing is None or name is None or not asker.words.english or asker.scene.kind is not Kind.SHAPES:
        return None
    side = str(asker.rng.choice(list(DIRECTIONS)))
    dx, dy = DIRECTIONS[side]
    along = [((t.x - thing.x) * dx + (t.y - thing.y) * dy, t) for t in asker.things if t is not thing]
    if any(0.05 < shift < FAR for shift, _ in along):
        return None
    found = [other for shift, other in along if shift >= FAR]
    kind = f"{side}_of" if side in ("left", "right") else side
    if len(found) > 1:
        return None
    if not found:
        return replace(asker.turn(kind, "There is nothing there.", ("nothing",), a=name), kind="side_of")
    other_name = asker.words.thing(found[0])
    keys = (asker.words.shape(found[0].symbol), asker.words.colour(found[0].colour))
    answer = f"There is {article(other_name)} {other_name}."
    return replace(asker.turn(kind, answer, keys, found[0], a=name), kind="side_of")
