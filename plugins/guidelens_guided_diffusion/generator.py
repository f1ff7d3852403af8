"""A UNet and its training process as a guidelens generator; reading and writing it as safetensors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from guidelens.bench import REFERENCE, Alternative
from guidelens.contracts import Prediction
from guidelens.diffusion import alphas_cumprod_of, beta_schedule
from guidelens.errors import GuidelensError, UsageError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoint import FORMAT, Checkpoint, build_unet, read_checkpoint
from .flags import UNetFlags
from .presets import ScheduleName
from .reference import ReferenceUNet
from .unet import UNet
from .untrained import untrained_unet

PREDICTIONS = ("epsilon", "x0", "v")


class GuidedDiffusionGenerator(nn.Module):
    """A guided-diffusion UNet as :class:`guidelens.contracts.Generator`.

    ``GuidedDiffusionGenerator(UNet(**flags))`` is one with random weights, for tests and timings.

    :param unet: the network, which is frozen; its output channels decide whether the variance is learned.
    :param schedule: the training noise schedule, ``linear`` or ``cosine``.
    :param num_timesteps: T of the training process.
    :param prediction: what the first channels of the output are.
    :param fingerprint: identifies architecture, process and weights; computed where it is not given.
    :raises UsageError: the network is class-conditional, its output has neither C nor 2C channels, or no such
        process exists.
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
        if unet.num_classes is not None:
            raise UsageError("a class-conditional UNet cannot be a generator: a generator knows no labels")
        if unet.out_channels not in (unet.in_channels, 2 * unet.in_channels):
            raise UsageError(
                f"a generator's output has C channels, or 2C where the variance is learned; this UNet maps "
                f"{unet.in_channels} to {unet.out_channels}"
            )
        if prediction not in PREDICTIONS:
            raise UsageError(f"unknown prediction {prediction!r}; choose {', '.join(PREDICTIONS)}")
        self.unet = unet.eval().requires_grad_(False)
        self.image_shape = (unet.in_channels, unet.image_size, unet.image_size)
        self.alphas_cumprod = alphas_cumprod_of(beta_schedule(schedule, num_timesteps))
        self.prediction: Prediction = prediction
        self.learned_variance = unet.out_channels == 2 * unet.in_channels
        process = {"schedule": schedule, "num_timesteps": num_timesteps, "prediction": prediction}
        self.fingerprint = fingerprint or fingerprint_of(unet, {"flags": unet.flags.identity(), **process})

    def forward(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        """Map (B, C, H, W) and training timesteps (B,) to (B, C or 2C, H, W)."""
        return self.unet(x_t, timesteps)

    def alternatives(self) -> dict[str, Alternative]:
        """Return other implementations of this very network, for ``guidelens bench --against NAME``."""
        return {
            REFERENCE: Alternative(
                lambda: ReferenceUNet(self.unet.flags, self.unet.state_dict()),
                "as published: the network evaluated twice per step, in float32, operation by operation",
                passes=2,
                float32=True,
            ),
            "diffusers": Alternative(
                lambda: _in_diffusers(self.unet), "the same network as a UNet2DModel of diffusers"
            ),
        }


def _in_diffusers(unet: UNet) -> Callable[[Tensor, Tensor], Tensor]:
    if find_spec("diffusers") is None:
        raise GuidelensError("to compare with diffusers, install it: guidelens install diffusers")
    from guidelens_diffusers import as_unet2d_model

    model = as_unet2d_model(unet.flags.to_dict(), unet.state_dict()).requires_grad_(False)
    return lambda x_t, timesteps: model(x_t, timesteps, return_dict=False)[0]


def fingerprint_of(module: nn.Module, description: Mapping[str, Any]) -> str:
    """Return 16 hex digits of the SHA-256 of a description and of a module's state: names, shapes, values.

    Values are hashed as little-endian float32, one tensor at a time, so that neither device nor file format
    nor storage precision matters, only what the network computes with: weights that were rounded when they
    were stored in half precision are other weights, whatever file they are copied to. A float32 tensor on the
    CPU is not copied.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(values.astype("<f4", copy=False).reshape(-1).data.cast("B"))
    return digest.hexdigest()[:16]


def save_generator(
    path: Path,
    unet: UNet,
    flags: Mapping[str, Any],
    *,
    schedule: ScheduleName,
    prediction: Prediction,
    num_timesteps: int = 1000,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights and everything needed to rebuild them into one safetensors file, atomically.

    :param flags: the constructor flags of ``unet``, kept as JSON in the file's metadata.
    :param dtype: storage type of the weights; half precision halves the file. They load as float32.
    :raises UsageError: ``flags`` describe another network.
    :raises GuidelensError: the file cannot be written.
    """
    if UNetFlags.from_mapping(flags).identity() != unet.flags.identity():
        raise UsageError("the flags to save are not the ones that the UNet was built with")
    description = {
        "flags": dict(flags),
        "schedule": schedule,
        "prediction": prediction,
        "num_timesteps": num_timesteps,
    }
    tensors = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in unet.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={"format": FORMAT, "description": json.dumps(description)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise GuidelensError(f"cannot write the generator {path}: {error}") from error


def load_generator(path: Path) -> GuidedDiffusionGenerator:
    """Read a file that :func:`save_generator` wrote. Loading executes no code from the file.

    :raises GuidelensError: the file is missing, unreadable, or not a guidelens generator.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.description is None:
        raise GuidelensError(f"{path} is no guidelens generator: its metadata lacks format={FORMAT}")
    return described_generator(checkpoint, checkpoint.description, source=str(path))


def untrained_generator(
    description: Mapping[str, Any], *, use_checkpoint: bool = False
) -> GuidedDiffusionGenerator:
    """Build what ``description`` says with random weights, the same at every call; see :mod:`.untrained`."""
    flags = UNetFlags.from_mapping({**description["flags"], "use_checkpoint": use_checkpoint})
    process = {name: value for name, value in description.items() if name != "flags"}
    return GuidedDiffusionGenerator(untrained_unet(flags), **process)


def described_generator(
    checkpoint: Checkpoint, description: Mapping[str, Any], *, source: str, use_checkpoint: bool = False
) -> GuidedDiffusionGenerator:
    """Build what ``description`` says around the tensors of ``checkpoint``.

    :param description: with the entries that a guidelens file has (:mod:`.checkpoint`).
    :param source: names the file in errors.
    :param use_checkpoint: trade compute for memory in gradients.
    :raises GuidelensError: the description or the tensors do not fit.
    """
    try:
        flags = UNetFlags.from_mapping({**description["flags"], "use_checkpoint": use_checkpoint})
    except UsageError as error:  # not the user's spelling: the file's
        raise GuidelensError(f"{source}: {error}") from error
    return GuidedDiffusionGenerator(
        build_unet(flags, checkpoint.state, source=source),
        schedule=description["schedule"],
        num_timesteps=description["num_timesteps"],
        prediction=description["prediction"],
    )
