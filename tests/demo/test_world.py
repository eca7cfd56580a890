"""Drawing: the same seed gives the same pixels, and the labels say what the pixels show."""

from __future__ import annotations

import numpy as np
import pytest

from vlmchat.demo.colours import ANCHORS, COLOURS, distance, sample_rgb
from vlmchat.demo.draw import GRID, cells, draw, outline
from vlmchat.demo.labels import THING_FIELDS, picture_labels, thing_labels
from vlmchat.demo.others import draw_like_others
from vlmchat.demo.world import DIGITS, SHAPES, SYMBOLS, Kind, Scene, sample_scene

SCENES = [sample_scene(5, index, (0.4, 2.5)) for index in range(300)]


def test_a_seed_draws_one_picture() -> None:
    for index in range(20):
        assert sample_scene(5, index) == sample_scene(5, index)
        assert draw(sample_scene(5, index)) == draw(sample_scene(5, index))
    assert sample_scene(5, 1) != sample_scene(6, 1)


def test_drawings_by_others_are_fixed_too() -> None:
    (scene, image), (again, same) = draw_like_others(3, 4), draw_like_others(3, 4)
    assert scene == again
    assert image == same
    assert scene.size == image.size


def test_every_kind_of_picture_comes_up_and_has_its_size() -> None:
    assert {scene.kind for scene in SCENES} == set(Kind)
    for scene in SCENES[:60]:
        image = draw(scene)
        assert (image.mode, image.size) == ("RGB", scene.size)


def test_things_stay_inside_and_apart() -> None:
    for scene in SCENES:
        for place, thing in enumerate(scene.things):
            assert thing.x - thing.width / 2 >= 0 and thing.x + thing.width / 2 <= 1
            assert thing.y - thing.height / 2 >= 0 and thing.y + thing.height / 2 <= 1
            if SYMBOLS[thing.symbol] in DIGITS:
                continue
            for other in scene.things[:place]:
                apart_x = abs(thing.x - other.x) >= (thing.width + other.width) / 2
                assert apart_x or abs(thing.y - other.y) >= (thing.height + other.height) / 2


def test_few_things_stand_where_people_would_not_agree() -> None:
    """Only tidy rows of four put things between left and middle."""
    things = [thing for scene in SCENES if scene.kind is Kind.SHAPES for thing in scene.things]
    unclear = [thing for thing in things if thing.row is None or thing.column is None]
    assert len(unclear) < 0.1 * len(things)


def test_a_filled_shape_has_its_colour_in_its_box() -> None:
    seen = set()
    for scene in SCENES:
        plain = not (scene.style.hollow or scene.style.noise or scene.style.blur or scene.style.jpeg)
        if scene.kind is not Kind.SHAPES or not plain:
            continue
        pixels = np.asarray(draw(scene)).astype(int)
        for thing in scene.things:
            corners = outline(thing)
            middle = (corners.min(0) + corners.max(0)) / 2
            assert middle == pytest.approx((thing.x, thing.y))
            assert np.ptp(corners, 0) == pytest.approx((thing.width, thing.height))
            hits = (np.abs(pixels - thing.rgb).max(-1) <= 2).mean()
            assert hits > 0.1 * thing.area
            seen.add(SHAPES[thing.symbol])
    assert seen == set(SHAPES)


def test_cells_cover_the_things() -> None:
    for scene in SCENES:
        found = cells(scene, GRID)
        assert found.shape == (64,)
        if scene.kind in (Kind.SHAPES, Kind.NUMBER):
            assert set(found.tolist()) - {0} == set(range(1, len(scene.things) + 1))
        else:
            assert scene.things or not found.any()


def test_labels_follow_the_scene() -> None:
    rank = list(THING_FIELDS).index("rank")
    for scene in SCENES:
        labels, whole = thing_labels(scene), picture_labels(scene)
        assert (labels[len(scene.things) :] == -1).all()
        assert (labels < list(THING_FIELDS.values())).all()
        assert whole[0] == scene.kind.value
        if scene.kind is Kind.SHAPES:
            assert labels[: len(scene.things), rank].tolist() == list(range(len(scene.things)))
            assert whole[1] == len(scene.things)


def test_numbers_read_from_left_to_right() -> None:
    numbers = [scene for scene in SCENES if scene.kind is Kind.NUMBER]
    assert {len(scene.number) for scene in numbers} == {1, 2, 3}
    for scene in numbers:
        assert [thing.x for thing in scene.things] == sorted(thing.x for thing in scene.things)
        assert scene.number.isdigit()


def test_colours_do_not_overlap() -> None:
    """No sampled value lies on a palette value of another colour."""
    rng = np.random.default_rng(1)
    for colour in COLOURS:
        for _ in range(200):
            rgb = sample_rgb(colour, rng)
            nearest = min((distance(rgb, anchor), name) for name, anchors in ANCHORS.items() for anchor in anchors)
            assert nearest[1] == colour or nearest[0] > 0.01


def test_a_scene_is_frozen() -> None:
    scene: Scene = SCENES[0]
    with pytest.raises(AttributeError):
        scene.kind = Kind.EMPTY  # type: ignore[misc]
