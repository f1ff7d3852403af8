"""The shapes world: its vocabulary, random scenes, and the anti-aliased renderer.

A scene has one to three coloured shapes, without overlap, on a plain background, at 32x32 pixels. The vocabulary is
fixed to keep results comparable over time. To extend it, make a second world.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 32
"""Height and width of a picture, in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (245, 205, 40),
    "purple": (140, 60, 190),
    "orange": (245, 130, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "gray": (150, 150, 150),
    "pink": (250, 190, 205),
    "cyan": (170, 225, 235),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES: dict[str, tuple[float, float]] = {"small": (4.0, 5.2), "large": (7.0, 8.5)}
"""Radius ranges in pixels."""
SIZE_BOUNDARY = 6.1
"""A smaller radius is ``small``. The value is halfway between the two ranges."""
GAP = 1.5
"""Smallest distance in pixels between two objects, measured between circles of radius x reach.

Corners extend a little beyond these circles. In one of 400 scenes with several objects, two corners overlap by less
than one pixel.
"""
_REACH = {"circle": 1.0, "square": 1.18, "triangle": 1.0, "cross": 1.0}  # a square's corners extend farther
MAX_OBJECTS = 3


@dataclass(frozen=True)
class Item:
    """One object. ``x`` and ``y`` are the centre in pixels (y grows downwards), ``radius`` its extent."""

    colour: str
    shape: str
    radius: float
    x: float
    y: float

    @property
    def noun(self) -> str:
        """The noun that captions use for it."""
        return self.shape

    @property
    def looks(self) -> str:
        """Its colour."""
        return self.colour

    @property
    def size(self) -> str:
        """``small`` or ``large``."""
        return "small" if self.radius < SIZE_BOUNDARY else "large"


@dataclass(frozen=True)
class Scene:
    """A background, which captions call the ground, and the objects on it."""

    ground: str
    items: tuple[Item, ...]

    @property
    def sky(self) -> str:
        """There is none."""
        return ""


def random_scene(rng: random.Random, num_items: int | None = None) -> Scene:
    """Draw a scene.

    :param rng: the only source of randomness.
    :param num_items: 1 to 3. None draws it with probabilities 0.4, 0.4, 0.2. A quarter of the scenes with several
        objects repeat one kind (colour, shape, size), so that counts above one are frequent enough.
    """
    count = num_items or rng.choices((1, 2, 3), (0.4, 0.4, 0.2))[0]
    same_kind = count > 1 and rng.random() < 0.25
    while True:
        kinds = [_random_kind(rng) for _ in range(1 if same_kind else count)]
        kinds = kinds * count if same_kind else kinds
        items = place(rng, kinds)
        if items is not None:
            return Scene(rng.choice(tuple(BACKGROUNDS)), items)


def _random_kind(rng: random.Random) -> tuple[str, str, str]:
    return rng.choice(tuple(COLOURS)), rng.choice(SHAPES), rng.choice(tuple(SIZES))


def place(
    rng: random.Random, kinds: Sequence[tuple[str, str, str]], tries: int = 30
) -> tuple[Item, ...] | None:
    """Place kinds (colour, shape, size) without overlap, or return None if a few tries find no room."""
    for _ in range(tries):
        items: list[Item] = []
        for colour, shape, size in kinds:
            radius = rng.uniform(*SIZES[size])
            low, high = radius + 0.5, SIZE - 1 - radius - 0.5
            x, y = rng.uniform(low, high), rng.uniform(low, high)
            item = Item(colour, shape, radius, x, y)
            if any(math.hypot(x - o.x, y - o.y) < _reach(item) + _reach(o) + GAP for o in items):
                break
            items.append(item)
        else:
            return tuple(items)
    return None


def _reach(item: Item) -> float:
    return item.radius * _REACH[item.shape]


_AXIS = np.arange(SIZE, dtype=np.float32)
# Half widths relative to the radius. With these, all four shapes look equally large.
_SQUARE, _CROSS_LENGTH, _CROSS_WIDTH, _TRIANGLE = 0.88, 1.0, 0.36, 1.12


def coverage(shape: str, x: float, y: float, radius: float) -> NDArray[np.float32]:
    """Return how much of each pixel (SIZE, SIZE) the shape covers, in [0, 1].

    The signed distance to the outline, clipped to one pixel, approximates the exact area. So edges are anti-aliased
    and vary smoothly with position and radius.
    """
    dx, dy = _AXIS[None, :] - np.float32(x), _AXIS[:, None] - np.float32(y)
    if shape == "circle":
        distance = np.sqrt(dx * dx + dy * dy) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(dx), np.abs(dy)) - _SQUARE * radius
    elif shape == "cross":
        ax, ay = np.abs(dx), np.abs(dy)
        length, width = _CROSS_LENGTH * radius, _CROSS_WIDTH * radius
        horizontal = np.maximum(ax - length, ay - width)
        distance = np.minimum(horizontal, np.maximum(ay - length, ax - width))
    elif shape == "triangle":
        # Equilateral, pointing up; the inscribed circle has half the radius of the circumscribed one. Moved down
        # by a quarter of the radius, so that the bounding box is centred on (x, y).
        side, dy = _TRIANGLE * radius, dy - np.float32(0.25 * _TRIANGLE * radius)
        slanted = np.abs(dx) * np.float32(math.sqrt(3) / 2) - dy * np.float32(0.5)
        distance = np.maximum(slanted, dy) - side / 2
    else:
        raise ValueError(f"unknown shape {shape!r}; choose {', '.join(SHAPES)}")
    return np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)


def render(scene: Scene) -> NDArray[np.float32]:
    """Draw a scene as (3, SIZE, SIZE) float32 in [-1, 1]."""
    image = np.empty((3, SIZE, SIZE), dtype=np.float32)
    image[:] = _rgb(BACKGROUNDS[scene.ground])
    for item in scene.items:
        alpha = coverage(item.shape, item.x, item.y, item.radius)
        image += alpha * (_rgb(COLOURS[item.colour]) - image)
    return image


def render_batch(scenes: Sequence[Scene]) -> NDArray[np.float32]:
    """Draw scenes as (B, 3, SIZE, SIZE) float32 in [-1, 1]."""
    return np.stack([render(scene) for scene in scenes])


def _rgb(colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a colour as (3, 1, 1) in [-1, 1]."""
    return np.asarray(colour, dtype=np.float32).reshape(3, 1, 1) / 127.5 - 1.0
