"""The shapes world as a description for training, evaluation and commands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..description import Phrase
from ..world import PatchLabels, World
from .compose import scene_for
from .files import FILES
from .language import LANGUAGE
from .metrics import ShapesMetric
from .prompts import PROMPTS
from .training import CONFIG, UNET_FLAGS
from .world import BACKGROUNDS, COLOURS, SHAPES, SIZE, SIZES, Item, Scene, coverage, random_scene, render


def _labels_of(item: Item) -> tuple[str, ...]:
    return item.colour, item.shape, item.size


def _cover(scene: Scene, index: int) -> NDArray[np.float32]:
    item = scene.items[index]
    return coverage(item.shape, item.x, item.y, item.radius)


WORLD = World(
    name="shapes",
    files=FILES,
    language=LANGUAGE,
    prompts=PROMPTS,
    metric=ShapesMetric(),
    random_scene=random_scene,
    scene_for=scene_for,
    render=render,
    kinds=tuple(Phrase(shape, colour) for colour in COLOURS for shape in SHAPES),
    places=tuple((name, "") for name in BACKGROUNDS),
    labels=PatchLabels((tuple(COLOURS), SHAPES, tuple(SIZES)), _labels_of, _cover, middle=(SIZE - 1) / 2),
    unet=UNET_FLAGS,
    blip=CONFIG,
    called={
        "noun": "shape",
        "ground": "background",
        "ground_read": "background_in_palette",
        "items": "objects",
    },
)
