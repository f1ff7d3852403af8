"""The parser of the things world, against the renderer, and against pictures that are nobody's rendering."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from guidelens_worlds.things.grounds import background
from guidelens_worlds.things.parse import CONTRAST, ParsedScene, covered, parse
from guidelens_worlds.things.vocabulary import NATURAL
from guidelens_worlds.things.world import Item, Scene, random_scene, render
from scipy import ndimage


def same(reading: ParsedScene, scene: Scene) -> bool:
    """Whether a reading is the scene, apart from the order of things."""
    mine, other = (replace(s, items=tuple(sorted(s.items, key=repr))) for s in (reading.scene, scene))
    return mine == other


def errors_of(count: int, seed: int) -> list[Scene]:
    rng = random.Random(seed)
    return [scene for _ in range(count) if not same(parse(render(scene := random_scene(rng))), scene)]


def test_rendered_scenes_are_read_perfectly() -> None:
    assert len(errors_of(150, seed=0)) <= 2


@pytest.mark.slow
def test_at_least_99_percent_of_rendered_scenes_are_read_perfectly() -> None:
    assert len(errors_of(1000, seed=7)) <= 10


def test_a_read_scene_explains_its_picture() -> None:
    scene = Scene("desert", "day", 30, (Item("camel", NATURAL, 36, 12, 24),))
    reading = parse(render(scene))
    assert same(reading, scene)
    assert reading.ground == "desert"
    assert reading.ground_error < 1e-3
    assert reading.realism > 0.999


def test_occluded_things_are_read_and_their_order_found() -> None:
    bear, ball = Item("bear", NATURAL, 36, 13, 24), Item("ball", "blue", 24, 24, 40)
    for items in ((bear, ball), (ball, bear)):
        scene = Scene("snow", "night", 26, items)
        hidden = covered(items[1:])[ball.top : ball.foot, ball.left : ball.right].mean()
        reading = parse(render(scene))
        if items[1] is ball:
            assert same(reading, scene)
        elif hidden > 0.65:  # hardly anything of the ball can be seen
            assert bear in reading.scene.items


def test_an_empty_ground_has_no_things() -> None:
    for ground in ("sea", "street"):
        reading = parse(background(ground, "night", 34).copy())
        assert reading.scene == Scene(ground, "night", 34, ())
        assert reading.realism == 0


def test_noise_and_blur_cost_realism_before_they_cost_the_reading() -> None:
    scene = Scene("meadow", "day", 30, (Item("house", "blue", 36, 14, 22),))
    picture = render(scene)
    noise = np.random.default_rng(0).normal(size=picture.shape).astype(np.float32)
    realism = [1.0]
    for strength in (0.05, 0.1, 0.15):
        reading = parse(picture + strength * noise)
        assert [(o.thing, o.colour) for o in reading.scene.items] == [("house", "blue")]
        realism.append(reading.realism)
    assert realism == sorted(realism, reverse=True)
    assert realism[1] > 0.9


def test_softened_and_faded_scenes_are_still_read() -> None:
    rng = random.Random(11)
    for _ in range(12):
        scene = random_scene(rng)
        picture = render(scene)
        for changed in (ndimage.gaussian_filter(picture, (0, 1.0, 1.0), mode="nearest"), 0.8 * picture):
            read = parse(changed).scene
            assert read.ground == scene.ground
            kinds = [Counter((o.thing, o.colour, o.size) for o in s.items) for s in (read, scene)]
            assert kinds[0] == kinds[1]


def test_a_picture_of_nothing_is_not_read_as_things() -> None:
    rng = np.random.default_rng(1)
    for picture in (rng.uniform(-1, 1, (3, 64, 64)), np.zeros((3, 64, 64)), np.full((3, 64, 64), np.nan)):
        reading = parse(picture.astype(np.float32))
        assert reading.scene.items == ()
        assert reading.ground is None
        assert reading.realism == 0


def test_a_thing_of_the_wrong_shape_is_not_read() -> None:
    picture = background("snow", "day", 30).copy()
    picture[:, 20:50, 20:44] = np.array([0.9, -0.5, -0.7], dtype=np.float32)[:, None, None]
    reading = parse(picture)
    assert reading.realism < 0.9


def test_the_contrast_is_that_of_random_scenes() -> None:
    rng = random.Random(2)
    measured = []
    for _ in range(300):
        scene = random_scene(rng)
        share = covered(scene.items)
        behind = background(scene.ground, scene.sky, scene.horizon)
        measured.append((share * np.square(render(scene) - behind).sum(0)).sum() / share.sum())
    assert np.mean(measured) == pytest.approx(CONTRAST, rel=0.05)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 64, 64\), not \(3, 32, 32\)"):
        parse(np.zeros((3, 32, 32), dtype=np.float32))
