"""Pictures of random scenes, clean and degraded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..world import World


def pictures(world: World, scenes: Sequence[Any]) -> Tensor:
    """Draw scenes as (B, 3, H, W) in [-1, 1]."""
    return torch.stack([torch.from_numpy(world.render(scene)) for scene in scenes])


def draw_pictures(world: World, rng: random.Random, count: int) -> Tensor:
    """Draw pictures (B, 3, H, W) of random scenes."""
    return pictures(world, [world.random_scene(rng, None) for _ in range(count)])


def draw_scenes(
    world: World, rng: random.Random, count: int, pair_share: float = 0.0
) -> tuple[list[Any], Tensor]:
    """Draw scenes and their clean pictures (B, 3, H, W).

    :param pair_share: share of the scenes that always show two items of different kinds.
    """
    pairs = round(pair_share * count)
    scenes = [
        _scene_of_two_kinds(world, rng) if i < pairs else world.random_scene(rng, None) for i in range(count)
    ]
    return scenes, pictures(world, scenes)


def _scene_of_two_kinds(world: World, rng: random.Random) -> Any:
    while not two_kinds(scene := world.random_scene(rng, 2)):
        pass
    return scene


def two_kinds(scene: Any) -> bool:
    """Return whether a scene shows two items that differ in noun or colour."""
    return len(scene.items) == 2 and len({(item.noun, item.colour) for item in scene.items}) == 2


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
