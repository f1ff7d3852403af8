"""Scores of pictures of the shapes world against their prompts."""

from __future__ import annotations

import numpy as np
from guidelens.contracts import Column
from numpy.typing import NDArray

from ..description import Description, Phrase
from ..metrics import SceneMetric, columns
from ..scores import recall
from .language import LANGUAGE
from .parse import ParsedScene, parse
from .world import Item, Scene

COLUMNS = columns(
    {
        "alignment": "share of the prompt's assertions that hold",
        "fidelity": "share of the picture that the scene read from it explains",
        "recall": "share of the named kinds that appear",
        "binding": "of the kinds whose colour and shape both appear, the share that appear together",
        "relation": "whether the relation holds",
        "count": "share of the numbers above one that are right",
        "precision": "share of the objects read that the prompt names",
    },
    {"fidelity": "realism"},
    looks="cleanly drawn",
)
DETAILS = columns(
    {
        "recall_first": "whether the kind named first appears",
        "recall_rest": "share of the other named kinds that appear",
        "detail_first": "share of the shape, colour and size named first that one object has",
        "recall_large": "share of the kinds named large that appear",
        "recall_small": "share of the kinds named small that appear",
        "binding_shown": "binding of pictures that show colour and shape of some named kind",
    },
    {"recall_first": "recall_main", "detail_first": "detail_main"},
)


class ShapesMetric(SceneMetric):
    """Score what a picture shows of its prompt. All columns are in [0, 1]; higher is better.

    - ``fidelity``: 1 - the unexplained part of the picture, given the scene that was read (0: nothing readable).
    - ``alignment``, ``recall``, ``binding``, ``relation``, ``count``, ``precision``: see
      :func:`guidelens_worlds.scores.description_scores`.

    A prompt that is not of this world gets only ``fidelity``.

    ``details`` adds these columns:

    - ``recall_first``, ``recall_rest``: recall of the kind named first, and of the others, if there are several.
    - ``detail_first``: of the attributes that the prompt gives for the first of several kinds (shape, and colour and
      size if named), the share that the best-fitting object has; 0 without any object.
    - ``recall_large``, ``recall_small``: recall of the kinds of that size, if the prompt names sizes.
    - ``binding_shown``: ``binding`` of the pictures that show the colour and the shape of at least one named kind, left
      out for the others. It measures how often attributes that appear are combined correctly. Read it beside
      ``binding``, because a schedule that seldom shows both attributes has few such pictures.
    """

    columns: tuple[Column, ...] = COLUMNS
    world = "shapes"
    language = LANGUAGE
    realism = "fidelity"

    def __init__(self, details: bool = False) -> None:
        if details:
            self.columns = COLUMNS + DETAILS

    def parse(self, picture: NDArray[np.float32]) -> ParsedScene:
        """Read a picture (3, 32, 32) in [-1, 1]."""
        return parse(picture)

    def further_scores(
        self, picture: NDArray[np.float32], scene: Scene, description: Description
    ) -> dict[str, float]:
        """Return the scores of sizes, and of the kind named first if there are several."""
        phrases, items = description.phrases, scene.items
        groups = {f"recall_{size}": [p for p in phrases if p.size == size] for size in ("large", "small")}
        if len(phrases) > 1:
            groups["recall_first"] = [phrases[0]]
        scores = {column: recall(group, items) for column, group in groups.items() if group}
        if len(phrases) > 1:
            scores["detail_first"] = max((_share_of_details(phrases[0], item) for item in items), default=0.0)
        return scores


def _share_of_details(phrase: Phrase, item: Item) -> float:
    """Return the share of the attributes in a phrase that an object has."""
    said = ((phrase.noun, item.noun), (phrase.colour, item.colour), (phrase.size, item.size))
    named = [wanted == shown for wanted, shown in said if wanted is not None]
    return sum(named) / len(named)
