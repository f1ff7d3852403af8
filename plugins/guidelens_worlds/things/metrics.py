"""Scores of pictures of the things world against their prompts. :mod:`guidelens_worlds.things.parse` reads the
pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from guidelens.contracts import ROLES, Column, Prompt
from numpy.typing import NDArray
from scipy import ndimage

from ..scores import description_scores
from .language import read, related
from .parse import ParsedScene, covered, parse
from .world import Item, Scene, render

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float32]

logger = logging.getLogger("guidelens.things.metrics")

_MEANINGS = {
    "alignment": "share of the prompt's assertions that hold",
    "realism": "share of the picture that the nearest rendering explains",
    "recall": "share of the named kinds that appear",
    "recall_main": "whether the thing named first appears",
    "recall_rest": "share of the other named kinds that appear",
    "detail_main": "correlation of fine structure with the rendering, inside the thing named first",
    "binding": "of the kinds whose attribute and thing both appear, the share that appear together",
    "relation": "whether the relation holds",
    "count": "share of the numbers above one that are right",
    "ground": "whether the ground is the named one",
    "precision": "share of the things read that the prompt names",
}
_MEANINGS_OF_DETAILS = {
    "binding_shown": "binding of pictures that show colour and thing of some named kind",
}


def _columns(meanings: Mapping[str, str]) -> tuple[Column, ...]:
    """Return columns in [0, 1]; higher is better. A column with the name of a role has that role."""
    return tuple(
        Column(name, meaning, name if name in ROLES else "", 0.0, 1.0) for name, meaning in meanings.items()
    )


COLUMNS, DETAILS = _columns(_MEANINGS), _columns(_MEANINGS_OF_DETAILS)
_FINE = 2.0
"""Standard deviation, in pixels, of the blur that is subtracted to get the fine structure."""


class ThingsMetric:
    """Score what a picture shows of its prompt. All columns are in [0, 1]; higher is better.

    ``realism`` and ``detail_main`` compare the picture with the nearest rendering, which the parser finds:

    - ``realism``: 1 - squared error of the rendering, relative to the things' area and contrast; 0 if nothing can be
      read.
    - ``detail_main``: correlation of the fine structure of picture and rendering inside the thing named first; 0 if
      that thing does not appear.

    The other columns are those of :func:`guidelens_worlds.scores.description_scores`. A prompt that is not of this
    world gets only ``realism``.

    ``details`` adds ``binding_shown``, which is left out for pictures without the colour and the noun of a named kind.
    Read it beside ``binding``, because a schedule that seldom shows both has few such pictures.
    """

    columns: tuple[Column, ...] = COLUMNS

    def __init__(self, details: bool = False) -> None:
        if details:
            self.columns = COLUMNS + DETAILS

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, 64, 64) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        pictures = images.detach().float().cpu().numpy()
        return [self._score(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]

    def _score(self, picture: Array, prompt: Prompt) -> dict[str, float]:
        reading = parse(picture)
        scores = {"realism": reading.realism}
        description = read(prompt.target)
        if description is None:
            logger.warning("%r is not a sentence of the things world: only realism is scored", prompt.target)
            return scores
        scene = reading.scene if reading.ground is not None else _without_ground(reading)
        scores |= description_scores(description, scene, related)
        main = next((item for item in scene.items if description.phrases[0].matches(item)), None)
        scores["detail_main"] = 0.0 if main is None else detail(picture, reading.scene, main)
        return {column.name: scores[column.name] for column in self.columns if column.name in scores}


def _without_ground(reading: ParsedScene) -> Scene:
    scene = reading.scene
    return Scene("none", "none", scene.horizon, scene.items)


def detail(picture: Array, scene: Scene, item: Item) -> float:
    """Return the correlation of the fine structure of a picture and of the rendered scene inside one thing, in [0, 1].

    The fine structure is the picture minus its Gaussian blur with a standard deviation of 2 pixels.
    """
    inside = covered([item]) > 0.5
    fine = [_fine(image)[:, inside].ravel() for image in (np.clip(picture, -1, 1), render(scene))]
    first, second = (values - values.mean() for values in fine)
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return min(1.0, max(0.0, float(first @ second) / scale)) if scale > 0 else 0.0  # rounding can exceed 1


def _fine(image: Array) -> Array:
    blurred: Array = ndimage.gaussian_filter(image, (0, _FINE, _FINE), mode="nearest")
    return image - blurred
