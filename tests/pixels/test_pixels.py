"""The generator without a prior: guidance on it is gradient descent on the image, in closed form."""

from __future__ import annotations

import pytest
import torch
from guidelens import Engine, Sample, Sampling, UsageError
from guidelens.diffusion.noise import NoiseStream
from guidelens.plugins import PluginManager
from guidelens.testing import check_generator
from guidelens_pixels import Pixels
from pixel_objectives import Target

SAMPLING = Sampling(steps=20, sampler="ddim", into="sample", scale=1.5)


def start_of(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return NoiseStream([seed], shape).next()[0]


def test_it_keeps_the_contract() -> None:
    check_generator(Pixels(8))


def test_without_guidance_the_image_is_the_noise_it_started_from() -> None:
    generator = Pixels(8, 0.3)
    *_, last = Engine(generator, None, SAMPLING, device="cpu").stream([Sample("", None, 7)])
    expected = 0.3 * start_of(7, generator.image_shape)
    torch.testing.assert_close(last.picture[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("start", [0.3, 0.7])
def test_a_guided_run_is_gradient_descent(start: float) -> None:
    """L = c |image - a|^2 / 2 shrinks the distance to a by 1 - s c start^2 at each step."""
    generator, model = Pixels(8, start), Target(0.2, 0.8)
    *_, last = Engine(generator, model, SAMPLING, device="cpu").stream([Sample("x", model.alone(), 7)])
    factor = (1 - 1.5 * 0.8 * start**2) ** 20
    expected = 0.2 + factor * (start * start_of(7, generator.image_shape) - 0.2)
    torch.testing.assert_close(last.picture[0], expected, rtol=2e-3, atol=1e-3)


def test_random_views_work_as_with_other_generators() -> None:
    model = Target(0.2, 0.8)
    sampling = Sampling(steps=3, sampler="ddim", into="sample", augment="noise", augmentations=4)
    *_, last = Engine(Pixels(8), model, sampling, device="cpu").stream([Sample("x", model.alone(), 7)])
    assert bool(last.picture.isfinite().all())


def test_options_are_checked_and_described() -> None:
    plugins = PluginManager.load(environment={})
    assert plugins.build("generator", "pixels:size=16,start=0.5").fingerprint == "pixels/16/0.5"
    for wrong in ("size=4", "start=0", "start=2"):
        with pytest.raises(UsageError, match="pixels: "):
            plugins.build("generator", f"pixels:{wrong}")
