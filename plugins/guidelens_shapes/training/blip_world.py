"""What the training of a BLIP asks of a world: its scenes, their captions, and what each patch of a picture shows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """A batch: images (B, 3, H, W) in [-1, 1], a true and a false caption each, and which captions are true of which.

    ``truth[i, j]`` is whether caption j is true of image i; the diagonal is True.
    """

    scenes: list[Any]
    images: Tensor
    captions: list[str]
    false_captions: list[str]
    truth: Tensor


@dataclass(frozen=True)
class BlipWorld:
    """A world as the training of a BLIP sees it. Scenes are the world's own objects, passed through.

    :param vocab: the WordPiece vocabulary.
    :param label_sizes: how many values each attribute of a thing has, besides "nothing".
    :param num_places: how many values :attr:`place_labels` has.
    :param random_scene: (rng, number of things or None) -> scene.
    :param picture: scene -> (3, H, W) in [-1, 1].
    :param draw_scenes: (rng, B, share of scenes of two kinds) -> scenes and their pictures (B, 3, H, W).
    :param draw_pairs: (rng, scenes, pictures, share of captions about a relation) -> captions.
    :param patch_targets: (scenes, patches a side) -> labels (B, patches, attributes), where the size of an attribute
        stands for nothing, and centres (B, patches, 2) of the thing there.
    :param place_labels: scenes -> label (B,) of the ground of each.
    """

    vocab: Path
    label_sizes: tuple[int, ...]
    num_places: int
    random_scene: Callable[[random.Random, int | None], Any]
    picture: Callable[[Any], Tensor]
    draw_scenes: Callable[[random.Random, int, float], tuple[list[Any], Tensor]]
    draw_pairs: Callable[[random.Random, list[Any], Tensor, float], Pairs]
    patch_targets: Callable[[list[Any], int], tuple[Tensor, Tensor]]
    place_labels: Callable[[list[Any]], Tensor]
