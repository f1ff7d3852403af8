"""Scores of pictures of the shapes world against their prompts. :mod:`guidelens_worlds.shapes.parse` reads the
pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidelens.contracts import Column, Prompt

from .language import Description, Phrase, claims, holds, read
from .parse import ParsedScene, parse
from .world import Item, Scene

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("guidelens.shapes.metrics")


def _columns(**declared: tuple[str, str]) -> tuple[Column, ...]:
    """Return columns by name, each in [0, 1] with higher values better, with its role and meaning."""
    return tuple(
        Column(name, meaning, role, 0.0, 1.0, looks="cleanly drawn" if role == "realism" else "")
        for name, (role, meaning) in declared.items()
    )


COLUMNS = _columns(
    alignment=("alignment", "share of the prompt's assertions that hold"),
    fidelity=("realism", "share of the picture that the scene read from it explains"),
    recall=("recall", "share of the named kinds that appear"),
    binding=("binding", "of the kinds whose colour and shape both appear, the share that appear together"),
    relation=("relation", "whether the relation holds"),
    count=("count", "share of the numbers above one that are right"),
    precision=("precision", "share of the objects read that the prompt names"),
)
DETAILS = _columns(
    recall_first=("recall_main", "whether the kind named first appears"),
    recall_rest=("recall_rest", "share of the other named kinds that appear"),
    detail_first=("detail_main", "share of the shape, colour and size named first that one object has"),
    recall_large=("", "share of the kinds named large that appear"),
    recall_small=("", "share of the kinds named small that appear"),
    binding_shown=("binding_shown", "binding of pictures that show colour and shape of some named kind"),
)


class ShapesMetric:
    """Score what a picture shows of its prompt. All columns are in [0, 1]; higher is better.

    - ``alignment``: share of the prompt's assertions that hold (objects, counts, relation, background).
      It is 0 if the picture has no objects, because a background alone does not depict a prompt.
    - ``fidelity``: 1 - the unexplained part of the picture, given the scene that was read (0: nothing readable).
    - ``recall``: share of the named kinds that appear at least once.
    - ``binding``: of the named kinds whose colour and whose shape both appear, the share that appear
      together. A picture without any of them scores 0, so that an empty picture gains nothing.
    - ``relation``, ``count``: whether the relation holds; the share of numbers above one that are right.
    - ``precision``: share of the objects read that the prompt named.

    ``binding``, ``relation`` and ``count`` are left out if the prompt names no colour, relation or number. A prompt
    that is not of this world gets only ``fidelity``.

    ``details`` adds these columns:

    - ``recall_first``, ``recall_rest``: recall of the kind named first, and of the others.
    - ``detail_first``: of the attributes that the prompt gives for the first kind (shape, and colour and size if
      named), the share that the best-fitting object has; 0 without any object.
    - ``recall_large``, ``recall_small``: recall of the kinds of that size, if the prompt names sizes.
    - ``binding_shown``: ``binding`` of the pictures that show the colour and the shape of at least one named kind, left
      out for the others. It measures how often attributes that appear are combined correctly. Read it beside
      ``binding``, because a schedule that seldom shows both attributes has few such pictures.
    """

    columns: tuple[Column, ...] = COLUMNS

    def __init__(self, details: bool = False) -> None:
        self.details = details
        if details:
            self.columns = COLUMNS + DETAILS

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, 32, 32) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        return [
            self.score_reading(parse(image), prompt)
            for image, prompt in zip(images.detach().float().cpu().numpy(), prompts, strict=True)
        ]

    def score_reading(self, reading: ParsedScene, prompt: Prompt) -> dict[str, float]:
        """Score one picture from its reading."""
        scores = {"fidelity": reading.fidelity}
        description = read(prompt.target)
        if description is None:
            logger.warning("%r is not a sentence of the shapes world: only fidelity is scored", prompt.target)
            return scores
        scene = Scene(reading.background or "none", reading.scene.items)
        held = [bool(scene.items) and holds(claim, scene) for claim in claims(description)]
        scores["alignment"] = sum(held) / len(held)
        scores.update(_object_scores(description, scene.items))
        if self.details:
            scores.update(_detail_scores(description, scene.items))
        for kind in ("relation", "count"):
            of_kind = [held[i] for i, claim in enumerate(claims(description)) if claim.kind == kind]
            if of_kind:
                scores[kind] = sum(of_kind) / len(of_kind)
        return {column.name: scores[column.name] for column in self.columns if column.name in scores}


def _object_scores(description: Description, items: Sequence[Item]) -> dict[str, float]:
    phrases = description.phrases
    scores = {"recall": _recall(phrases, items)}
    if any(p.colour is not None for p in phrases):
        shown = _binding(phrases, items)
        scores["binding"] = 0.0 if shown is None else shown
    named = sum(any(p.matches(o) for p in phrases) for o in items)
    scores["precision"] = named / len(items) if items else 0.0
    return scores


def _detail_scores(description: Description, items: Sequence[Item]) -> dict[str, float]:
    phrases = description.phrases
    groups = {f"recall_{size}": [p for p in phrases if p.size == size] for size in ("large", "small")}
    if len(phrases) > 1:
        groups |= {"recall_first": list(phrases[:1]), "recall_rest": list(phrases[1:])}
    scores = {column: _recall(group, items) for column, group in groups.items() if group}
    if len(phrases) > 1:
        scores["detail_first"] = max((_share_of_details(phrases[0], item) for item in items), default=0.0)
    shown = _binding(phrases, items)
    return scores if shown is None else {**scores, "binding_shown": shown}


def _share_of_details(phrase: Phrase, item: Item) -> float:
    """Return the share of the attributes in a phrase that an object has."""
    said = {"shape": phrase.shape, "colour": phrase.colour, "size": phrase.size}
    named = {name: value for name, value in said.items() if value is not None}
    return sum(getattr(item, name) == value for name, value in named.items()) / len(named)


def _recall(phrases: Sequence[Phrase], items: Sequence[Item]) -> float:
    return sum(any(map(p.matches, items)) for p in phrases) / len(phrases)


def _binding(phrases: Sequence[Phrase], items: Sequence[Item]) -> float | None:
    """Return the share of kinds that appear, among those whose colour and shape both appear, or None without any."""
    both = [p for p in phrases if p.colour is not None and _colour_and_shape_appear(p, items)]
    bound = sum(any(o.colour == p.colour and o.shape == p.shape for o in items) for p in both)
    return bound / len(both) if both else None


def _colour_and_shape_appear(phrase: Phrase, items: Sequence[Item]) -> bool:
    return any(o.colour == phrase.colour for o in items) and any(o.shape == phrase.shape for o in items)
