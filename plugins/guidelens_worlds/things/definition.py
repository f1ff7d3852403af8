"""The things world as a description for training, evaluation and commands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..description import Phrase
from ..world import PatchLabels, World
from .compose import scene_for
from .files import FILES
from .language import LANGUAGE
from .metrics import ThingsMetric
from .parse import covered
from .prompts import PROMPTS
from .training import CONFIG, UNET_FLAGS
from .vocabulary import COLOURS, GROUNDS, NATURAL, SIZE, SIZES, SKIES, THINGS
from .world import Item, Scene, random_scene, render


def _labels_of(item: Item) -> tuple[str, ...]:
    return item.thing, item.colour, item.size


def _cover(scene: Scene, index: int) -> NDArray[np.float32]:
    """Return the part of a thing that later things do not hide."""
    return covered([scene.items[index]]) * (1 - covered(scene.items[index + 1 :]))


WORLD = World(
    name="things",
    files=FILES,
    language=LANGUAGE,
    prompts=PROMPTS,
    metric=ThingsMetric(),
    random_scene=random_scene,
    scene_for=scene_for,
    render=render,
    kinds=tuple(
        Phrase(name, None if colour == NATURAL else colour)
        for name, thing in THINGS.items()
        for colour in thing.colours
    ),
    places=tuple((ground, sky) for ground in GROUNDS for sky in SKIES),
    labels=PatchLabels(
        (tuple(THINGS), (NATURAL, *COLOURS), tuple(SIZES)), _labels_of, _cover, middle=SIZE / 2
    ),
    unet=UNET_FLAGS,
    blip=CONFIG,
    called={"noun": "thing", "items": "things"},
)
