"""The diffusion process, its noise and its samplers, apart from any guidance model. Loads torch."""

from __future__ import annotations

from .noise import NoiseSource, NoiseStream, ReplayedNoise
from .process import DiffusionProcess, PosteriorStep, alphas_cumprod_of, beta_schedule, space_timesteps
from .samplers import DDIM, DDPM, ReverseStep, Sampler, make_sampler

__all__ = [
    "DDIM",
    "DDPM",
    "DiffusionProcess",
    "NoiseSource",
    "NoiseStream",
    "PosteriorStep",
    "ReplayedNoise",
    "ReverseStep",
    "Sampler",
    "alphas_cumprod_of",
    "beta_schedule",
    "make_sampler",
    "space_timesteps",
]
