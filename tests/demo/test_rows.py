"""Rows: every answer's words know which things they speak of, and look at the image tokens that show them."""

from __future__ import annotations

import shutil

import pytest

from vlmchat.demo import CHECKPOINT
from vlmchat.demo.dialogue import Asker, Turn, pieces
from vlmchat.demo.dice import Dice
from vlmchat.demo.questions import ask
from vlmchat.demo.rows import Mix, Row, Scribe, build_row, collate
from vlmchat.demo.schedule import MICRO
from vlmchat.demo.store import Store
from vlmchat.demo.talk import Talk
from vlmchat.demo.train import prepare
from vlmchat.demo.vocabulary import Vocabulary
from vlmchat.demo.world import Kind, sample_scene

SCENES = [sample_scene(8, index) for index in range(300)]
VOCABULARY = Vocabulary(CHECKPOINT)
SCRIBE = Scribe(VOCABULARY)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The pictures of the micro course."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(CHECKPOINT, folder / "checkpoint", ignore=shutil.ignore_patterns("*.safetensors"))
    prepare(folder, MICRO.plan, workers=1)
    return Store(folder / "pictures", MICRO.plan)


def said_of(thing: int, turn: Turn) -> str:
    """Encode one turn; return what its answer says while it looks at ``thing``."""
    encoded = SCRIBE.encode(Talk((turn,), ((0,),)), [1])
    looking = [number for number, gaze in zip(encoded.ids, encoded.gaze, strict=True) if gaze and thing in gaze[1]]
    return VOCABULARY.decode(looking)


def test_an_answer_is_cut_behind_its_parts() -> None:
    assert pieces("A cat, a dog.", [("a cat", []), ("a dog", [])]) == [("A cat", []), (", a dog", [])]


def test_each_digit_looks_at_itself() -> None:
    seen = 0
    for index, scene in enumerate(SCENES):
        turn = ask(Asker(scene, Dice(index)), "number")
        if scene.kind is not Kind.NUMBER or turn is None:
            continue
        assert [said_of(place, turn)[-1] for place in range(len(scene.number))] == list(scene.number)
        seen += 1
    assert seen > 20


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_shape_of_a_description_looks_at_its_things(language: str) -> None:
    for index, scene in enumerate(SCENES):
        asker = Asker(scene, Dice(index), "zh" if language == "zh" else "en")
        turn = ask(asker, "describe")
        if scene.kind is not Kind.SHAPES or turn is None:
            continue
        for number, thing in enumerate(scene.things):
            said = said_of(number, turn)
            assert asker.words.thing(thing) in said.lower()
            assert ("background" if language == "en" else "背景") not in said


def test_the_end_of_a_row_looks_where_its_thing_is(store: Store) -> None:
    """In a batch, "The star is on the left." looks at the cells of the star in the last tile, and at no others."""
    checked = 0
    for index in range(store.plan.total):
        scene = store.scene(index)
        turn = ask(Asker(scene, Dice(index)), "where")
        if turn is None or turn.subject is None:
            continue
        encoded = SCRIBE.encode(Talk((turn,), ((0,),)), [len(store.tiles(index))])
        length = len(encoded.ids)
        row = Row(
            encoded.ids,
            encoded.targets,
            encoded.features,
            encoded.gaze,
            list(range(length)),
            [1] * length,
            [False] * length,
        )
        batch = collate(store, [row], [(index, index)])
        offset = 16 * (len(store.tiles(index)) - 1)
        number = scene.things.index(turn.subject) + 1
        cells = [at for at, cell in enumerate(store.tokens[index]) if cell == number]
        assert batch.gazed.any(0).nonzero().flatten().tolist() == [
            at for at, feature in enumerate(row.features) if feature and feature[1] - offset in cells
        ]
        checked += 1
    assert checked > 3


def test_a_row_is_as_long_as_its_mix_allows(store: Store) -> None:
    for index in range(10):
        row = build_row(store, SCRIBE, Dice(index), Mix(0.3, 0.5, 240, hard=0.5), (index, index + 1), False)
        assert len(row.ids) == len(row.gaze) == len(row.targets) <= 240
