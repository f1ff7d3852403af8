"""Image-text pairs of the things world for training its BLIP: scenes, captions, false captions, labels of patches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from guidelens_blip import BlipConfig
from torch import Tensor

from ..description import Description
from ..shapes import BlipWorld, Pairs, misspell
from .language import corrupt, describe, describe_relation, true_of, wording
from .parse import covered
from .vocabulary import COLOURS, GROUNDS, NATURAL, SIZE, SIZES, SKIES, THINGS
from .world import Scene, random_scene, render, render_batch

VOCAB = Path(__file__).parent / "vocab" / "vocab.txt"
CONFIG = BlipConfig(
    image_size=SIZE,
    patch_size=8,
    vision_width=128,
    vision_depth=4,
    vision_heads=4,
    hidden_size=128,
    text_layers=3,
    text_heads=4,
    intermediate_size=512,
    max_positions=48,
    embed_dim=64,
    max_txt_len=40,
    dropout=0.0,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
)
_LABELS = (tuple(THINGS), (NATURAL, *COLOURS), tuple(SIZES))
"""Labels of a patch. The number of values of each attribute is the label for "nothing"."""
_LEAST_COVER = 0.2
"""A patch with a smaller covered share is labelled "nothing"."""
_FULL_SHARE, _TYPO_SHARE = 0.5, 0.06
"""Shares of captions that describe the whole scene, and of true captions with one misspelt word."""


def draw_scenes(rng: random.Random, count: int, pair_share: float = 0.0) -> tuple[list[Scene], Tensor]:
    """Draw scenes and their clean pictures (B, 3, H, W).

    :param pair_share: share of the scenes that always show two things of different kinds.
    """
    pairs = round(pair_share * count)
    scenes = [_scene_of_two_kinds(rng) if i < pairs else random_scene(rng) for i in range(count)]
    return scenes, torch.from_numpy(render_batch(scenes))


def _scene_of_two_kinds(rng: random.Random) -> Scene:
    while not _two_kinds(scene := random_scene(rng, 2)):
        pass
    return scene


def _two_kinds(scene: Scene) -> bool:
    return len(scene.items) == 2 and len({(item.thing, item.colour) for item in scene.items}) == 2


def draw_pairs(
    rng: random.Random, scenes: Sequence[Scene], images: Tensor, relation_share: float = 0.0
) -> Pairs:
    """Write a true and a false caption for each scene.

    :param relation_share: share of the scenes with two kinds whose caption mainly states their relation.
    """
    descriptions, captions, false_captions = [], [], []
    for scene in scenes:
        description = describe(scene, rng, full=rng.random() < _FULL_SHARE)
        if relation_share and rng.random() < relation_share and _two_kinds(scene):
            description = describe_relation(scene, rng)
        wrong = corrupt(description, scene, rng) or _elsewhere(scene, rng)
        text = wording(description, rng)
        long = any(len(word) >= 4 for word in text.split())
        descriptions.append(description)
        captions.append(misspell(text, rng) if long and rng.random() < _TYPO_SHARE else text)
        false_captions.append(wording(wrong, rng))
    truth = torch.tensor([[true_of(d, scene) for d in descriptions] for scene in scenes])
    return Pairs(list(scenes), images, captions, false_captions, truth)


def _elsewhere(scene: Scene, rng: random.Random) -> Description:
    """Return a description of another scene that is false of this one."""
    while True:
        description = describe(random_scene(rng), rng)
        if not true_of(description, scene):
            return description


def patch_targets(scenes: Sequence[Scene], grid: int) -> tuple[Tensor, Tensor]:
    """Return labels (B, grid*grid, 3) of the thing that covers most of each patch, and centres (B, grid*grid, 2).

    Centres are (x, y) from the middle of the picture, in units of a quarter of its side.
    """
    labels = torch.tensor([len(kind) for kind in _LABELS]).repeat(len(scenes), grid * grid, 1)
    centres = torch.zeros(len(scenes), grid * grid, 2)
    for scene, label, centre in zip(scenes, labels, centres, strict=True):
        best = torch.full((grid * grid,), _LEAST_COVER)
        for k, item in enumerate(scene.items):
            visible = covered([item]) * (1 - covered(scene.items[k + 1 :]))
            share = F.avg_pool2d(torch.from_numpy(visible)[None], SIZE // grid).flatten()
            here = share > best
            best = torch.where(here, share, best)
            values = (item.thing, item.colour, item.size)
            label[here] = torch.tensor(
                [kind.index(value) for kind, value in zip(_LABELS, values, strict=True)]
            )
            centre[here] = (torch.tensor([item.x, item.y]) - SIZE / 2) / (SIZE / 4)
    return labels, centres


def place_labels(scenes: Sequence[Scene]) -> Tensor:
    """Return one label per scene for its ground and sky together."""
    return torch.tensor(
        [GROUNDS.index(scene.ground) * len(SKIES) + SKIES.index(scene.sky) for scene in scenes]
    )


def picture(scene: Scene) -> Tensor:
    """Draw one scene (3, H, W)."""
    return torch.from_numpy(np.asarray(render(scene)))


BLIP_WORLD = BlipWorld(
    vocab=VOCAB,
    label_sizes=tuple(len(kind) for kind in _LABELS),
    num_places=len(GROUNDS) * len(SKIES),
    random_scene=random_scene,
    picture=picture,
    draw_scenes=draw_scenes,
    draw_pairs=draw_pairs,
    patch_targets=patch_targets,
    place_labels=place_labels,
)
