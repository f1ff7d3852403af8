"""Parse a picture into a scene, without a network. It serves as ground truth.

Each pixel is modelled as ``background + alpha (colour - background)``, with the palette colour that leaves the
smallest residual. Connected pixels with alpha above one half are an object. Its shape, centre and radius are those
whose rendered coverage fits alpha best. Pixels that fit no colour or shape are not an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .world import BACKGROUNDS, COLOURS, SHAPES, SIZE, Item, Scene, coverage, render

Array = NDArray[np.float32]

MIN_AREA = 12
"""Smallest number of pixels of an object. The smallest rendered object covers 26."""
MIN_FIT = 0.7
"""Smallest overlap (soft intersection over union) of an object with the best-fitting shape."""
MIN_OUTLINE = 0.72
"""The same for pixels that are more than half covered. A missing half lowers this overlap, blur does not."""
GOOD_FIT = 0.85
"""Below this overlap, the parser looks for several touching objects."""
MAX_COLOUR_ERROR = 60.0
"""Largest distance in RGB (0..255, Euclidean) of an object's median colour from its palette colour."""
MAX_COLOUR_SHARE = 0.4
"""The same as a share of the distance between palette colour and background. It matters for white on pink or cyan,
where :data:`MAX_COLOUR_ERROR` alone would accept an object that has almost faded."""
MAX_STRAY = 0.25
"""Largest share of an object's inner pixels that are farther than :data:`MAX_COLOUR_ERROR` from its palette colour. A
median alone cannot distinguish a texture from a plain colour."""
RADII = (3.0, 10.5)
"""Smallest and largest radius of an object: those of the world, extended by a quarter."""
MIN_BACKGROUND = 0.35
"""Smallest share of the picture within :data:`BACKGROUND_REACH` of its background. The fullest scenes have 0.6."""
BACKGROUND_REACH = 60.0
"""Distance in RGB within which a pixel counts for a background."""
MAX_BACKGROUND_ERROR = 30.0
"""Largest distance in RGB between the background and a palette colour for it to count as that colour."""

_COLOUR_NAMES = tuple(COLOURS)
_COLOUR_TABLE = np.array(list(COLOURS.values()), dtype=np.float32)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_BACKGROUND_TABLE = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
_CONTRAST = float(np.mean((_COLOUR_TABLE[:, None] - _BACKGROUND_TABLE[None]) ** 2))
"""Mean squared difference per channel between a palette colour and a background."""


@dataclass(frozen=True)
class ParsedScene:
    """The result of parsing.

    :param scene: the background nearest to the palette, and the objects (possibly none, or more than three).
    :param background_error: distance in RGB of the background from its palette colour.
    :param realism: how much of the picture the scene explains, in [0, 1]; see :func:`realism_of`.
    """

    scene: Scene
    background_error: float
    realism: float

    @property
    def ground(self) -> str | None:
        """Name of the background, or None if it is not a colour of the palette."""
        return self.scene.ground if self.background_error <= MAX_BACKGROUND_ERROR else None


def parse(image: Array) -> ParsedScene:
    """Read a picture (3, SIZE, SIZE) in [-1, 1]. Values outside this range are clipped.

    :raises ValueError: the picture has another shape.
    """
    if image.shape != (3, SIZE, SIZE):
        raise ValueError(
            f"pictures of the shapes world must have the shape (3, {SIZE}, {SIZE}), not {image.shape}"
        )
    pixels = np.nan_to_num((np.clip(image, -1, 1) + 1) * 127.5).transpose(1, 2, 0).astype(np.float32)
    name, ground, error = _background(pixels)
    scene = Scene(name, tuple(_read_items(pixels, ground)))
    return ParsedScene(scene, error, realism_of(pixels, scene))


def _read_items(pixels: Array, ground: Array) -> list[Item]:
    """Return the objects. There are none if too little of the picture is background."""
    if np.mean(np.linalg.norm(pixels - ground, axis=-1) <= BACKGROUND_REACH) < MIN_BACKGROUND:
        return []
    alpha, colour = _explain(pixels, ground)
    items: list[Item] = []
    for mask, parts in _objects(alpha, colour):
        found = [_items(part, pixels, ground, k) for part, k in parts]
        if len(parts) > 1 and not all(found):
            # Then it is perhaps one object with a colour between two of the palette.
            whole = _items(mask, pixels, ground, _nearest_colour(pixels[mask]))
            found = [whole] if whole else found
        items += [item for several in found for item in several]
    return items


def realism_of(pixels: Array, scene: Scene) -> float:
    """Return 1 - (squared error of the re-rendered scene) / (area of its objects x mean squared palette
    contrast).

    So 0 means an error as large as the objects themselves. A scene without objects scores 0.

    :param pixels: (SIZE, SIZE, 3) in 0..255.
    """
    if not scene.items:
        return 0.0
    drawn = (render(scene).transpose(1, 2, 0) + 1) * 127.5
    area = sum(float(coverage(o.shape, o.x, o.y, o.radius).sum()) for o in scene.items)
    residual = float(((pixels - drawn) ** 2).sum()) / (area * 3 * _CONTRAST)
    return max(0.0, 1.0 - residual)


def _background(pixels: Array) -> tuple[str, Array, float]:
    """Return the palette name of the background, its actual colour, and their distance."""
    distance = np.linalg.norm(pixels[:, :, None] - _BACKGROUND_TABLE, axis=-1)
    nearest = distance.argmin(-1)
    k = int(
        np.bincount(nearest[distance.min(-1) < BACKGROUND_REACH], minlength=len(_BACKGROUND_NAMES)).argmax()
    )
    mine = pixels[(nearest == k) & (distance[..., k] < BACKGROUND_REACH)]
    # Some edge pixels look like another background, so the background must cover most of the picture.
    whole = mine if len(mine) >= MIN_BACKGROUND * SIZE**2 else pixels.reshape(-1, 3)
    ground = np.median(whole, axis=0)
    return _BACKGROUND_NAMES[k], ground, float(np.linalg.norm(ground - _BACKGROUND_TABLE[k]))


def _explain(pixels: Array, ground: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return per pixel the share of object colour over background, and which palette colour explains it
    best."""
    direction = _COLOUR_TABLE - ground  # (K, 3)
    offset = pixels - ground  # (H, W, 3)
    length = np.maximum((direction**2).sum(-1), 1e-6)  # the background may be a palette colour itself
    alpha = np.clip(offset @ direction.T / length, 0, 1)  # (H, W, K)
    residual = ((offset[:, :, None] - alpha[..., None] * direction) ** 2).sum(-1)
    colour = residual.argmin(-1)
    return np.take_along_axis(alpha, colour[..., None], -1)[..., 0], colour


def _objects(
    alpha: Array, colour: NDArray[np.intp]
) -> list[tuple[NDArray[np.bool_], list[tuple[NDArray[np.bool_], int]]]]:
    """Return masks of connected pixels, each with its parts of one colour (mask and colour)."""
    labels, count = ndimage.label(alpha > 0.5)
    found = []
    for label in range(1, count + 1):
        mask = labels == label
        strong = mask & (alpha > 0.75)
        votes = np.bincount(colour[strong], minlength=len(_COLOUR_NAMES))
        # A second colour must have inner pixels, because another colour often fits the rim of an object best.
        inside = [k for k in range(len(votes)) if ndimage.binary_erosion(strong & (colour == k)).any()]
        main = [k for k in inside if votes[k] >= MIN_AREA]
        parts = [(mask, int(votes.argmax()))]
        if len(main) > 1:
            nearest = _nearest_of([strong & (colour == k) for k in main])
            parts = [(mask & (nearest == i), k) for i, k in enumerate(main)]
        if mask.sum() >= MIN_AREA:
            found.append((mask, parts))
    return found


def _nearest_colour(pixels: Array) -> int:
    """Return the palette colour nearest to the median of pixels (N, 3)."""
    return int(np.linalg.norm(_COLOUR_TABLE - np.median(pixels, axis=0), axis=-1).argmin())


def _nearest_of(masks: list[NDArray[np.bool_]]) -> NDArray[np.intp]:
    """Return per pixel which of the masks is nearest."""
    return np.argmin([ndimage.distance_transform_edt(~mask) for mask in masks], axis=0)


def _items(mask: NDArray[np.bool_], pixels: Array, ground: Array, k: int) -> list[Item]:
    """Fit one object, or if it does not fit well, several touching objects."""
    whole, fit = _fit(mask, pixels, ground, k)
    if fit < GOOD_FIT:
        for iterations in (1, 2, 3):
            labels, count = ndimage.label(ndimage.binary_erosion(mask, iterations=iterations))
            if count > 1:
                nearest = _nearest_of([labels == label for label in range(1, count + 1)])
                fits = [_fit(mask & (nearest == part), pixels, ground, k) for part in range(count)]
                if all(part_fit >= GOOD_FIT for _, part_fit in fits):
                    return [item for item, _ in fits if item is not None]
    return [whole] if whole is not None and fit >= MIN_FIT else []


def _fit(mask: NDArray[np.bool_], pixels: Array, ground: Array, k: int) -> tuple[Item | None, float]:
    """Find shape, centre and radius of one object of palette colour ``k``, and how well they fit, in [0,
    1]."""
    core = ndimage.binary_erosion(mask)
    inner = pixels[core if core.sum() >= 4 else mask]
    median = np.median(inner, axis=0)
    if mask.sum() < MIN_AREA or not _is_colour(inner, median, ground, k):
        return None, 0.0
    direction = median - ground
    near = ndimage.binary_dilation(mask, iterations=2)
    share = np.where(near, np.clip((pixels - ground) @ direction / (direction @ direction), 0, 1), 0)
    rows, columns = np.nonzero(mask)
    x, y = float(columns.min() + columns.max()) / 2, float(rows.min() + rows.max()) / 2
    extent = float(np.ptp(columns) + np.ptp(rows) + 2) / 4
    _, shape, x, y, radius = min(
        (_refine(share, shape, x, y, extent) for shape in SHAPES), key=lambda fit: fit[0]
    )
    if not RADII[0] <= radius <= RADII[1]:
        return None, 0.0
    drawn = coverage(shape, x, y, radius)
    covered = drawn > 0.5
    if (covered & mask).sum() < MIN_OUTLINE * (covered | mask).sum():
        return None, 0.0
    overlap = np.minimum(drawn, share).sum() / np.maximum(drawn, share).sum()
    return Item(_COLOUR_NAMES[k], shape, radius, x, y), float(overlap)


def _is_colour(inner: Array, median: Array, ground: Array, k: int) -> bool:
    """Return whether the pixels (N, 3) inside an object have palette colour ``k``."""
    wanted = _COLOUR_TABLE[k]
    limit = min(MAX_COLOUR_ERROR, MAX_COLOUR_SHARE * float(np.linalg.norm(wanted - ground)))
    stray = np.linalg.norm(inner - wanted, axis=-1) > MAX_COLOUR_ERROR
    return bool(np.linalg.norm(median - wanted) <= limit and stray.mean() <= MAX_STRAY)


def _refine(
    share: Array, shape: str, x: float, y: float, radius: float
) -> tuple[float, str, float, float, float]:
    """Minimise the squared error of coverage over centre and radius, with shrinking coordinate steps."""

    def error(at: tuple[float, float, float]) -> float:
        return float(((coverage(shape, *at) - share) ** 2).sum())

    at = (float(x), float(y), float(radius))
    best = error(at)
    for step in (0.8, 0.4, 0.2, 0.1):
        for _ in range(4):
            start = best
            for axis in (2, 0, 1):
                for sign in (1.0, -1.0):
                    moved = [*at]
                    moved[axis] += sign * step
                    trial = (moved[0], moved[1], moved[2])
                    if (value := error(trial)) < best:
                        at, best = trial, value
            if best == start:
                break
    return best, shape, *at
