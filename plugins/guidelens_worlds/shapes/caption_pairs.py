"""Caption pairs of the shapes world: rendered scenes with a true caption, and one that is false in one respect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from guidelens.contracts import Prompt
from guidelens.errors import UsageError

from ..description import Description, Phrase
from .categories import PairCategory
from .compose import scene_for
from .language import LANGUAGE, RELATIONS, true_of, wording
from .world import COLOURS, SHAPES, Scene, render

if TYPE_CHECKING:
    from torch import Tensor

_TRIES = 100


class CaptionPairs(list[Prompt]):
    """Prompts with a foil, and the pictures that they describe."""

    def __init__(self) -> None:
        super().__init__()
        self._scenes: dict[str, Scene] = {}

    def add(self, prompt: Prompt, scene: Scene) -> None:
        """Add a pair and its scene."""
        self.append(prompt)
        self._scenes[prompt.picture] = scene

    def picture_of(self, prompt: Prompt) -> Tensor:
        """Return the picture of a pair, (3, 32, 32) in [-1, 1]."""
        import torch

        return torch.from_numpy(render(self._scenes[prompt.picture]))


def caption_pairs(category: PairCategory, limit: int, seed: int) -> CaptionPairs:
    """Return pairs of captions with rendered scenes.

    ``colour`` and ``shape`` change one attribute of a single object. ``swap`` exchanges the colours of two objects, so
    both captions have the same words. ``relation`` states the opposite relation.

    :param limit: number of pairs of each category.
    :raises UsageError: ``limit`` is below 1.
    """
    if limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    found = CaptionPairs()
    for name, draw in _DRAWN.items():
        if category not in ("all", name):
            continue
        rng = random.Random(f"pairs/{name}/{seed}")
        for number in range(limit):
            right, wrong, scene = _pair(draw, rng)
            picture = f"{name}-{seed}-{number}.png"
            found.add(Prompt(wording(right), name, foil=wording(wrong), picture=picture), scene)
    return found


def _pair(
    draw: Callable[[random.Random], tuple[Description, Description]], rng: random.Random
) -> tuple[Description, Description, Scene]:
    for _ in range(_TRIES):
        right, wrong = draw(rng)
        scene = scene_for(right, rng)
        if not true_of(wrong, scene):
            return right, wrong, scene
    raise UsageError("found no scene that distinguishes the captions")


def _colour(rng: random.Random) -> tuple[Description, Description]:
    shape, (first, second) = rng.choice(SHAPES), rng.sample(tuple(COLOURS), 2)
    return Description((Phrase(shape, first),)), Description((Phrase(shape, second),))


def _shape(rng: random.Random) -> tuple[Description, Description]:
    (first, second), colour = rng.sample(SHAPES, 2), rng.choice(tuple(COLOURS))
    return Description((Phrase(first, colour),)), Description((Phrase(second, colour),))


def _two(rng: random.Random) -> tuple[Phrase, Phrase]:
    shapes, colours = rng.sample(SHAPES, 2), rng.sample(tuple(COLOURS), 2)
    return Phrase(shapes[0], colours[0]), Phrase(shapes[1], colours[1])


def _swap(rng: random.Random) -> tuple[Description, Description]:
    a, b = _two(rng)
    return Description((a, b)), Description((replace(a, colour=b.colour), replace(b, colour=a.colour)))


def _relation(rng: random.Random) -> tuple[Description, Description]:
    phrases, relation = _two(rng), rng.choice(RELATIONS)
    return Description(phrases, relation), Description(phrases, LANGUAGE.opposite[relation])


_DRAWN = {"colour": _colour, "shape": _shape, "swap": _swap, "relation": _relation}
