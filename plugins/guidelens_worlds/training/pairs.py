"""Image-text pairs for the training of a BLIP: true and false captions, labels of patches and places."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from guidelens_blip import WordPiece
from torch import Tensor

from ..description import Description, claims
from ..typos import can_be_misspelt, misspell
from ..world import PatchLabels, World
from .pictures import two_kinds

FULL_SHARE, TYPO_SHARE = 0.5, 0.06
"""Shares of captions that describe the whole scene, and of true captions with one misspelt word, as in web text."""
LEAST_COVER = 0.2
"""A patch with a smaller covered share shows nothing."""


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


def draw_pairs(
    world: World,
    rng: random.Random,
    scenes: Sequence[Any],
    images: Tensor,
    relation_share: float = 0.0,
    *,
    typo_share: float = TYPO_SHARE,
) -> Pairs:
    """Write a true and a false caption for each scene.

    :param relation_share: share of the scenes with two kinds whose caption mainly states their relation.
    :param typo_share: share of true captions with one misspelt word.
    """
    language = world.language
    descriptions, captions, false_captions = [], [], []
    for scene in scenes:
        description = language.describe(scene, rng, full=rng.random() < FULL_SHARE)
        if relation_share and rng.random() < relation_share and two_kinds(scene):
            description = language.describe_relation(scene, rng)
        wrong = language.corrupt(description, scene, rng) or _false_of(world, scene, rng)
        text = language.wording(description, rng)
        descriptions.append(description)
        typo = can_be_misspelt(text) and rng.random() < typo_share
        captions.append(misspell(text, rng) if typo else text)
        false_captions.append(language.wording(wrong, rng))
    return Pairs(list(scenes), images, captions, false_captions, truth_matrix(world, scenes, descriptions))


def _false_of(world: World, scene: Any, rng: random.Random) -> Description:
    """Return a description of another scene that was made false of this one."""
    while True:
        description = world.language.describe(world.random_scene(rng, None), rng)
        if corrupted := world.language.corrupt(description, scene, rng):
            return corrupted


def truth_matrix(world: World, scenes: Sequence[Any], descriptions: Sequence[Description]) -> Tensor:
    """Return whether each description is true of each scene: (scenes, descriptions), bool."""
    listed = [claims(description) for description in descriptions]
    holds = world.language.holds
    return torch.tensor([[all(holds(claim, scene) for claim in c) for c in listed] for scene in scenes])


def patch_targets(labels: PatchLabels, scenes: Sequence[Any], grid: int) -> tuple[Tensor, Tensor]:
    """Return labels (B, grid*grid, attributes) of the item that covers most of each patch, and centres
    (B, grid*grid, 2).

    Centres are (x, y) from the middle of the picture, in units of a quarter of its side. If less than a fifth of a
    patch is covered, its labels are the number of values of each attribute, which mean "nothing".
    """
    targets = torch.tensor([len(values) for values in labels.values]).repeat(len(scenes), grid * grid, 1)
    centres = torch.zeros(len(scenes), grid * grid, 2)
    for scene, target, centre in zip(scenes, targets, centres, strict=True):
        best = torch.full((grid * grid,), LEAST_COVER)
        for k, item in enumerate(scene.items):
            cover = torch.from_numpy(labels.cover(scene, k))
            size = len(cover)
            share = F.avg_pool2d(cover[None], size // grid).flatten()
            here = share > best
            best = torch.where(here, share, best)
            values = zip(labels.values, labels.of(item), strict=True)
            target[here] = torch.tensor([known.index(value) for known, value in values])
            centre[here] = (torch.tensor([item.x, item.y]) - labels.middle) / (size / 4)
    return targets, centres


def place_labels(world: World, scenes: Sequence[Any]) -> Tensor:
    """Return the index of the ground and sky of each scene, (B,)."""
    return torch.tensor([world.places.index((scene.ground, scene.sky)) for scene in scenes])


class CaptionIds:
    """Word-by-word cache of a WordPiece tokenizer, as training uses the same hundred words."""

    def __init__(self, wordpiece: WordPiece, max_length: int) -> None:
        self._pieces: Callable[[str], list[int]] = lru_cache(maxsize=100_000)(wordpiece.ids)
        self.cls, self.sep, self.pad = wordpiece.cls, wordpiece.sep, wordpiece.pad
        self.max_length = max_length

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask, (B, L) int64 each, [CLS] first and [SEP] last."""
        rows = []
        for text in texts:
            pieces = [piece for word in text.replace(",", " ,").split() for piece in self._pieces(word)]
            rows.append([self.cls, *pieces[: self.max_length - 2], self.sep])
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.pad] * (width - len(row)) for row in rows])
        return ids, (ids != self.pad).long()
