"""Training of a small guided-diffusion UNet on rendered scenes of a world.

v-prediction (Salimans & Ho 2022, eq. for v in appendix D) on the cosine schedule (Nichol & Dhariwal 2021, eq. 17):
v = sqrt(abar) eps - sqrt(1 - abar) x0, loss ||v_theta - v||^2 with t uniform. With epsilon-prediction, the colour of
large areas drifts, because it is decided at the noisiest steps.

This loss weights the squared error of x0 by SNR + 1, so the steps with least noise dominate it, although x0 is nearly
visible there. With ``noisy_steps``, the weight is at most :data:`WEIGHT_LIMIT` (compare min-SNR, Hang et al. 2023) and
t = T u^0.6 with u uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from guidelens.diffusion import DiffusionProcess, alphas_cumprod_of, beta_schedule
from guidelens_guided_diffusion import UNet, save_generator
from torch import Tensor

from ..world import World
from .common import Fit, Run, Settings, step_rngs
from .pictures import draw_pictures

WEIGHT_LIMIT = 5.0
"""Largest weight of the squared error of x0 with ``noisy_steps``. It is reached at an SNR of 4."""
TIMESTEP_POWER = 0.6
"""t = T u^power with ``noisy_steps``: 13 % of the timesteps are below 0.3 T, 45 % above 0.7 T."""


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining(Settings):
    """Settings of a training.

    :param unet: the size of the network, as in :class:`guidelens_guided_diffusion.UNet`.
    :param images: number of pictures to train on.
    :param noisy_steps: train more on noisy timesteps, where the things are decided, and less on the others.
    """

    unet: dict[str, Any]
    images: int = 400_000
    batch_size: int = 32
    peak_rate: float = 1.5e-3
    weight_decay: float = 0.01
    ema_decay: float = 0.9995
    noisy_steps: bool = False

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.images // self.batch_size


def train_generator(
    folder: Path,
    settings: GeneratorTraining,
    world: World,
    *,
    init: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    save_every: int = 250,
    compiled: bool = False,
) -> Path:
    """Train, or resume the training in ``folder``, and write ``generator.safetensors`` there.

    :param init: the ``last.pt`` of an earlier training. Training starts from its averaged weights.
    :param progress: called after each step with (steps done, total steps, loss).
    :param compiled: run the network with ``torch.compile``: about a fifth faster, after two minutes of compilation.
    :returns: the path of the weights (the EMA).
    """
    run = Run(folder, asdict(settings))
    torch.manual_seed(settings.seed)
    model = UNet(**settings.unet).to(memory_format=torch.channels_last)
    fit = Fit(run, model, settings, None if init is None else lambda: _load_averages(model, init))
    process = DiffusionProcess(alphas_cumprod_of(beta_schedule("cosine")))
    path = folder / "generator.safetensors"
    if compiled:
        model.compile()
    for step in range(fit.start, settings.steps):
        loss = _loss(model, process, settings, step, world)
        fit.take_step(step, loss, {"loss": loss})
        done = step + 1
        if progress is not None:
            progress(done, settings.steps, fit.running["loss"])
        if fit.is_due(done, save_every):
            run.save(fit.state(done))
            recent = round(fit.running["loss"], 5)
            run.log(step=done, images=done * settings.batch_size, loss=recent, rate=fit.rate(step))
            with fit.ema.averaged():
                save_generator(path, model, settings.unet, schedule="cosine", prediction="v")
    return path


def _load_averages(model: UNet, checkpoint: Path) -> None:
    """Give a network the averaged weights of an earlier training."""
    averages = torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"]
    with torch.no_grad():
        for parameter, average in zip(model.parameters(), averages, strict=True):
            parameter.copy_(average)


def _loss(
    model: UNet, process: DiffusionProcess, settings: GeneratorTraining, step: int, world: World
) -> Tensor:
    """Return the mean squared error of v over a new batch, weighted if ``noisy_steps``."""
    rng, noise_rng = step_rngs(settings.seed, step)
    x0 = draw_pictures(world, rng, settings.batch_size)
    index = _timesteps(process.num_steps, len(x0), settings, noise_rng)
    noise = torch.randn(x0.shape, generator=noise_rng)
    abar = process.alphas_cumprod[index].float()[:, None, None, None]
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    v = abar.sqrt() * noise - (1 - abar).sqrt() * x0
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model(x_t.to(memory_format=torch.channels_last), index)
    error = (predicted.float() - v).square()
    # v - v_theta = (x0_theta - x0) sqrt(SNR + 1), and SNR + 1 = 1 / (1 - abar)
    return ((WEIGHT_LIMIT * (1 - abar)).clamp(max=1) * error if settings.noisy_steps else error).mean()


def _timesteps(total: int, count: int, settings: GeneratorTraining, rng: torch.Generator) -> Tensor:
    """Draw timesteps, an index each."""
    if not settings.noisy_steps:
        return torch.randint(0, total, (count,), generator=rng)
    return (total * torch.rand(count, generator=rng) ** TIMESTEP_POWER).long().clamp(max=total - 1)
