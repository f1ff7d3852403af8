"""The vocabulary of the things world: its things, colours, grounds, skies and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SIZE = 64
"""Height and width of a picture, in pixels."""

NATURAL = "natural"
"""The colour of artwork that was not repainted. Captions do not name it."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 48, 44),
    "yellow": (250, 204, 36),
    "green": (58, 170, 72),
    "blue": (48, 112, 226),
    "purple": (152, 72, 204),
}
GROUNDS = ("desert", "meadow", "sea", "snow", "street")
SKIES = ("day", "night")
HORIZONS = (26, 30, 34)
"""Rows at which the ground begins."""
SIZES: dict[str, tuple[int, ...]] = {"small": (24,), "large": (36,)}
"""Longer sides of a thing, in pixels."""
GRID = 4
"""The corner of a thing is at multiples of this many pixels. Few places and sizes are easier to learn than many."""

Family = Literal["animal", "food", "plant", "vehicle", "building", "toy"]


@dataclass(frozen=True)
class Paint:
    """Selects the pixels of a sprite that get a new colour: those within ``reach`` degrees of ``hue``.

    :param hue: in degrees. None selects every pixel that is bright enough, of any hue.
    :param reach: in degrees.
    :param saturation: smallest saturation of a painted pixel, in [0, 1].
    :param value: smallest brightness of a painted pixel, in [0, 1].
    """

    hue: float | None
    reach: float = 30.0
    saturation: float = 0.3
    value: float = 0.2


@dataclass(frozen=True)
class Thing:
    """One thing.

    :param emoji: the character whose artwork shows it.
    :param colours: relative frequencies of its colours; :data:`NATURAL` is the artwork as it is.
    :param grounds: the grounds on which it appears most often.
    :param looks: the colour of its artwork, if that is one of :data:`COLOURS`.
    :param paint: the part that is repainted; None if :data:`NATURAL` is its only colour.
    :param flies: whether it is often in the sky.
    """

    emoji: str
    family: Family
    grounds: tuple[str, ...]
    colours: Mapping[str, float]
    paint: Paint | None = None
    flies: bool = False
    looks: str = NATURAL


_ONE: Mapping[str, float] = {NATURAL: 1.0}
_ODD = {"red": 0.6, "yellow": 0.6, "green": 0.6, "blue": 0.6, "purple": 0.6}
"""Rare, unnatural colours."""
_EVEN = {"red": 3.0, "yellow": 3.0, "green": 2.0, "blue": 3.0, "purple": 2.0}

THINGS: dict[str, Thing] = {
    "camel": Thing("\U0001f42a", "animal", ("desert",), _ONE),
    "dog": Thing(
        "\U0001f436", "animal", ("meadow", "street"), {NATURAL: 6.0, **_ODD}, Paint(None, value=0.35)
    ),
    "cat": Thing(
        "\U0001f431",
        "animal",
        ("meadow", "street"),
        {NATURAL: 6.0, "red": 0.6, "green": 0.6, "blue": 0.6, "purple": 0.6},  # it is yellow by nature
        Paint(38),
        looks="yellow",
    ),
    "bear": Thing("\U0001f43b", "animal", ("snow", "meadow"), _ONE),
    "bird": Thing(
        "\U0001f426",
        "animal",
        ("meadow", "sea"),
        {"red": 2.0, "yellow": 2.0, "green": 1.0, "blue": 4.0, "purple": 1.0},
        Paint(205, 35),
        flies=True,
    ),
    "fish": Thing(
        "\U0001f41f",
        "animal",
        ("sea",),
        {"red": 2.0, "yellow": 2.0, "green": 1.0, "blue": 4.0, "purple": 1.0},
        Paint(210, 40),
    ),
    "car": Thing(
        "\U0001f697",
        "vehicle",
        ("street",),
        {"red": 4.0, "yellow": 2.0, "green": 1.0, "blue": 3.0, "purple": 1.0},
        Paint(0, 25),
    ),
    "boat": Thing(
        "\u26f5",
        "vehicle",
        ("sea",),
        {"red": 4.0, "yellow": 2.0, "green": 1.0, "blue": 3.0, "purple": 1.0},
        Paint(10, 30),
    ),
    "house": Thing(
        "\U0001f3e0",
        "building",
        ("meadow", "street", "snow"),
        {"red": 4.0, "yellow": 1.0, "green": 2.0, "blue": 3.0, "purple": 1.0},
        Paint(15, 30),
    ),
    "tree": Thing("\U0001f333", "plant", ("meadow", "snow"), _ONE, looks="green"),
    "cactus": Thing("\U0001f335", "plant", ("desert",), _ONE, looks="green"),
    "flower": Thing(
        "\U0001f337",
        "plant",
        ("meadow",),
        {"red": 4.0, "yellow": 3.0, "blue": 1.0, "purple": 2.0},
        Paint(330, 45),
    ),
    "cake": Thing("\U0001f370", "food", ("street", "meadow"), _ONE),
    "pear": Thing("\U0001f350", "food", ("meadow", "desert"), _ONE, looks="green"),
    "ball": Thing("\U0001f3c0", "toy", ("street", "meadow"), _EVEN, Paint(20, 30)),
    "balloon": Thing("\U0001f388", "toy", GROUNDS, _EVEN, Paint(0, 30), flies=True),
}
"""Sixteen things that can be distinguished at 20 pixels."""
