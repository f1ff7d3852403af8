"""The interface of a world for training, evaluation and commands. They treat its scenes as opaque objects."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from guidelens_blip import BlipConfig
from numpy.typing import NDArray

from .description import Description, Phrase
from .files import WorldFiles
from .language import Change, Language
from .metrics import SceneMetric
from .prompts import PromptSet

Array = NDArray[np.float32]


@dataclass(frozen=True)
class PatchLabels:
    """What the vision transformer learns to see in each patch of a picture.

    :param values: values of each attribute of an item.
    :param of: item -> its value of each attribute.
    :param cover: (scene, index of an item) -> how much of each pixel (H, W) shows this item, in [0, 1].
    :param middle: coordinate of the middle of a picture, in the units of ``item.x`` and ``item.y``.
    """

    values: tuple[Sequence[str], ...]
    of: Callable[[Any], tuple[str, ...]]
    cover: Callable[[Any, int], Array]
    middle: float


@dataclass(frozen=True)
class World:
    """A world.

    :param name: its name for users.
    :param files: the files that are included in it.
    :param language: its sentences.
    :param prompts: its prompt sets.
    :param metric: its metric, which has the parser.
    :param random_scene: (rng, number of items or None) -> scene.
    :param scene_for: (description, rng) -> a scene of which it is true.
    :param render: scene -> picture (3, H, W) in [-1, 1].
    :param kinds: names of all kinds of a single item, for zero-shot naming.
    :param places: all pairs of a ground and a sky.
    :param labels: labels of patches.
    :param unet: flags of the generator's UNet.
    :param blip: size of its BLIP.
    :param called: word of the framework (``noun``, ``ground``, ``items``, ...) -> word that its reports use instead.
    """

    name: str
    files: WorldFiles
    language: Language
    prompts: PromptSet
    metric: SceneMetric
    random_scene: Callable[[random.Random, int | None], Any]
    scene_for: Callable[[Description, random.Random], Any]
    render: Callable[[Any], Array]
    kinds: Sequence[Phrase]
    places: Sequence[tuple[str, str]]
    labels: PatchLabels
    unet: Mapping[str, Any]
    blip: BlipConfig
    called: Mapping[str, str]

    def word(self, word: str) -> str:
        """Return the word that the reports of this world use."""
        return self.called.get(word, word)

    @property
    def changes(self) -> list[Change]:
        """The changes of a false caption, each once."""
        changes = list(dict.fromkeys(self.language.changes))
        changes.insert(changes.index("ground"), "relation")
        return changes
