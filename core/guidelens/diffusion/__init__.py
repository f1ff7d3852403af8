"""The diffusion process, its noise and its samplers, independent of guidance models. Importing it loads torch."""

from __future__ import annotations

from ..contracts import FixedVariance
from .multistep import DPMSolver
from .noise import KeyedNoise, NoiseSource, NoiseStream, ReplayedNoise
from .paths import GaussianPath, PathGenerator, edm_path, flow_path, karras_sigmas
from .process import DiffusionProcess, PosteriorStep, alphas_cumprod_of, beta_schedule, space_timesteps
from .sampler_names import make_sampler
from .samplers import DDIM, DDPM, ReverseStep, Sampler

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolver",
    "DiffusionProcess",
    "FixedVariance",
    "GaussianPath",
    "KeyedNoise",
    "NoiseSource",
    "NoiseStream",
    "PathGenerator",
    "PosteriorStep",
    "ReplayedNoise",
    "ReverseStep",
    "Sampler",
    "alphas_cumprod_of",
    "beta_schedule",
    "edm_path",
    "flow_path",
    "karras_sigmas",
    "make_sampler",
    "space_timesteps",
]
