"""The interface of a world for the training of a BLIP: scenes, captions, and the labels of each patch."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """A batch of images (B, 3, H, W) in [-1, 1], each with a true and a false caption.

    ``truth[i, j]``: caption j is true of image i. The diagonal is True.
    """

    scenes: list[Any]
    images: Tensor
    captions: list[str]
    false_captions: list[str]
    truth: Tensor


@dataclass(frozen=True)
class BlipWorld:
    """A world for the training of a BLIP. Scenes are opaque objects to the training.

    :param vocab: the WordPiece vocabulary.
    :param label_sizes: number of values of each attribute of a thing, without "nothing".
    :param num_places: number of values of :attr:`place_labels`.
    :param random_scene: (rng, number of things or None) -> scene.
    :param picture: scene -> (3, H, W) in [-1, 1].
    :param draw_scenes: (rng, B, share of scenes of two kinds) -> scenes and their pictures (B, 3, H, W).
    :param draw_pairs: (rng, scenes, pictures, share of captions about a relation) -> captions.
    :param patch_targets: (scenes, patches per side) -> labels (B, patches, attributes), where the number of values of
        an attribute means "nothing", and centres (B, patches, 2) of the thing in each patch.
    :param place_labels: scenes -> label (B,) of the ground of each scene.
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
