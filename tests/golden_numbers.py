"""Reads tests/golden: numbers of the original guided-diffusion code, and its small network as a generator."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from guidelens_guided_diffusion import UNet
from safetensors import safe_open
from torch import Tensor

PATH = Path(__file__).parent / "golden" / "unet_uncond_updown.safetensors"
RESPACINGS = {"10": "10", "ddim10": "ddim10", "4-3-2": "4+3+2"}
"""Name in the file -> the respacing it stands for."""


@cache
def golden() -> dict[str, Tensor]:
    """Every tensor of the file that is no weight."""
    with safe_open(PATH, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if not name.startswith("weights/")}  # noqa: SIM118  # no dict


@cache
def golden_unet() -> UNet:
    """The small random network that the numbers were computed with."""
    with safe_open(PATH, "pt") as file:
        unet = UNet(**json.loads(file.metadata()["config"]))
        weights = {name: file.get_tensor(name) for name in file.keys() if name.startswith("weights/")}  # noqa: SIM118  # no dict
    unet.load_state_dict({name.removeprefix("weights/"): tensor for name, tensor in weights.items()})
    return unet.eval().requires_grad_(False)


class GoldenGenerator:
    """The small network with the linear 1000-step process."""

    image_shape = (3, 16, 16)
    prediction = "epsilon"
    learned_variance = True
    fingerprint = "golden"

    def __init__(self) -> None:
        from guidelens.diffusion import alphas_cumprod_of, beta_schedule

        self.alphas_cumprod = alphas_cumprod_of(beta_schedule("linear"))
        self.evaluations = 0

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        self.evaluations += 1
        return golden_unet()(x_t, timesteps)


def assert_most_close(actual: Tensor, expected: Tensor, *, atol: float, share: float) -> None:
    """Assert that at least ``share`` of the entries agree within ``atol``."""
    torch.testing.assert_close(actual.shape, expected.shape)
    agreeing = ((actual - expected).abs() <= atol).double().mean().item()
    assert agreeing >= share, f"only {agreeing:.2%} of the entries agree within {atol}"
