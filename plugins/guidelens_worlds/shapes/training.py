"""Sizes of the networks of the shapes world."""

from __future__ import annotations

from typing import Any

from ..training.blip import small_blip
from .world import SIZE

UNET_FLAGS: dict[str, Any] = {
    "image_size": SIZE,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": [4, 8],
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 32,
    "use_scale_shift_norm": True,
}
CONFIG = small_blip(image_size=SIZE, patch_size=4)
