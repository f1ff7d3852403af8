"""Training recipes of the things models. They use the trainers of the shapes world."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..shapes import BlipTraining, GeneratorTraining
from .pairs import CONFIG
from .vocabulary import SIZE
from .world import random_scene, render_batch

UNET_FLAGS: dict[str, Any] = {
    "image_size": SIZE,
    "in_channels": 3,
    "model_channels": 64,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": [4],
    "channel_mult": [1, 2, 3],
    "num_head_channels": 32,
    "use_scale_shift_norm": True,
    "conv_resample": False,
    "patch_size": 2,
}
"""6.9 million parameters. Patches of two pixels and resampling without convolutions make training fast on a CPU."""


def draw_things(rng: random.Random, count: int) -> Tensor:
    """Draw pictures (B, 3, SIZE, SIZE) of random scenes."""
    return torch.from_numpy(render_batch([random_scene(rng) for _ in range(count)]))


def generator_training(images: int, **changes: Any) -> GeneratorTraining:
    """Return the settings of a training of the generator. The recipe is in docs/things.md."""
    return GeneratorTraining(images=images, unet=dict(UNET_FLAGS), **changes)


def blip_training(**changes: Any) -> BlipTraining:
    """Return the settings of a training of the BLIP."""
    return BlipTraining(config=asdict(CONFIG), **changes)
