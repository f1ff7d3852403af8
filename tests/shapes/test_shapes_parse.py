"""The parser: reads clean and worn pictures, refuses what is no scene, and agrees with a second reader."""

from __future__ import annotations

import random

import numpy as np
import pytest
from guidelens_worlds.shapes.parse import ParsedScene, parse, realism_of
from guidelens_worlds.shapes.world import BACKGROUNDS, COLOURS, SHAPES, Item, Scene, coverage, render
from pictures import Array, key, one, quantised, rgb, scenes, second_reading, worn


def read_all(shown: list[Scene], images: list[Array]) -> tuple[float, np.ndarray]:
    """Share read perfectly, and the fidelities."""
    readings = [parse(image) for image in images]
    perfect = [key(r.scene) == key(s) and r.ground == s.ground for r, s in zip(readings, shown, strict=True)]
    return float(np.mean(perfect)), np.array([r.realism for r in readings])


def test_clean_pictures_are_read_perfectly() -> None:
    shown = scenes(400, seed=0)
    images = [quantised(render(s)) if i % 2 else render(s) for i, s in enumerate(shown)]
    perfect, realism = read_all(shown, images)
    assert perfect >= 0.99
    assert realism.min() > 0.97


def test_places_and_radii_are_read_to_a_fraction_of_a_pixel() -> None:
    for scene in scenes(30, seed=1):
        found = parse(quantised(render(scene))).scene.items
        for item in scene.items:
            nearest = min(found, key=lambda o: (o.x - item.x) ** 2 + (o.y - item.y) ** 2)
            assert abs(nearest.x - item.x) < 0.3
            assert abs(nearest.y - item.y) < 0.3
            assert abs(nearest.radius - item.radius) < 0.3


def test_noisy_and_blurred_pictures_are_read() -> None:
    shown = scenes(100, seed=2)
    noise = np.random.default_rng(2)
    perfect, realism = read_all(shown, [worn(render(s), noise, sigma=5, blur=0.6) for s in shown])
    assert perfect >= 0.95
    assert 0.9 < realism.mean() < 0.995


def test_a_second_reader_agrees() -> None:
    """On noisy pictures, read by exhaustive search over templates that were drawn by other code."""
    shown = scenes(24, seed=3)
    noise = np.random.default_rng(3)
    images = [worn(render(s), noise, sigma=8, blur=0.4) for s in shown]
    second = [second_reading(image) for image in images]
    first = [key(parse(image).scene) for image in images]
    agree = np.mean([a == b for a, b in zip(first, second, strict=True)])
    assert agree >= 0.95
    assert np.mean([b == key(s) for b, s in zip(second, shown, strict=True)]) >= 0.95


# --- what is no scene ---------------------------------------------------------------------------------------


def nothing(image: Array) -> ParsedScene:
    reading = parse(np.asarray(image, dtype=np.float32))
    assert reading.scene.items == ()
    assert reading.realism == 0
    return reading


@pytest.mark.parametrize("name", [*COLOURS, *BACKGROUNDS])
def test_one_colour(name: str) -> None:
    value = {**COLOURS, **BACKGROUNDS}[name]
    reading = nothing(np.broadcast_to(rgb(value), (3, 32, 32)))
    assert reading.ground == (name if name in BACKGROUNDS else None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 7.0])
def test_constant_values_and_nan(value: float) -> None:
    nothing(np.full((3, 32, 32), value))


@pytest.mark.parametrize("seed", range(10))
def test_pure_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nothing(rng.uniform(-1, 1, (3, 32, 32)))
    nothing(rng.normal(0, 0.4, (3, 32, 32)))
    nothing(rng.choice([-1.0, 1.0], (3, 32, 32)))


def test_some_nan_pixels_do_not_hide_the_rest() -> None:
    image = render(one("red", "circle", 8)).copy()
    image[:, :2, :2] = np.nan
    assert [o.colour for o in parse(image).scene.items] == ["red"]


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 64), (32, 32, 3), (3, 32), (1, 3, 32, 32)])
def test_another_size_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 32, 32\), not"):
        parse(np.zeros(shape, dtype=np.float32))


def repainted(scene: Scene, paint: Array) -> Array:
    """The scene with the pixels of its objects replaced by those of ``paint`` (3, 32, 32)."""
    inside = sum(coverage(o.shape, o.x, o.y, o.radius) for o in scene.items) > 0.5
    return np.where(inside, paint, render(scene)).astype(np.float32)


def checkerboard(first: tuple[int, int, int], second: tuple[int, int, int]) -> Array:
    odd = np.indices((32, 32)).sum(0) % 2 == 1
    return np.where(odd, rgb(first), rgb(second))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_half_tones_are_no_objects(colour: str, shape: str) -> None:
    """A dither of the colour with the background, or with its negative: right on average, wrong
    everywhere."""
    scene = one(colour, shape, 8)
    nothing(repainted(scene, checkerboard(COLOURS[colour], BACKGROUNDS["gray"])))
    r, g, b = COLOURS[colour]
    nothing(repainted(scene, checkerboard((255 - r, 255 - g, 255 - b), COLOURS[colour])))


def test_a_textured_object_is_no_object() -> None:
    """A third of the pixels astray leaves the median as it was, but not the object."""
    noise = np.random.default_rng(0)
    for shape in SHAPES:
        scene = one("blue", shape, 8)
        paint = np.broadcast_to(rgb(COLOURS["blue"]), (3, 32, 32)).copy()
        astray = noise.random((32, 32)) < 0.4
        paint[:, astray] = noise.uniform(-1, 1, (3, astray.sum()))
        nothing(repainted(scene, paint))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("red", "blue"),
        ("red", "green"),
        ("green", "blue"),
        ("yellow", "blue"),
        ("white", "black"),
        ("purple", "green"),
    ],
)
def test_blended_colours_are_no_objects(a: str, b: str) -> None:
    middle = (rgb(COLOURS[a]) + rgb(COLOURS[b])) / 2
    for shape in SHAPES:
        nothing(repainted(one(a, shape, 8, background="pink"), np.broadcast_to(middle, (3, 32, 32))))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_faded_objects_are_no_objects(colour: str, background: str) -> None:
    scene = one(colour, "circle", 8, background=background)
    ground = rgb(BACKGROUNDS[background])
    assert len(parse(ground + 0.9 * (render(scene) - ground)).scene.items) == 1
    nothing(ground + 0.5 * (render(scene) - ground))


@pytest.mark.parametrize("shape", ["circle", "square", "cross"])
@pytest.mark.parametrize("radius", [4.6, 8.0])
def test_half_an_object_is_no_object(shape: str, radius: float) -> None:
    for axis in (1, 2):
        for half in (slice(0, 16), slice(16, 32)):
            image = render(one("red", shape, radius, 15.5, 15.5)).copy()
            image[(slice(None),) * axis + (half,)] = rgb(BACKGROUNDS["gray"])
            nothing(image)


@pytest.mark.parametrize("radius", [1.5, 2.2, 12.0, 15.0])
def test_specks_and_giants_are_no_objects(radius: float) -> None:
    nothing(render(one("red", "circle", radius)))


def test_a_background_of_no_palette_colour_is_named_none() -> None:
    for value in ((60, 90, 60), (200, 150, 60)):
        image = repainted(one("red", "circle", 8), render(one("red", "circle", 8)))
        outside = coverage("circle", 16, 16, 8) == 0
        image[:, outside] = rgb(value)[:, :, 0]
        assert parse(image).ground is None


def test_a_background_slightly_off_is_still_named() -> None:
    image = render(one("red", "circle", 8, background="pink")) + 8 / 127.5
    assert parse(image).ground == "pink"


# --- several objects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [("red", "blue"), ("yellow", "green"), ("black", "orange")])
def test_touching_objects_of_two_colours_are_two(a: str, b: str) -> None:
    for left, right in (("square", "square"), ("circle", "square"), ("cross", "circle")):
        scene = Scene("gray", (Item(a, left, 7.5, 8.5, 16), Item(b, right, 7.5, 22.6, 16)))
        assert key(parse(quantised(render(scene))).scene) == key(scene)


def test_touching_objects_of_one_colour_are_two() -> None:
    for a, b in (("circle", "circle"), ("circle", "triangle")):
        scene = Scene("gray", (Item("red", a, 7.0, 8.5, 16), Item("red", b, 7.0, 22.2, 16)))
        assert key(parse(quantised(render(scene))).scene) == key(scene)


def test_more_objects_than_the_world_has_are_all_read() -> None:
    scene = Scene("cyan", tuple(Item("red", "circle", 4.5, x, y) for x in (8, 24) for y in (8, 24)))
    assert key(parse(render(scene)).scene) == key(scene)


# --- realism ------------------------------------------------------------------------------------------------


def test_realism_falls_with_what_is_unexplained() -> None:
    scene = one("blue", "square", 8, 12, 12)
    clean = render(scene)
    noise = np.random.default_rng(1)
    values = [parse(worn(clean, noise, sigma=s)).realism for s in (0, 5, 10, 20)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.99
    image = clean.copy()
    image[:, 25:30, 25:30] = rgb((10, 255, 10))
    assert parse(image).realism < 0.9


def test_realism_is_the_documented_formula() -> None:
    scene = one("red", "square", 8)
    pixels = np.array((render(scene).transpose(1, 2, 0) + 1) * 127.5)
    contrast = np.mean(
        [(np.subtract(c, b) ** 2).mean() for c in COLOURS.values() for b in BACKGROUNDS.values()]
    )
    area = coverage("square", 16, 16, 8).sum()
    pixels[:2, :10] += 40
    expected = 1 - 20 * 3 * 40**2 / (3 * area * contrast)
    assert realism_of(pixels.astype(np.float32), scene) == pytest.approx(expected, abs=1e-4)
    assert realism_of(np.full((32, 32, 3), 255, dtype=np.float32), scene) == 0
    assert realism_of(pixels.astype(np.float32), Scene("gray", ())) == 0


def test_reading_does_not_change_the_picture_and_is_deterministic() -> None:
    image = worn(render(scenes(1, seed=5)[0]), np.random.default_rng(0), sigma=10)
    before = image.copy()
    assert parse(image) == parse(image)
    np.testing.assert_array_equal(image, before)


def test_shuffled_pixels_hold_nothing() -> None:
    """The colours of a scene without its shapes."""
    rng = random.Random(0)
    for scene in scenes(10, seed=6):
        order = list(range(1024))
        rng.shuffle(order)
        nothing(render(scene).reshape(3, -1)[:, order].reshape(3, 32, 32))
