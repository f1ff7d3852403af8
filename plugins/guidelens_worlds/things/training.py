"""Sizes of the networks of the things world."""

from __future__ import annotations

from typing import Any

from ..training.blip import small_blip
from .vocabulary import SIZE

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
CONFIG = small_blip(image_size=SIZE, patch_size=8)
