"""A UNet and its training process as a guidelens generator; reading and writing it as safetensors."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from guidelens.contracts import Prediction
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.errors import GuidelensError

from .unet import UNet

ScheduleName = Literal["linear", "cosine"]
FORMAT = "guidelens-generator-1"


class GuidedDiffusionGenerator(nn.Module):
    """A guided-diffusion UNet as :class:`guidelens.contracts.Generator`.

    :param unet: the network; its output channels decide whether the variance is learned.
    :param schedule: the training noise schedule, ``linear`` or ``cosine``.
    :param num_timesteps: T of the training process.
    :param prediction: what the first channels of the output are.
    :param fingerprint: identifies the weights; computed from them where it is not given.
    """

    def __init__(
        self,
        unet: UNet,
        *,
        schedule: ScheduleName = "linear",
        num_timesteps: int = 1000,
        prediction: Prediction = "epsilon",
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet.eval().requires_grad_(False)
        self.image_shape = (unet.in_channels, unet.image_size, unet.image_size)
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule(schedule, num_timesteps))
        self.prediction: Prediction = prediction
        self.learned_variance = unet.out_channels == 2 * unet.in_channels
        self.fingerprint = fingerprint or fingerprint_of(unet, f"{schedule}/{num_timesteps}/{prediction}")

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Map (B, C, H, W) and training timesteps (B,) to (B, C or 2C, H, W)."""
        return self.unet(x_t, timesteps)


def fingerprint_of(module: nn.Module, extra: str = "") -> str:
    """Return 16 hex digits of a hash over names, shapes and values of a module's state."""
    digest = hashlib.sha256(extra.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_generator(
    path: Path,
    unet: UNet,
    flags: dict[str, Any],
    *,
    schedule: ScheduleName,
    prediction: Prediction,
    num_timesteps: int = 1000,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights and everything needed to rebuild them into one safetensors file, atomically.

    :param flags: the constructor flags of ``unet``, kept as JSON in the file's metadata.
    :param dtype: storage type of the weights; half precision halves the file.
    """
    description = {
        "flags": flags,
        "schedule": schedule,
        "prediction": prediction,
        "num_timesteps": num_timesteps,
    }
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in unet.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"format": FORMAT, "description": json.dumps(description)})
    os.replace(temporary, path)


def load_generator(path: Path) -> GuidedDiffusionGenerator:
    """Read a file that :func:`save_generator` wrote. Loading executes no code from the file.

    :raises GuidelensError: the file is missing, unreadable, or not a guidelens generator.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise GuidelensError(f"cannot read generator {path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise GuidelensError(f"{path} is no guidelens generator: its metadata lacks format={FORMAT}")
    description = json.loads(metadata["description"])
    unet = UNet(**description["flags"])
    unet.load_state_dict(tensors)
    return GuidedDiffusionGenerator(
        unet,
        schedule=cast(ScheduleName, description["schedule"]),
        num_timesteps=description["num_timesteps"],
        prediction=cast(Prediction, description["prediction"]),
    )
