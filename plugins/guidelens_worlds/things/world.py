"""Scenes of the things world and their renderer.

A scene is a ground under a sky with one to three things. The first thing is the main one: it is at least as large as
the others. Things have two sizes, and their corners are on a grid of :data:`GRID` pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grounds import background
from .sprites import sprite
from .vocabulary import GRID, GROUNDS, HORIZONS, NATURAL, SIZE, SIZES, SKIES, THINGS

Array = NDArray[np.float32]

MAX_ITEMS = 3
SIZE_BOUNDARY = 28
"""A thing is small if its longer side is below this."""
MAX_OVERLAP = 0.06
"""Largest share of a thing's box that another thing may cover, unless that thing is in front of it or on it."""
_HEADROOM = 4
"""Smallest distance in pixels from the horizon down to the foot of a thing on the ground."""
_NATURAL_GROUND, _IN_THE_SKY = 0.5, 0.6
"""Probabilities that the ground is one of the main thing's own, and that a flying thing is in the sky."""


@dataclass(frozen=True)
class Item:
    """One thing in a scene. ``left`` and ``top`` are its corner in pixels (y grows downwards)."""

    thing: str
    colour: str
    extent: int
    left: int
    top: int

    @property
    def noun(self) -> str:
        """The noun that captions use for it."""
        return self.thing

    @property
    def looks(self) -> str:
        """The visible colour. For example, a tree of natural colour is green."""
        return THINGS[self.thing].looks if self.colour == NATURAL else self.colour

    @property
    def size(self) -> str:
        """``small`` or ``large``."""
        return "small" if self.extent < SIZE_BOUNDARY else "large"

    @property
    def width(self) -> int:
        """In pixels."""
        return sprite(self.thing, self.colour, self.extent).width

    @property
    def height(self) -> int:
        """In pixels."""
        return sprite(self.thing, self.colour, self.extent).height

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.left + self.width

    @property
    def foot(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def x(self) -> float:
        """Centre."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """Centre."""
        return self.top + self.height / 2


@dataclass(frozen=True)
class Scene:
    """A background and the things on it, the main one first. Later things are drawn over earlier ones."""

    ground: str
    sky: str
    horizon: int
    items: tuple[Item, ...]


def render(scene: Scene) -> Array:
    """Draw a scene as (3, SIZE, SIZE) float32 in [-1, 1]."""
    image = background(scene.ground, scene.sky, scene.horizon).copy()
    for item in scene.items:
        paste(image, item)
    return image


def paste(image: Array, item: Item) -> None:
    """Draw one thing into an image (3, SIZE, SIZE), in place."""
    art = sprite(item.thing, item.colour, item.extent)
    window = image[:, item.top : item.top + art.height, item.left : item.left + art.width]
    window *= 1 - art.alpha
    window += art.premultiplied


def render_batch(scenes: Sequence[Scene]) -> Array:
    """Draw scenes as (B, 3, SIZE, SIZE) float32 in [-1, 1]."""
    return np.stack([render(scene) for scene in scenes])


# --- random scenes -------------------------------------------------------------------------------------------

Kind = tuple[str, str, str]
"""Thing, colour, size."""


def random_scene(rng: random.Random, num_items: int | None = None) -> Scene:
    """Draw a scene.

    :param rng: the only source of randomness.
    :param num_items: 1 to 3. None draws it with probabilities 0.5, 0.38, 0.12. A quarter of the scenes with several
        things repeat one kind (thing, colour, size), so that counts above one are frequent enough.
    """
    count = num_items or rng.choices((1, 2, 3), (0.5, 0.38, 0.12))[0]
    while True:
        kinds = random_kinds(rng, count)
        horizon = rng.choice(HORIZONS)
        arrangement = rng.choice(ARRANGEMENTS) if count == 2 and len(set(kinds)) == 2 else None
        items = place(rng, kinds, horizon, arrangement)
        if items is not None:
            return Scene(random_ground(rng, kinds[0][0]), rng.choice(SKIES), horizon, items)


def random_kinds(rng: random.Random, count: int) -> list[Kind]:
    """Draw the kinds of a scene: one kind for all things, or a main thing and small others."""
    if count > 1 and rng.random() < 0.25:
        return [random_kind(rng, "small" if count > 2 else None)] * count
    sizes = [rng.choices(("small", "large"), (0.3, 0.7))[0], *["small"] * (count - 1)]
    return [random_kind(rng, size) for size in sizes]


def random_kind(rng: random.Random, size: str | None = None) -> Kind:
    """Draw a thing and one of its colours. Natural colours are more frequent than odd ones."""
    thing = rng.choice(tuple(THINGS))
    colours = THINGS[thing].colours
    return thing, rng.choices(tuple(colours), tuple(colours.values()))[0], size or rng.choice(tuple(SIZES))


def random_ground(rng: random.Random, thing: str) -> str:
    """Draw a ground, half of the time one on which the thing often appears."""
    return rng.choice(THINGS[thing].grounds if rng.random() < _NATURAL_GROUND else GROUNDS)


ARRANGEMENTS = ("beside", "beside", "above", "below", "on", "in front")
"""Arrangements of the second of two things relative to the first."""


def place(
    rng: random.Random, kinds: Sequence[Kind], horizon: int, arrangement: str | None = None, tries: int = 40
) -> tuple[Item, ...] | None:
    """Place kinds, the first as the main one. Return None if a few tries find no room.

    :param arrangement: of the second relative to the first, one of :data:`ARRANGEMENTS`; None: wherever there is room.
    """
    for _ in range(tries):
        items: list[Item] = []
        for kind in kinds:
            against = items[0] if arrangement and items else None
            item = _placed(rng, kind, horizon, against, arrangement, alone=len(kinds) == 1)
            if item is None or not all(_room(item, other, arrangement) for other in items):
                break
            items.append(item)
        else:
            return tuple(items)
    return None


def _placed(
    rng: random.Random,
    kind: Kind,
    horizon: int,
    against: Item | None,
    arrangement: str | None,
    *,
    alone: bool,
) -> Item | None:
    """Draw a place inside the picture. Return None if there is no place."""
    thing, colour, size = kind
    extent = rng.choice(SIZES[size])
    art = sprite(thing, colour, extent)
    if against is not None and arrangement is not None:
        left, top = _beside_etc(rng, art.width, art.height, against, arrangement, horizon)
    else:
        free = SIZE - art.width
        central = alone and size == "large"
        left = round(rng.triangular(0, free, free / 2)) if central else rng.randint(0, free)
        top = _standing(rng, art.height, horizon, thing)
    lower = arrangement in ("on", "in front")
    left, top = GRID * round(left / GRID), GRID * (-(-top // GRID) if lower else round(top / GRID))
    inside = 0 <= left <= SIZE - art.width and 0 <= top <= SIZE - art.height
    return Item(thing, colour, extent, left, top) if inside else None


def _standing(rng: random.Random, height: int, horizon: int, thing: str) -> int:
    """Return the top of a thing on the ground or in the sky."""
    if THINGS[thing].flies and height <= horizon and rng.random() < _IN_THE_SKY:
        return rng.randint(0, horizon - height)
    low = max(horizon + _HEADROOM, height)
    return rng.randint(low, SIZE - 1) - height


def _beside_etc(
    rng: random.Random, width: int, height: int, other: Item, arrangement: str, horizon: int
) -> tuple[int, int]:
    """Return a corner for a box in an arrangement with another thing. The corner may be outside the picture."""
    if arrangement == "beside":
        gap = rng.randint(0, 8)
        left = rng.choice((other.left - gap - width, other.right + gap))
        return left, max(horizon + _HEADROOM, other.foot + rng.randint(-6, 6)) - height
    if arrangement == "in front":
        left = rng.randint(other.left - width // 3, other.right - 2 * width // 3)
        return left, other.foot + rng.randint(2, 8) - height
    left = round(other.x - width / 2) + rng.randint(-6, 6)
    if arrangement == "on":
        return left, other.top + ON_DEPTH - height
    gap = rng.randint(2, 8)
    return left, other.top - gap - height if arrangement == "above" else other.foot + gap


ON_DEPTH = 2
"""A thing on another one reaches this many pixels into its box, because the artwork's edges are round."""


def _room(item: Item, other: Item, arrangement: str | None) -> bool:
    """Return whether two things do not overlap too much, or overlap as their arrangement requires."""
    shared = overlap(item, other)
    smaller = min(item.width * item.height, other.width * other.height)
    if arrangement == "in front":
        return 0.25 * smaller <= shared <= 0.4 * other.width * other.height
    if arrangement == "on":
        return shared > 0
    return shared <= MAX_OVERLAP * smaller


def overlap(a: Item, b: Item) -> int:
    """Return the number of pixels that the boxes of two things share."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.foot, b.foot) - max(a.top, b.top)
    return max(0, width) * max(0, height)
