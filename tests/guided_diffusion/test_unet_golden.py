"""The UNet held to the original guided-diffusion code: numbers of a small one, names of the published one."""

from __future__ import annotations

import json

import pytest
import torch
from guidelens_guided_diffusion import PRESETS, UNet
from small_unet import GOLDEN, golden


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def test_forward_is_the_originals() -> None:
    unet, numbers = golden()
    with torch.no_grad():
        out = unet(numbers["forward/x"], numbers["forward/t"])
    assert out.shape == (2, 6, 16, 16)
    torch.testing.assert_close(out, numbers["forward/out"], rtol=1e-4, atol=1e-5)
    assert relative_error(out, numbers["forward/out"]) < 1e-5


def test_input_gradient_is_the_originals() -> None:
    unet, numbers = golden()
    x = numbers["forward/x"].clone().requires_grad_()
    (grad,) = torch.autograd.grad(unet(x, numbers["forward/t"]).square().sum(), x)
    assert relative_error(grad, numbers["forward/grad_of_sum_of_squares"]) < 1e-4


def test_the_comparison_can_tell_networks_apart() -> None:
    """Another timestep moves the output far more than the tolerances above."""
    unet, numbers = golden()
    with torch.no_grad():
        out = unet(numbers["forward/x"], numbers["forward/t"] + 50)
    assert relative_error(out, numbers["forward/out"]) > 1e-2


@pytest.fixture(scope="module")
def full_size() -> UNet:
    with torch.device("meta"):
        return UNet(**PRESETS["imagenet256-uncond"].flags.to_dict())


def test_published_names_and_shapes(full_size: UNet) -> None:
    published = json.loads((GOLDEN / "imagenet256_uncond_keys.json").read_text())
    own = {name: list(tensor.shape) for name, tensor in full_size.state_dict().items()}
    assert len(own) == 566
    assert own == published


def test_published_parameter_count(full_size: UNet) -> None:
    assert sum(parameter.numel() for parameter in full_size.parameters()) == 552_814_086
