"""Check that a generator's output is its ``prediction``, at the noise levels of its timesteps.

A network that predicts E[x0 | x_t] has properties that do not depend on its data. With x_t = sqrt(abar) x0 + sqrt(1 -
abar) eps and sigma = sqrt((1 - abar) / abar):

- its error is at most that of not removing the noise (sigma), and that of a gray picture (the rms of x0);
- the share c of the noise in its answer is not negative, and at most the smaller of sigma and 1 / sigma: dE[x0 |
    x_t]/dx_t is sqrt(abar) / (1 - abar) times the posterior covariance, which is positive semidefinite, and the
    variance of a pixel in [-1, 1] is at most 1.

These hold on average over the training data. The check uses coarse samples of the network instead. They show best
whether noise and timesteps agree, because such errors add up over the sampling steps. Pictures of its domain, if
given, show whether it learned that domain. A wrong kind of prediction violates the properties clearly at some noise
level, and so do clearly wrong timesteps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from guidelens.contracts import Generator, Prediction
from guidelens.diffusion.process import DiffusionProcess, split_output
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError
from guidelens.guarding import is_latent, predict
from guidelens.sampling import Sampling

from .checklist import Failed, Numbers

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Values of sigma. For x0, values below 0.1 are left out, because its error does not vanish with the noise."""
LARGEST_ERROR = 1.05
"""Largest error, relative to the smaller error of the two naive answers: slightly above 1."""
LEAST_LEFTOVER = -0.1
LARGEST_LEFTOVER = 1.05
"""Smallest share of noise in the answer, and the largest relative to its bound."""
_LEAST_RMS = 0.25  # for pictures: coarse samples of a narrow distribution are narrower than its data
_SAMPLING_STEPS = 10
_PIXELS = 6_000  # averages over this number of values vary by one or two percent
_MOST_IMAGES = 64
_BATCH = 8


@dataclass(frozen=True)
class _Level:
    """Measurements at one noise level.

    :param error: error of x0, relative to the smaller naive error.
    :param leftover: c, the share of the noise in x0.
    :param bound: bound of c.
    """

    sigma: float
    error: float
    leftover: float
    bound: float

    @property
    def fault(self) -> str:
        """The violated property, or an empty text."""
        at = f"at sigma {self.sigma:.2g}"
        if not self.error <= LARGEST_ERROR:
            return (
                f"{at} its x0 is off {self.error:.3g} times as much as the better of two naive answers (the noisy "
                f"picture itself, and gray), and at most {LARGEST_ERROR:g} is allowed"
            )
        if self.leftover < LEAST_LEFTOVER:
            return f"{at} its x0 contains {self.leftover:.2f} times the noise, and it cannot be negative"
        if self.leftover > LARGEST_LEFTOVER * self.bound:
            most = LARGEST_LEFTOVER * self.bound
            return f"{at} its x0 contains {self.leftover:.2f} times the noise; at most {most:.2f} is allowed"
        return ""


class _Labelled:
    """A generator whose output is interpreted as another prediction."""

    def __init__(self, generator: Generator, prediction: Prediction) -> None:
        self._generator = generator
        self.prediction = prediction
        self.image_shape = generator.image_shape
        self.alphas_cumprod = generator.alphas_cumprod
        self.learned_variance = generator.learned_variance
        self.fingerprint = ""
        self.latent = is_latent(generator)

    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        return predict(self._generator, x_t, timesteps)


def check_denoising(generator: Generator, images: Tensor | None, device: torch.device) -> Numbers:
    """Check that the network denoises, given its ``prediction``.

    :param images: pictures (B, C, H, W) in [-1, 1] of its domain, in addition to its own samples.
    :raises Failed: it does not. The message names another prediction that would fit.
    """
    levels = _levels(generator, generator.prediction, images, device)
    worst = max(level.error for level in levels)
    fault = next((level.fault for level in levels if level.fault), "")
    if fault:
        others = [p for p in get_args(Prediction) if p != generator.prediction]
        fitting = [p for p in others if _fits(generator, p, images, device)]
        hint = (
            f"taken for {fitting[0]!r} it would denoise"
            if len(fitting) == 1  # a network that fits several predictions denoises with none of them
            else "is it trained, and are timesteps and alphas_cumprod those it was trained with?"
        )
        raise Failed(f"as {generator.prediction!r}: {fault}; {hint}", worst_error=worst)
    return {"worst error": worst, "most noise left": max(level.leftover for level in levels)}


def _fits(generator: Generator, prediction: Prediction, images: Tensor | None, device: torch.device) -> bool:
    try:
        return not any(level.fault for level in _levels(generator, prediction, images, device))
    except GuidelensError:  # its samples are not even finite
        return False


def _levels(
    generator: Generator, prediction: Prediction, images: Tensor | None, device: torch.device
) -> list[_Level]:
    """Measure at all noise levels, on its own samples and on given pictures of its domain."""
    labelled = _Labelled(generator, prediction)
    process = DiffusionProcess(generator.alphas_cumprod)
    sigmas = (1 / process.alphas_cumprod - 1).sqrt()
    wanted = [level for level in LEVELS if prediction != "x0" or level >= 0.1]
    chosen = dict.fromkeys(int((sigmas.log() - torch.tensor(w).log()).abs().argmin()) for w in wanted)
    return [
        _level(labelled, process, pictures.to(device, torch.float32), index, sigmas[index].item())
        for pictures in (_samples(labelled, device), images)
        if pictures is not None
        for index in chosen
    ]


def _samples(generator: Any, device: torch.device) -> Tensor:
    """Draw a few pictures, coarsely."""
    channels, height, width = generator.image_shape
    count = max(1, min(_MOST_IMAGES, _PIXELS // (channels * height * width)))
    steps = min(_SAMPLING_STEPS, len(generator.alphas_cumprod))
    # Without a decoder latents are drawn like pictures of any number of channels, and must not be clamped.
    sampling = Sampling(steps=steps, sampler="ddim", clip_denoised=not generator.latent)
    engine = Engine(generator, None, sampling, device=str(device))
    drawn = []
    for start in range(0, count, _BATCH):
        seeds = range(start, min(start + _BATCH, count))
        *_, last = engine.stream([Sample("", None, seed) for seed in seeds])
        drawn.append(last.sample)
    samples = torch.cat(drawn).cpu()
    return samples if generator.latent else samples.clamp(-1, 1)


@torch.no_grad()
def _level(
    generator: _Labelled, process: DiffusionProcess, pictures: Tensor, index: int, sigma: float
) -> _Level:
    """Measure at one timestep. Using the noise and its negative separates it from the picture."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(pictures.shape, generator=random).to(pictures)
    at = torch.full((len(pictures),), index)
    answers = []
    for sign in (1, -1):
        x_t = process.q_sample(pictures, at, sign * noise)
        output = torch.cat(
            [generator(x, t) for x, t in zip(x_t.split(_BATCH), at.to(x_t.device).split(_BATCH), strict=True)]
        )
        predicted, _ = split_output(output, x_t, generator.learned_variance)
        answers.append(process.predict_x0(predicted, x_t, at, generator.prediction))
    plus, minus = (answer.double() for answer in answers)
    truth, noise = pictures.double(), noise.double()
    error = ((plus - truth).square().mean() + (minus - truth).square().mean()).div(2).sqrt()
    power = noise.square().mean()
    rms = max(truth.square().mean().sqrt().item(), _LEAST_RMS)
    leftover = ((plus - minus) / 2 * noise).mean() / power
    return _Level(
        sigma=sigma,
        error=error.item() / min(sigma * power.sqrt().item(), rms),
        leftover=leftover.item(),
        # The variance of a pixel is at most 1; that of a latent, on average, at most their mean square.
        bound=min(sigma, (max(1.0, rms**2) if generator.latent else 1.0) / sigma),
    )
