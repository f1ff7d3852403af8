"""Tiny random UNet2DModels and pipelines of diffusers, and a guidance model with a closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from guidelens.contracts import TextBatch
from torch import Tensor

TINY: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}

STEPS = 20


def tiny_unet(seed: int = 0, **changes: Any) -> UNet2DModel:
    """A network whose weights are all random, biases and norms included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DModel(**{**TINY, **changes})
        for parameter in unet.parameters():
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return unet.eval().requires_grad_(False)


def ddpm(**changes: Any) -> DDPMScheduler:
    """A scheduler of few steps that reaches noise."""
    return DDPMScheduler(**{"num_train_timesteps": STEPS, "beta_start": 0.01, "beta_end": 0.4, **changes})


def ddim(**changes: Any) -> DDIMScheduler:
    """The same process."""
    return DDIMScheduler(**{"num_train_timesteps": STEPS, "beta_start": 0.01, "beta_end": 0.4, **changes})


def save_pipeline(
    directory: Path, unet: UNet2DModel, scheduler: Any, *, safe: bool = True, **changes: Any
) -> Path:
    """Save both as DDPMPipeline.save_pretrained lays them out."""
    unet.save_pretrained(directory / "unet", safe_serialization=safe)
    scheduler.save_pretrained(directory / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", type(scheduler).__name__],
        **changes,
    }
    write_json(directory / "model_index.json", index)
    return directory


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


class Pull:
    """One objective: half the squared distance of every pixel to the number that the prompt is."""

    objectives = frozenset({"pull"})
    fingerprint = "pull"

    def encode_text(self, prompts: Any) -> TextBatch:
        return TextBatch(tuple(prompts), {"y": torch.tensor([float(prompt) for prompt in prompts])})

    def losses(self, images: Tensor, text: TextBatch, objectives: Any) -> dict[str, Tensor]:
        y = text.tensors["y"].to(images).reshape(-1, 1, 1, 1)
        return {"pull": (images - y).square().sum(dim=(1, 2, 3)) / 2}


class Always:
    """The schedule that keeps ``pull`` on."""

    def weights(self, progress: float) -> dict[str, float]:
        return {"pull": 1.0}
