"""Questions about where things are and how they compare; asked only where people would agree on the answer."""

from __future__ import annotations

from vlmchat.demo.dialogue import Asker, Turn
from vlmchat.demo.labels import FACTOR
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
    """Whether nobody would take the two for the same size."""
    return max(one.area, two.area) >= FACTOR * min(one.area, two.area)


def _two(asker: Asker) -> tuple[Thing, str, Thing, str] | None:
    """Return the two things of a picture of two, in random order, with their names."""
    if len(asker.things) != 2:
        return None
    first, second = (asker.things[at] for at in asker.rng.permutation(2))
    name, other = asker.reference(first), asker.reference(second)
    return (first, name, second, other) if name is not None and other is not None else None


def ask_compare(asker: Asker, kind: str) -> Turn | None:
    """Ask which of two things is bigger, or ("is_bigger") whether the first one is: the answer is the same."""
    pair, words = _two(asker), asker.words
    if pair is None or not _clear(pair[0], pair[2]):
        return None
    bigger = max(pair[0], pair[2], key=lambda thing: thing.area)
    shape = words.shape(bigger.symbol) if pair[0].symbol != pair[2].symbol else words.thing(bigger)
    answer = f"The {shape} is bigger." if words.english else f"{shape}更大。"
    return asker.turn(kind, answer, (shape,), bigger, a=pair[1], b=pair[3])
