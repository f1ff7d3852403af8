"""Parse a picture into a scene, without a network. It serves as ground truth.

The background is the nearest of the world's thirty, by a squared error that is cut off so that covering things do not
count. Then things are found one by one. Let I be the picture, C the scene read so far, and a, T the alpha and colour of
a sprite at a place. The sprite that explains most has the largest gain

    g = sum W a ((I - C)^2 - (I - T)^2),

found by FFT over all places, sizes, things and colours at once. W is 1 for a thing in front of those read so far. For a
thing behind them, W is the share that they leave visible. Each pass adds the best sprite, until none explains at least
:data:`MIN_EXPLAINED` of the difference under it. At the end, every thing is searched once more with the others in
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .grounds import background
from .sprites import sprite
from .vocabulary import GROUNDS, HORIZONS, SIZE, SIZES, SKIES, THINGS
from .world import Item, Scene, render

Array = NDArray[np.float32]

MIN_EXPLAINED = 0.6
"""Smallest share of the squared difference under a sprite that the sprite must explain. At 0.5 bent outlines are read
as additional things; at 0.7 blurred things are not read."""
MIN_GAIN = 8.0
"""Smallest gain of a sprite. The faintest thing of the world has about 30 (see ``tests``)."""
MIN_VISIBLE = 0.35
"""Smallest share of a thing behind others that must be visible."""
MAX_READ = 5
"""Largest number of things to read. Scenes of the world have at most three."""
CUT_OFF = 0.12
"""Squared error of a pixel (sum over channels) above which it counts as covered by a thing."""
MIN_BACKGROUND = 0.45
"""Smallest share of the picture within :data:`CUT_OFF` of its background. Below it, no thing is read. The fullest
scenes have 0.56."""
MAX_GROUND_ERROR = 0.2
"""Largest root mean squared error per channel of the uncovered pixels for a background to count as read."""
CONTRAST = 1.8
"""Mean squared difference (sum over channels) of a thing's pixel from the background, over random scenes."""
_CANDIDATES = 12
"""Number of sprites per pass that are evaluated exactly, best first."""
_EXACT = 1e-3
"""A scene with a smaller squared error equals the picture, so nothing is searched again."""


@dataclass(frozen=True)
class ParsedScene:
    """The result of parsing.

    :param scene: the nearest background and the things on it (possibly none, or more than three), by area.
    :param ground_error: root mean squared error of the uncovered pixels, in units of [-1, 1].
    :param realism: how much of the picture the scene explains, in [0, 1]; see :func:`realism_of`.
    """

    scene: Scene
    ground_error: float
    realism: float

    @property
    def ground(self) -> str | None:
        """Name of the ground, or None if the picture has no known background."""
        return self.scene.ground if self.ground_error <= MAX_GROUND_ERROR else None


def parse(image: Array) -> ParsedScene:
    """Read a picture (3, SIZE, SIZE) in [-1, 1]. Values outside this range are clipped.

    :raises ValueError: the picture has another shape.
    """
    if image.shape != (3, SIZE, SIZE):
        raise ValueError(f"the things world has pictures of shape (3, {SIZE}, {SIZE}), not {image.shape}")
    picture = np.nan_to_num(np.clip(image, -1, 1)).astype(np.float32)
    scene, share = _nearest_background(picture)
    room = MAX_READ if share >= MIN_BACKGROUND else 0
    while len(scene.items) < room and (longer := _with_one_more(picture, scene)) is not None:
        scene = longer
    scene = _best_order(picture, _searched_again(picture, scene))
    scene = replace(scene, items=tuple(sorted(scene.items, key=lambda item: -item.width * item.height)))
    return ParsedScene(scene, _ground_error(picture, scene), realism_of(picture, scene))


def realism_of(picture: Array, scene: Scene) -> float:
    """Return 1 - (squared error of the rendered scene) / (area of its things x :data:`CONTRAST`), at least 0.

    So 0 means an error as large as the things themselves. A scene without things scores 0.
    """
    if not scene.items:
        return 0.0
    area = sum(float(sprite(o.thing, o.colour, o.extent).alpha.sum()) for o in scene.items)
    return max(0.0, 1.0 - _error(picture, scene) / (area * CONTRAST))


def covered(items: Sequence[Item]) -> Array:
    """Return how much of each pixel (SIZE, SIZE) is covered by things, in [0, 1]."""
    free = np.ones((SIZE, SIZE), dtype=np.float32)
    for item in items:
        art = sprite(item.thing, item.colour, item.extent)
        free[item.top : item.foot, item.left : item.right] *= 1 - art.alpha
    return 1 - free


def _error(picture: Array, scene: Scene) -> float:
    return float(np.square(picture - render(scene)).sum())


def _ground_error(picture: Array, scene: Scene) -> float:
    free = covered(scene.items) == 0
    behind = background(scene.ground, scene.sky, scene.horizon)
    return float(np.sqrt(np.square(picture - behind)[:, free].mean())) if free.any() else 2.0


# --- background ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _backgrounds() -> tuple[list[Scene], Array]:
    """Return all empty scenes, and their pictures (N, 3, SIZE, SIZE)."""
    scenes = [Scene(g, s, h, ()) for g in GROUNDS for s in SKIES for h in HORIZONS]
    return scenes, np.stack([render(scene) for scene in scenes])


def _nearest_background(picture: Array) -> tuple[Scene, float]:
    """Return the empty scene nearest to the picture, and the share of the picture that shows it."""
    scenes, pictures = _backgrounds()
    errors = np.square(pictures - picture).sum(1)
    k = int(np.minimum(errors, CUT_OFF).sum((1, 2)).argmin())
    return scenes[k], float((errors[k] < CUT_OFF).mean())


# --- things --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Templates:
    """All sprites, with the conjugate spectra that the gain needs: of alpha, alpha T per channel, and alpha T^2."""

    kinds: list[tuple[str, str, int]]
    spectra: NDArray[np.complex64]  # (N, 5, SIZE, SIZE // 2 + 1)
    inside: NDArray[np.bool_]  # (N, SIZE, SIZE): corners at which the sprite is inside the picture


@lru_cache(maxsize=1)
def _templates() -> _Templates:
    extents = [extent for several in SIZES.values() for extent in several]
    kinds = [(t, c, e) for t, thing in THINGS.items() for c in thing.colours for e in extents]
    spectra, inside = [], np.zeros((len(kinds), SIZE, SIZE), dtype=bool)
    for place, kind in zip(inside, kinds, strict=True):
        art = sprite(*kind)
        filters = np.zeros((5, SIZE, SIZE), dtype=np.float32)
        filters[0, : art.height, : art.width] = art.alpha
        filters[1:4, : art.height, : art.width] = art.premultiplied
        squared = np.square(art.premultiplied).sum(0) / np.maximum(art.alpha, 1e-6)
        filters[4, : art.height, : art.width] = squared
        spectra.append(np.conj(fft.rfft2(filters)))
        place[: SIZE - art.height + 1, : SIZE - art.width + 1] = True
    return _Templates(kinds, np.stack(spectra).astype(np.complex64), inside)


def _gains(picture: Array, scene: Scene, behind: bool) -> Array:
    """Return the gain of every sprite at every place, (N, SIZE, SIZE); -inf outside the picture.

    The spectra are correlations on a torus; a sprite inside the picture does not wrap around.
    """
    templates = _templates()
    current = render(scene)
    weight = 1 - covered(scene.items) if behind else np.ones((SIZE, SIZE), dtype=np.float32)
    alone = weight * (np.square(current) - 2 * picture * current).sum(0)
    maps = np.stack([alone, *(2 * weight * picture), -weight]).astype(np.float32)
    product = np.einsum("nkhw,khw->nhw", templates.spectra, fft.rfft2(maps), optimize=False)
    gains = fft.irfft2(product, s=(SIZE, SIZE))
    return np.where(templates.inside, gains, -np.inf).astype(np.float32)


def _with_one_more(picture: Array, scene: Scene) -> Scene | None:
    """Return the scene with the thing that explains most of the rest, or None if nothing explains enough."""
    tried: list[tuple[float, Scene]] = []
    for behind in (False, True) if scene.items else (False,):
        gains = _gains(picture, scene, behind)
        flat = gains.reshape(len(gains), -1)
        places = flat.argmax(1)
        best = flat[np.arange(len(flat)), places]
        for k in np.argsort(-best)[:_CANDIDATES]:
            thing, colour, extent = _templates().kinds[k]
            item = Item(thing, colour, extent, int(places[k] % SIZE), int(places[k] // SIZE))
            items = (item, *scene.items) if behind else (*scene.items, item)
            longer = replace(scene, items=items)
            if _explains(picture, scene, item, behind):
                tried.append((_error(picture, longer), longer))
    if not tried:
        return None
    error, longer = min(tried, key=lambda pair: pair[0])
    return longer if error <= _error(picture, scene) - MIN_GAIN else None


def _explains(picture: Array, scene: Scene, item: Item, behind: bool) -> bool:
    """Return whether a thing explains enough of the difference under it, and enough of it is visible."""
    alpha = covered([item])
    weight = alpha * (1 - covered(scene.items)) if behind else alpha
    if weight.sum() < MIN_VISIBLE * alpha.sum():
        return False
    items = (item, *scene.items) if behind else (*scene.items, item)
    before = (weight * np.square(picture - render(scene))).sum()
    after = (weight * np.square(picture - render(replace(scene, items=items)))).sum()
    return bool(before > 0 and 1 - after / before >= MIN_EXPLAINED)


def _searched_again(picture: Array, scene: Scene) -> Scene:
    """Remove each thing in turn and search it again, with the others in place. Keep the best fit.

    A thing is dropped if the scene fits as well without it, for example if a thing that covers two others was read
    first.
    """
    for item in scene.items:
        error = _error(picture, scene)
        if error < _EXACT:
            break
        others = replace(scene, items=tuple(other for other in scene.items if other is not item))
        again = _with_one_more(picture, others)
        if _error(picture, others) < error + MIN_GAIN:
            scene = others
        elif again is not None and _error(picture, again) < error:
            scene = again
    return scene


def _best_order(picture: Array, scene: Scene) -> Scene:
    """Choose the drawing order that fits best."""
    if not 2 <= len(scene.items) <= 3:
        return scene
    orders = [replace(scene, items=items) for items in permutations(scene.items)]
    return min(orders, key=lambda order: _error(picture, order))
