"""Helpers of the shapes tests: scene keys, degraded pictures, and a second reader that shares nothing with
parse.

The second reader knows the world only from its description (palette, proportions of the shapes) and works by
synthesis: it tries every colour, shape, radius and place of a grid and keeps what lowers the squared error
most.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
from guidelens_worlds.shapes.world import BACKGROUNDS, COLOURS, SHAPES, Item, Scene, random_scene, render
from numpy.typing import NDArray
from scipy import fft, ndimage

Array = NDArray[np.float32]
Key = tuple[str, list[tuple[str, str, str]]]


def key(scene: Scene) -> Key:
    """What a perfect reading agrees on: the background, and the kinds of the objects."""
    return scene.ground, sorted((o.colour, o.shape, o.size) for o in scene.items)


def scenes(count: int, seed: int, num_items: int | None = None) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(rng, num_items) for _ in range(count)]


def one(
    colour: str, shape: str, radius: float, x: float = 16, y: float = 16, background: str = "gray"
) -> Scene:
    """A scene of one object."""
    return Scene(background, (Item(colour, shape, radius, x, y),))


def rgb(colour: tuple[int, int, int]) -> Array:
    """A colour of 0..255 as (3, 1, 1) in [-1, 1]."""
    return (np.array(colour, dtype=np.float32) / 127.5 - 1)[:, None, None]


def quantised(image: Array) -> Array:
    """As a PNG stores it."""
    return (np.round((np.clip(image, -1, 1) + 1) * 127.5) / 127.5 - 1).astype(np.float32)


def worn(image: Array, noise_rng: np.random.Generator, sigma: float, blur: float = 0.0) -> Array:
    """Blurred (pixels), noised (sigma in 0..255) and quantised."""
    if blur:
        image = ndimage.gaussian_filter(image, (0, blur, blur), mode="nearest")
    return quantised(image + noise_rng.normal(0, sigma / 127.5, image.shape))


# --- geometry, written from the world's description ---------------------------------------------------------


def _in_circle(x: Array, y: Array) -> NDArray[np.bool_]:
    return x**2 + y**2 < 1


def _in_square(x: Array, y: Array) -> NDArray[np.bool_]:
    return (abs(x) < 0.88) & (abs(y) < 0.88)


def _in_cross(x: Array, y: Array) -> NDArray[np.bool_]:
    return ((abs(x) < 1) & (abs(y) < 0.36)) | ((abs(y) < 1) & (abs(x) < 0.36))


def _in_triangle(x: Array, y: Array) -> NDArray[np.bool_]:
    """Equilateral, pointing up, circumscribed radius 1.12, its bounding box centred."""
    corners = [1.12 * np.array([np.sin(a), -np.cos(a)]) for a in np.deg2rad([0, 120, 240])]
    top, bottom = corners[0][1], corners[1][1]
    y = y + (top + bottom) / 2
    inside = np.ones(np.broadcast(x, y).shape, dtype=bool)
    for (ax, ay), (bx, by) in itertools.pairwise([*corners, corners[0]]):
        inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0
    return inside


INSIDE: dict[str, Callable[[Array, Array], NDArray[np.bool_]]] = {
    "circle": _in_circle,
    "square": _in_square,
    "cross": _in_cross,
    "triangle": _in_triangle,
}


def area_share(shape: str, x: float, y: float, radius: float, side: int = 32, fine: int = 6) -> Array:
    """How much of each pixel (side, side) the shape covers, by counting fine*fine points in it."""
    at = (np.arange(side * fine) + 0.5) / fine - 0.5
    inside = INSIDE[shape]((at[None, :] - x) / radius, (at[:, None] - y) / radius)
    return inside.reshape(side, fine, side, fine).mean((1, 3), dtype=np.float32)


# --- the second reader --------------------------------------------------------------------------------------

_PAD = 64
_RADII = (4.3, 4.9, 7.3, 8.1)
_TEMPLATES = [
    (shape, radius, dx, dy, area_share(shape, 15 + dx, 15 + dy, radius))
    for shape in SHAPES
    for radius in _RADII
    for dx in (0.0, 0.5)
    for dy in (0.0, 0.5)
]
_TEMPLATE_FFT = fft.rfft2(np.stack([t[4] for t in _TEMPLATES]), (_PAD, _PAD)).conj()
_TEMPLATE_ENERGY = np.array([(t[4] ** 2).sum() for t in _TEMPLATES])


def second_reading(image: Array) -> Key:
    """Read a picture (3, 32, 32) by exhaustive search."""
    palette = {**BACKGROUNDS, **COLOURS}
    distance = [((image - rgb(c)) ** 2).sum(0) for c in palette.values()]
    votes = np.bincount(np.argmin(distance, axis=0).ravel(), minlength=len(palette))
    background = tuple(BACKGROUNDS)[int(votes[: len(BACKGROUNDS)].argmax())]
    canvas = np.broadcast_to(rgb(BACKGROUNDS[background]), image.shape).copy()
    found = []
    for _ in range(4):
        share, colour, which, x, y = _best(image - canvas, background)
        if share < 0.4:
            break
        shape, radius, dx, dy, _ = _TEMPLATES[which]
        alpha = area_share(shape, x + dx, y + dy, radius)
        canvas += alpha * (rgb(COLOURS[colour]) - canvas)
        found.append((colour, shape, "small" if radius < 6.1 else "large"))
    return background, sorted(found)


def _best(residual: Array, background: str) -> tuple[float, str, int, int, int]:
    """The colour, template and place that lower the squared error most, and by which share of the template's
    own."""
    top = (-np.inf, 0.0, "", 0, 0, 0)
    for name, value in COLOURS.items():
        change = rgb(value) - rgb(BACKGROUNDS[background])
        strength = float((change**2).sum())
        match = fft.irfft2(fft.rfft2((residual * change).sum(0), (_PAD, _PAD)) * _TEMPLATE_FFT, (_PAD, _PAD))
        gain = 2 * match - strength * _TEMPLATE_ENERGY[:, None, None]
        which, row, column = np.unravel_index(int(gain.argmax()), gain.shape)
        value_here = float(gain[which, row, column])
        if value_here > top[0]:
            y, x = ((int(i) + 32) % _PAD - 32 + 15 for i in (row, column))
            top = (value_here, value_here / (strength * _TEMPLATE_ENERGY[which]), name, int(which), x, y)
    return top[1:]


def pictures(of: list[Scene]) -> list[Array]:
    return [render(scene) for scene in of]
