"""Image-text pairs for training BLIP: scenes, captions, false captions, degraded pictures."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from guidelens_blip import WordPiece
from numpy.typing import NDArray
from torch import Tensor

from ..language import (
    RELATION_MARGIN,
    RELATIONS,
    Description,
    corrupt,
    describe,
    describe_relation,
    misspell,
    wording,
)
from ..world import BACKGROUNDS, COLOURS, MAX_OBJECTS, SHAPES, SIZES, Scene, random_scene, render
from .blip_world import Pairs

_ANY = -1  # an attribute that a phrase does not give
_NONE = -2  # an object or phrase that is not there


def draw_pairs(
    rng: random.Random,
    scenes: Sequence[Scene],
    images: Tensor,
    relation_share: float = 0.0,
    *,
    full_share: float = 0.5,
    typo_share: float = 0.06,
) -> Pairs:
    """Write a true and a false caption for each scene.

    :param relation_share: share of the scenes with two kinds whose caption mainly states their relation.
    :param full_share: share of captions that describe the whole scene.
    :param typo_share: share of true captions with one misspelt word, as in web text.
    """
    descriptions, captions, false_captions = [], [], []
    for scene in scenes:
        description = describe(scene, rng, full=rng.random() < full_share)
        if relation_share and rng.random() < relation_share and _two_kinds(scene):
            description = describe_relation(scene, rng)
        wrong = corrupt(description, scene, rng) or _elsewhere(scene, rng)
        text = wording(description, rng)
        descriptions.append(description)
        captions.append(misspell(text, rng) if rng.random() < typo_share else text)
        false_captions.append(wording(wrong, rng))
    return Pairs(
        list(scenes), images, captions, false_captions, torch.from_numpy(truth_matrix(scenes, descriptions))
    )


def _two_kinds(scene: Scene) -> bool:
    return len(scene.items) == 2 and len({(item.colour, item.shape) for item in scene.items}) == 2


def _elsewhere(scene: Scene, rng: random.Random) -> Description:
    """Return a description of another scene that is false of this one."""
    while True:
        description = describe(random_scene(rng), rng)
        if corrupted := corrupt(description, scene, rng):
            return corrupted


# --- truth of all captions on all scenes ---------------------------------------------------------------------


def truth_matrix(scenes: Sequence[Scene], descriptions: Sequence[Description]) -> NDArray[np.bool_]:
    """Return :func:`guidelens_worlds.shapes.language.true_of` for all pairs: (scenes, descriptions)."""
    items = np.array([_scene_row(scene) for scene in scenes])  # (S, item, 5): colour, shape, size, x, y
    texts = np.array([_text_row(description) for description in descriptions])  # (D, phrase, 4)
    colour, shape, size, x, y = (items[:, None, None, :, k] for k in range(5))  # (S, 1, 1, item)
    want_colour, want_shape, want_size, want_count = (
        texts[None, :, :, None, k] for k in range(4)
    )  # (1, D, phrase, 1)
    match = (
        (shape == want_shape)
        & ((want_colour == _ANY) | (colour == want_colour))
        & ((want_size == _ANY) | (size == want_size))
    )
    found, count = match.sum(-1), want_count[..., 0]
    absent = want_shape[..., 0] == _NONE
    true = (absent | np.where(count > 1, found == count, found >= 1)).all(-1)

    dx, dy = x[..., None, :] - x[..., :, None], y[..., None, :] - y[..., :, None]  # b - a: (S, 1, 1, a, b)
    stands = np.stack(
        [d[:, 0, 0] >= RELATION_MARGIN for d in (dx, -dx, dy, -dy)], axis=1
    )  # (S, relation, a, b)
    relation = np.array([RELATIONS.index(d.relation) if d.relation else 0 for d in descriptions])
    has_relation = np.array([d.relation is not None for d in descriptions])
    pairs = match[:, :, 0, :, None] & match[:, :, 1, None, :] & stands[:, relation]
    pairs &= ~np.eye(MAX_OBJECTS, dtype=bool)
    true &= ~has_relation | pairs.any((-1, -2))

    names = tuple(BACKGROUNDS)
    background = np.array([names.index(scene.background) for scene in scenes])
    wanted = np.array([names.index(d.background) if d.background else _ANY for d in descriptions])
    result: NDArray[np.bool_] = true & ((wanted == _ANY)[None] | (background[:, None] == wanted[None]))
    return result


_COLOUR_IDS = {name: i for i, name in enumerate(COLOURS)}
_SHAPE_IDS = {name: i for i, name in enumerate(SHAPES)}
_SIZE_IDS = {name: i for i, name in enumerate(SIZES)}


def _scene_row(scene: Scene) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = [
        (_COLOUR_IDS[o.colour], _SHAPE_IDS[o.shape], _SIZE_IDS[o.size], o.x, o.y) for o in scene.items
    ]
    return rows + [(9, 9, 9, 0.0, 0.0)] * (MAX_OBJECTS - len(rows))


def _text_row(description: Description) -> list[tuple[int, ...]]:
    rows: list[tuple[int, ...]] = [
        (
            _COLOUR_IDS[p.colour] if p.colour else _ANY,
            _SHAPE_IDS[p.shape],
            _SIZE_IDS[p.size] if p.size else _ANY,
            p.count,
        )
        for p in description.phrases
    ]
    return rows + [(_NONE, _NONE, _NONE, 1)] * (MAX_OBJECTS - len(rows))


# --- pictures ------------------------------------------------------------------------------------------------


def draw_scenes(rng: random.Random, count: int, pair_share: float = 0.0) -> tuple[list[Scene], Tensor]:
    """Draw scenes and their clean pictures (B, 3, H, W).

    :param pair_share: share of the scenes that always show two objects of different kinds.
    """
    pairs = round(pair_share * count)
    scenes = [_scene_of_two_kinds(rng) if i < pairs else random_scene(rng) for i in range(count)]
    return scenes, torch.stack([torch.from_numpy(render(scene)) for scene in scenes])


def _scene_of_two_kinds(rng: random.Random) -> Scene:
    while not _two_kinds(scene := random_scene(rng, 2)):
        pass
    return scene


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, fade towards the mean and add noise, each by a random amount. Imitates early x0 predictions."""
    batch = len(images)
    mean = images.mean((2, 3), keepdim=True)
    fade = torch.rand(batch, 1, 1, 1, generator=generator) ** 2 * 0.7
    blurred = torch.stack(
        [_blur(image, sigma) for image, sigma in zip(images, _sigmas(batch, generator), strict=True)]
    )
    noise = (
        torch.randn(images.shape, generator=generator)
        * torch.rand(batch, 1, 1, 1, generator=generator)
        * 0.15
    )
    return blurred + fade * (mean - blurred) + noise


def _sigmas(batch: int, generator: torch.Generator) -> list[float]:
    return (torch.rand(batch, generator=generator) * 2.5).tolist()


def _blur(image: Tensor, sigma: float) -> Tensor:
    kernel = _gaussian(round(max(sigma, 0.2), 1))
    pad = len(kernel) // 2
    channels = F.pad(image[:, None], (pad, pad, pad, pad), mode="replicate")
    channels = F.conv2d(channels, kernel.view(1, 1, 1, -1))
    return F.conv2d(channels, kernel.view(1, 1, -1, 1))[:, 0]


@lru_cache(maxsize=64)
def _gaussian(sigma: float) -> Tensor:
    at = torch.arange(-6, 7, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    return kernel / kernel.sum()


# --- text ids ------------------------------------------------------------------------------------------------


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
