"""Scores of pictures of the things world against their prompts."""

from __future__ import annotations

import numpy as np
from guidelens.contracts import Column
from numpy.typing import NDArray
from scipy import ndimage

from ..description import Description
from ..metrics import SceneMetric, columns
from .language import LANGUAGE
from .parse import ParsedScene, covered, parse
from .world import Item, Scene, render

Array = NDArray[np.float32]

COLUMNS = columns(
    {
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
)
DETAILS = columns({"binding_shown": "binding of pictures that show colour and thing of some named kind"})
_FINE = 2.0
"""Standard deviation, in pixels, of the blur that is subtracted to get the fine structure."""


class ThingsMetric(SceneMetric):
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
    world = "things"
    language = LANGUAGE

    def __init__(self, details: bool = False) -> None:
        if details:
            self.columns = COLUMNS + DETAILS

    def parse(self, picture: Array) -> ParsedScene:
        """Read a picture (3, 64, 64) in [-1, 1]."""
        return parse(picture)

    def further_scores(self, picture: Array, scene: Scene, description: Description) -> dict[str, float]:
        """Return the score of the details of the thing named first."""
        main = next((item for item in scene.items if description.phrases[0].matches(item)), None)
        return {"detail_main": 0.0 if main is None else detail(picture, scene, main)}


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
