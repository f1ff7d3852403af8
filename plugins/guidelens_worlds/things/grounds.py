"""The backgrounds of the things world: five grounds under two skies, drawn without randomness."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .vocabulary import HORIZONS, SIZE

Array = NDArray[np.float32]
_Colour = tuple[float, float, float]

_SKY: dict[str, tuple[_Colour, _Colour]] = {
    "day": ((122, 190, 250), (212, 236, 254)),
    "night": ((14, 18, 58), (66, 66, 124)),
}
"""Colours at the top of the picture and at the horizon."""
_GROUND: dict[str, tuple[_Colour, _Colour]] = {
    "desert": ((226, 186, 112), (246, 218, 158)),
    "meadow": ((112, 176, 72), (150, 208, 98)),
    "sea": ((22, 92, 168), (52, 142, 206)),
    "snow": ((222, 232, 248), (250, 252, 255)),
    "street": ((112, 114, 122), (92, 94, 102)),
}
"""Colours at the horizon and at the lower edge."""
_NIGHT_LIGHT = (0.60, 0.53, 0.68)
"""Factors of red, green and blue for a ground at night."""
_STARS = ((6, 5), (19, 11), (31, 4), (42, 13), (12, 13), (27, 9), (37, 8), (47, 5))
_MOON, _SUN = (54.0, 8.0, 4.5), (55.0, 9.0, 5.0)
"""Centre (x, y) and radius."""
_SKYLINE = ((0, 9, 8), (9, 7, 12), (18, 10, 6), (29, 6, 11), (36, 9, 7), (46, 8, 10), (55, 9, 6))
"""Houses behind the street: left edge, width, height."""


@cache
def background(ground: str, sky: str, horizon: int) -> Array:
    """Return a scene without things, (3, SIZE, SIZE) in [-1, 1]. The array is cached: do not write into it.

    :raises ValueError: ``horizon`` is not one of the world's.
    """
    if horizon not in HORIZONS:
        raise ValueError(f"horizon {horizon} must be one of {', '.join(map(str, HORIZONS))}")
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    above = _gradient(rows / horizon, *_SKY[sky])
    _paint_sky(above, sky, rows, columns)
    below = _gradient((rows - horizon) / (SIZE - 1 - horizon), *_GROUND[ground])
    edge = _DETAIL[ground](below, above, rows, columns, horizon)
    if sky == "night":
        below *= np.array(_NIGHT_LIGHT, dtype=np.float32)
    image = np.where(edge[..., None], below, above)
    result = np.ascontiguousarray(image.transpose(2, 0, 1) / 127.5 - 1, dtype=np.float32)
    result.setflags(write=False)
    return result


def _gradient(share: Array, top: _Colour, bottom: _Colour) -> Array:
    """Return a gradient (SIZE, SIZE, 3): ``top`` where ``share`` is 0, ``bottom`` where it is 1."""
    at = np.clip(share, 0, 1)[..., None]
    return (np.asarray(top) + at * (np.asarray(bottom) - np.asarray(top))).astype(np.float32)


def _paint_sky(image: Array, sky: str, rows: Array, columns: Array) -> None:
    if sky == "night":
        for column, row in _STARS:
            image[row, column] = (235, 235, 210)
    x, y, radius = _MOON if sky == "night" else _SUN
    cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
    colour = np.asarray((240, 236, 200) if sky == "night" else (255, 226, 96), dtype=np.float32)
    image += cover * (colour - image)


def _desert(below: Array, above: Array, rows: Array, columns: Array, horizon: int) -> NDArray[np.bool_]:
    dunes = horizon + 1.5 * np.sin(columns / 10 + 1) + 0.5
    crest = horizon + 10 + 2.5 * np.sin(columns / 13 - 0.5)
    below[(rows > crest) & (rows < crest + 3)] *= 0.93
    edge: NDArray[np.bool_] = rows >= dunes
    return edge


def _meadow(below: Array, above: Array, rows: Array, columns: Array, horizon: int) -> NDArray[np.bool_]:
    hills = horizon + 1.5 * np.cos(columns / 9)
    tufts = ((columns * 7 + rows * 13) % 23 < 1) & (rows % 5 == 0)
    below[tufts] *= 0.86
    edge: NDArray[np.bool_] = rows >= hills
    return edge


def _sea(below: Array, above: Array, rows: Array, columns: Array, horizon: int) -> NDArray[np.bool_]:
    depth = rows - horizon
    waves = (depth % 8 == 4) & ((columns + 5 * depth) % 16 < 7)
    below[waves] = below[waves] * 0.6 + 0.4 * np.array((190, 226, 246), dtype=np.float32)
    edge: NDArray[np.bool_] = rows >= horizon
    return edge


def _snow(below: Array, above: Array, rows: Array, columns: Array, horizon: int) -> NDArray[np.bool_]:
    for centre, height, width in ((14.0, 11.0, 15.0), (38.0, 8.0, 13.0), (60.0, 10.0, 12.0)):
        top = horizon - height * (1 - np.abs(columns - centre) / width)
        slope = (rows >= top) & (rows < horizon)
        above[slope] = above[slope] * 0.35 + 0.65 * np.array((158, 178, 208), dtype=np.float32)
    edge: NDArray[np.bool_] = rows >= horizon
    return edge


def _street(below: Array, above: Array, rows: Array, columns: Array, horizon: int) -> NDArray[np.bool_]:
    for left, width, height in _SKYLINE:
        house = (columns >= left) & (columns < left + width) & (rows >= horizon - height) & (rows < horizon)
        above[house] = above[house] * 0.4 + 0.6 * np.array((128, 120, 142), dtype=np.float32)
    below[(rows >= horizon) & (rows < horizon + 5)] = (186, 180, 172)  # the pavement
    line = (rows >= horizon + 16) & (rows < horizon + 18) & (columns % 16 < 9)
    below[line] = (232, 228, 214)
    edge: NDArray[np.bool_] = rows >= horizon
    return edge


_DETAIL = {"desert": _desert, "meadow": _meadow, "sea": _sea, "snow": _snow, "street": _street}
"""Functions that draw into the two layers and return where the ground is."""
