"""The things world: artwork, backgrounds, placement, and the distribution of random scenes."""

from __future__ import annotations

import colorsys
import json
import random
from collections import Counter

import numpy as np
import pytest
from guidelens_worlds.things.grounds import background
from guidelens_worlds.things.sprites import INDEX, sprite
from guidelens_worlds.things.vocabulary import (
    COLOURS,
    GRID,
    GROUNDS,
    HORIZONS,
    NATURAL,
    SIZE,
    SIZES,
    SKIES,
    THINGS,
)
from guidelens_worlds.things.world import (
    ARRANGEMENTS,
    MAX_OVERLAP,
    Item,
    Scene,
    overlap,
    place,
    random_scene,
    render,
    render_batch,
)


def scenes(count: int, seed: int, num_items: int | None = None) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(rng, num_items) for _ in range(count)]


def hue(rgb: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(float(v) for v in (rgb + 1) / 2))[0] * 360


def test_every_thing_has_its_artwork_in_the_order_of_the_vocabulary() -> None:
    assert list(json.loads(INDEX.read_text(encoding="utf-8"))) == list(THINGS)
    assert (INDEX.parent / "OFL.txt").read_text(encoding="utf-8").count("SIL OPEN FONT LICENSE") == 1


@pytest.mark.parametrize("extent", [size for several in SIZES.values() for size in several])
def test_a_sprite_has_the_size_asked_for(extent: int) -> None:
    for name, thing in THINGS.items():
        art = sprite(name, next(iter(thing.colours)), extent)
        assert max(art.height, art.width) == extent
        assert art.premultiplied.shape == (3, art.height, art.width)
        assert 0 <= art.alpha.min() <= art.alpha.max() <= 1
        assert art.alpha.max() > 0.99
        assert (np.abs(art.premultiplied) <= art.alpha + 1e-6).all()


def test_paint_gives_the_hue_of_its_name_and_keeps_the_outline() -> None:
    painted = [(n, c) for n, thing in THINGS.items() for c in thing.colours if c != NATURAL]
    assert len(painted) > 40
    for name, colour in painted:
        art = sprite(name, colour, 36)
        first = sprite(name, next(iter(THINGS[name].colours)), 36)
        np.testing.assert_array_equal(art.alpha, first.alpha)
        inside = art.premultiplied[:, art.alpha > 0.99].T
        saturated = inside[np.ptp(inside, axis=1) > 0.5]
        wanted = colorsys.rgb_to_hsv(*(v / 255 for v in COLOURS[colour]))[0] * 360
        away = [abs((hue(pixel) - wanted + 180) % 360 - 180) for pixel in saturated]
        assert np.mean(np.array(away) < 15) > 0.35, (name, colour)


def test_colours_of_one_thing_differ_and_natural_ones_are_most_frequent() -> None:
    for name, thing in THINGS.items():
        art = [sprite(name, colour, 20).premultiplied for colour in thing.colours]
        apart = [np.abs(a - b).mean() for i, a in enumerate(art) for b in art[:i]]
        assert not apart or min(apart) > 0.03, name
    assert THINGS["dog"].colours[NATURAL] > THINGS["dog"].colours["blue"]


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("sky", SKIES)
def test_a_background_is_drawn_the_same_each_time_and_shows_its_horizon(ground: str, sky: str) -> None:
    for horizon in HORIZONS:
        image = background(ground, sky, horizon)
        assert image.shape == (3, SIZE, SIZE)
        assert np.abs(image).max() <= 1
        assert not image.flags.writeable
        above, below = image[:, horizon - 14, 3], image[:, horizon + 3, 3]
        assert np.abs(above - below).max() > 0.1
    with pytest.raises(ValueError, match="horizon 29 must be one of 26, 30, 34"):
        background(ground, sky, 29)


def test_backgrounds_are_far_apart() -> None:
    images = [background(g, s, 30) for g in GROUNDS for s in SKIES]
    for i, first in enumerate(images):
        for second in images[:i]:
            assert np.square(first - second).sum(0).mean() > 0.1


def test_render_draws_later_things_over_earlier_ones() -> None:
    ball, bear = Item("ball", "red", 24, 22, 30), Item("bear", NATURAL, 36, 13, 20)
    over = render(Scene("snow", "day", 30, (bear, ball)))
    under = render(Scene("snow", "day", 30, (ball, bear)))
    art = sprite("ball", "red", 24)
    solid = art.alpha == 1
    shown = over[:, 30 : 30 + art.height, 22 : 22 + art.width]
    np.testing.assert_allclose(shown[:, solid], art.premultiplied[:, solid], atol=1e-6)
    assert np.abs(over - under).max() > 0.5
    np.testing.assert_array_equal(render_batch([Scene("snow", "day", 30, (bear, ball))])[0], over)


def test_scenes_are_seeded_and_inside_the_picture() -> None:
    drawn = scenes(600, seed=1)
    assert drawn == scenes(600, seed=1)
    assert drawn != scenes(600, seed=2)
    for scene in drawn:
        for item in scene.items:
            assert min(item.left, item.top) >= 0
            assert max(item.right, item.foot) <= SIZE
            assert item.left % GRID == item.top % GRID == 0
            assert item.colour in THINGS[item.thing].colours


def test_the_first_thing_is_the_main_one() -> None:
    for scene in scenes(600, seed=3):
        assert all(
            scene.items[0].extent >= other.extent or scene.items[0].size == other.size
            for other in scene.items
        )


def test_counts_grounds_and_kinds_are_all_seen() -> None:
    drawn = scenes(3000, seed=4)
    counts = Counter(len(scene.items) for scene in drawn)
    for count, share in ((1, 0.5), (2, 0.38), (3, 0.12)):
        assert abs(counts[count] / 3000 - share) < 0.03
    assert {scene.ground for scene in drawn} == set(GROUNDS)
    assert {scene.sky for scene in drawn} == set(SKIES)
    seen = {(item.thing, item.colour) for scene in drawn for item in scene.items}
    assert seen == {(name, colour) for name, thing in THINGS.items() for colour in thing.colours}
    own = Counter(scene.ground for scene in drawn if scene.items[0].thing == "camel")
    assert own["desert"] > 0.45 * sum(own.values())


def test_things_keep_clear_unless_their_arrangement_overlaps() -> None:
    rng = random.Random(5)
    kinds = [("car", "red", "large"), ("dog", NATURAL, "small")]
    for arrangement in ARRANGEMENTS:
        placed = [p for _ in range(60) if (p := place(rng, kinds, 26, arrangement)) is not None]
        assert placed, arrangement
        for car, dog in placed:
            small = dog.width * dog.height
            share = overlap(car, dog) / small
            if arrangement == "in front":
                assert share >= 0.25
                assert dog.foot > car.foot
            elif arrangement == "on":
                assert 0 < share < 0.3
                assert dog.y < car.y
            else:
                assert share <= MAX_OVERLAP


def test_place_says_where_there_is_no_room() -> None:
    assert place(random.Random(0), [("bear", NATURAL, "large")] * 3, 34, tries=20) is None
