"""The shapes world: palette, anti-aliasing, placement, and the distribution of random scenes."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from guidelens_worlds.shapes.world import (
    BACKGROUNDS,
    COLOURS,
    GAP,
    SHAPES,
    SIZES,
    Item,
    Scene,
    coverage,
    place,
    random_scene,
    render,
    render_batch,
)
from pictures import area_share, one, rgb, scenes


def test_the_vocabulary_is_the_documented_one() -> None:
    assert COLOURS == {
        "red": (214, 40, 40),
        "green": (46, 160, 67),
        "blue": (38, 84, 214),
        "yellow": (245, 205, 40),
        "purple": (140, 60, 190),
        "orange": (245, 130, 30),
        "white": (245, 245, 245),
        "black": (25, 25, 25),
    }
    assert BACKGROUNDS == {"gray": (150, 150, 150), "pink": (250, 190, 205), "cyan": (170, 225, 235)}
    assert set(SHAPES) == {"circle", "square", "triangle", "cross"}
    assert SIZES == {"small": (4.0, 5.2), "large": (7.0, 8.5)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [4.0, 8.5])
def test_inside_is_the_palette_colour_and_outside_the_background(shape: str, radius: float) -> None:
    for colour, background in itertools.product(COLOURS, BACKGROUNDS):
        image = render(one(colour, shape, radius, 15.3, 16.4, background))
        np.testing.assert_allclose(image[:, 16, 15], rgb(COLOURS[colour])[:, 0, 0], atol=1e-6)
        np.testing.assert_allclose(image[:, 0, 0], rgb(BACKGROUNDS[background])[:, 0, 0], atol=1e-6)
        assert image.dtype == np.float32
        assert image.shape == (3, 32, 32)
        assert np.abs(image).max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_the_area_of_the_shape(shape: str) -> None:
    """Against counting points in the shape; the distance that stands in for the area is worst at corners."""
    rng = random.Random(3)
    for _ in range(20):
        x, y, radius = rng.uniform(12, 19), rng.uniform(12, 19), rng.uniform(4, 8.5)
        drawn, counted = coverage(shape, x, y, radius), area_share(shape, x, y, radius)
        assert np.abs(drawn - counted).max() < 0.42
        assert np.abs(drawn - counted).mean() < 0.006
        assert drawn.sum() == pytest.approx(counted.sum(), rel=0.035)


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_fall_off_monotonically(shape: str) -> None:
    """From the centre outwards along rows and columns, and never back; with some partly covered pixels."""
    for radius in (4.0, 4.7, 7.0, 8.5):
        alpha = coverage(shape, 16, 16, radius)
        assert alpha.min() == 0
        assert alpha.max() == 1
        for ray in (alpha[16, 16:], alpha[16, 16::-1], alpha[16:, 16], alpha[16::-1, 16]):
            assert (np.diff(ray) <= 1e-6).all()
        assert ((alpha > 0.01) & (alpha < 0.99)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_grows_with_the_radius_and_moves_with_the_centre(shape: str) -> None:
    small, large = coverage(shape, 16, 16, 5.0), coverage(shape, 16, 16, 5.5)
    assert (large >= small - 1e-6).all()
    np.testing.assert_array_equal(np.roll(small, 3, axis=1), coverage(shape, 19, 16, 5.0))
    np.testing.assert_array_equal(np.roll(small, -2, axis=0), coverage(shape, 16, 14, 5.0))


def test_unknown_shape() -> None:
    with pytest.raises(ValueError, match=r"unknown shape 'star'.*circle, square"):
        coverage("star", 16, 16, 5)


def test_objects_do_not_overlap_and_lie_inside() -> None:
    """The tips of two corners may share part of a pixel; no pixel is half covered by each of two objects."""
    touching = 0
    for scene in scenes(2000, seed=1):
        masks = [coverage(o.shape, o.x, o.y, o.radius) for o in scene.items]
        for a, b in itertools.combinations(masks, 2):
            assert not ((a > 0.5) & (b > 0.5)).any()
            shared = np.minimum(a, b).sum()
            assert shared < 1
            touching += shared > 0
        for mask in masks:
            assert mask[[0, -1]].max() < 0.25  # no more than a corner's tip
            assert mask[:, [0, -1]].max() < 0.25
    assert touching <= 8


def test_sizes_and_gaps() -> None:
    for scene in scenes(500, seed=2):
        for item in scene.items:
            low, high = SIZES[item.size]
            assert low <= item.radius <= high
        for a, b in itertools.combinations(scene.items, 2):
            assert math.hypot(a.x - b.x, a.y - b.y) >= a.radius + b.radius + GAP


def test_size_is_told_by_the_radius() -> None:
    assert [Item("red", "circle", r, 9, 9).size for r in (4.0, 5.2, 7.0, 8.5)] == ["small"] * 2 + [
        "large"
    ] * 2


def test_a_seed_determines_the_scene() -> None:
    assert scenes(50, seed=3) == scenes(50, seed=3)
    assert scenes(50, seed=3) != scenes(50, seed=4)
    assert len(set(scenes(300, seed=3))) == 300


def test_distribution() -> None:
    drawn = scenes(2000, seed=5)
    counts = Counter(len(scene.items) for scene in drawn)
    for count, share in ((1, 0.4), (2, 0.4), (3, 0.2)):
        assert counts[count] / 2000 == pytest.approx(share, abs=0.04)
    backgrounds = Counter(scene.ground for scene in drawn)
    assert all(n / 2000 == pytest.approx(1 / 3, abs=0.04) for n in backgrounds.values())
    singles = [scene.items[0] for scene in drawn if len(scene.items) == 1]
    for attribute, kinds in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES)):
        seen = Counter(getattr(item, attribute) for item in singles)
        assert set(seen) == set(kinds)
        assert all(n / len(singles) == pytest.approx(1 / len(kinds), abs=0.05) for n in seen.values())
    pairs = [scene for scene in drawn if len(scene.items) == 2]
    same = sum(len({(o.colour, o.shape, o.size) for o in scene.items}) == 1 for scene in pairs)
    assert same / len(pairs) == pytest.approx(0.25 + 0.75 / 64, abs=0.05)


def test_number_of_objects_on_request() -> None:
    assert all(len(scene.items) == n for n in (1, 2, 3) for scene in scenes(20, seed=6, num_items=n))


def test_no_room() -> None:
    crowded = [("red", "square", "large")] * 6
    assert place(random.Random(0), crowded) is None


def test_render_batch_stacks() -> None:
    drawn = scenes(3, seed=7)
    batch = render_batch(drawn)
    assert batch.shape == (3, 3, 32, 32)
    np.testing.assert_array_equal(batch[1], render(drawn[1]))


def test_background_alone() -> None:
    np.testing.assert_allclose(
        render(Scene("cyan", ())), np.broadcast_to(rgb(BACKGROUNDS["cyan"]), (3, 32, 32))
    )


def test_random_scene_uses_only_its_generator() -> None:
    random.seed(0)
    before = random.getstate()
    random_scene(random.Random(1))
    assert random.getstate() == before
