"""A small UNet whose every part matters, and the golden numbers of the original code."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from guidelens_guided_diffusion import UNet
from safetensors.torch import load_file, safe_open
from torch import Tensor, nn

GOLDEN = Path(__file__).parent.parent / "golden"

SMALL: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
    "num_head_channels": 16,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}


def lively(unet: UNet, seed: int = 0) -> UNet:
    """Redraw the weights, those that start at zero included: no block is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in unet.modules():
            for name, parameter in module.named_parameters(recurse=False):
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
                parameter.normal_(std=fan_in**-0.5, generator=generator)
                if isinstance(module, nn.GroupNorm) and name == "weight":
                    parameter.add_(1)
    return unet.eval().requires_grad_(False)


@cache
def golden() -> tuple[UNet, dict[str, Tensor]]:
    """The golden file: its network, and its numbers by name."""
    path = GOLDEN / "unet_uncond_updown.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        unet = UNet(**json.loads(file.metadata()["config"]))
    weights = {n.removeprefix("weights/"): v for n, v in tensors.items() if n.startswith("weights/")}
    unet.load_state_dict(weights)
    return unet.eval().requires_grad_(False), tensors
