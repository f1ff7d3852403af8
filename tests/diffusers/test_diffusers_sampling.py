"""guidelens's sampling of diffusers models against diffusers's own loop, unguided and guided."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.schedulers import scheduling_ddpm
from guidelens.diffusion import DDIM, DDPM, ReplayedNoise
from guidelens.engine import Sample, Step
from guidelens.sampling import Sampling
from guidelens_diffusers import DiffusersGenerator, training_process
from tiny_pipelines import STEPS, Always, Pull, ddim, ddpm, tiny_unet
from torch import Tensor
from toys import make_engine

PREDICTIONS = ["epsilon", "sample", "v_prediction"]
BATCH = 2
SCALE = 0.05


def draws(count: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, 3, 8, 8, generator=random) for _ in range(count)]


def generator_of(unet: Any, scheduler: Any) -> DiffusersGenerator:
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    return DiffusersGenerator(unet, training_process(config))


def ours(
    generator: DiffusersGenerator, noise: list[Tensor], *, guided: bool, clip: bool, **engine: Any
) -> Tensor:
    return all_steps(generator, noise, guided=guided, clip=clip, **engine)[-1].sample


def all_steps(
    generator: DiffusersGenerator, noise: list[Tensor], *, guided: bool, clip: bool, **engine: Any
) -> list[Step]:
    options = Sampling(scale=SCALE, clip_denoised=clip)
    samples = [
        Sample(str(target), Always() if guided else None, seed) for seed, target in enumerate((0.5, -0.3))
    ]
    run = make_engine(generator, Pull() if guided else None, options, **engine)
    return list(run.stream(samples, noise=ReplayedNoise(noise)))


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The noise of a whole run; what DDPMScheduler draws is its second tensor and on, in order."""
    noise = draws(STEPS)
    left = iter(noise[1:])
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: next(left))
    return noise


def x0_of(scheduler: Any, output: Tensor, x_t: Tensor, t: int) -> Tensor:
    """x0 by the definition of each prediction, from the scheduler's own table."""
    abar = scheduler.alphas_cumprod[t]
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return output
    if kind == "epsilon":
        return (x_t - (1 - abar).sqrt() * output) / abar.sqrt()
    return abar.sqrt() * x_t - (1 - abar).sqrt() * output


def pulled(scheduler: Any, unet: Any, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """The network's output, and s * g: minus the gradient of Pull through the network, by autograd."""
    targets = torch.tensor([0.5, -0.3]).reshape(-1, 1, 1, 1)
    with torch.enable_grad():
        point = x_t.clone().requires_grad_()
        output = unet(point, t).sample
        x0 = x0_of(scheduler, output[:, :3], point, t)
        loss = (x0 - targets).square().sum() / 2
        (gradient,) = torch.autograd.grad(loss, point)
    return output.detach(), -SCALE * gradient


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_ddpm_unguided(prediction: str, variance: str, replayed: list[Tensor]) -> None:
    learned = variance == "learned_range"
    unet = tiny_unet(out_channels=6 if learned else 3)
    scheduler = ddpm(prediction_type=prediction, variance_type=variance)
    generator = generator_of(unet, scheduler)
    assert generator.learned_variance == learned
    actual = ours(generator, replayed, guided=False, clip=True, steps=STEPS)
    sample = replayed[0]
    for t in scheduler.timesteps.tolist():
        with torch.no_grad():
            sample = scheduler.step(unet(sample, t).sample, t, sample).prev_sample
    torch.testing.assert_close(actual, sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_of_fewer_steps(prediction: str, replayed: list[Tensor]) -> None:
    """Respaced: the scheduler's own timesteps are told to be those that guidelens visits."""
    unet, scheduler = tiny_unet(), ddpm(prediction_type=prediction)
    actual = ours(generator_of(unet, scheduler), replayed, guided=False, clip=True, steps=6)
    timesteps = [19, 15, 11, 8, 4, 0]  # 0 to 19 in five equal strides of 3.8
    scheduler.set_timesteps(timesteps=timesteps)
    sample = replayed[0]
    for t in timesteps:
        with torch.no_grad():
            sample = scheduler.step(unet(sample, t).sample, t, sample).prev_sample
    torch.testing.assert_close(actual, sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_unguided(prediction: str, eta: float) -> None:
    unet, scheduler, noise = tiny_unet(), ddim(prediction_type=prediction), draws(5)
    actual = ours(
        generator_of(unet, scheduler), noise, guided=False, clip=True, steps="ddim5", sampler=DDIM(eta)
    )
    scheduler.set_timesteps(5)
    sample, left = noise[0], iter([*noise[1:], torch.zeros_like(noise[0])])
    for t in scheduler.timesteps.tolist():
        with torch.no_grad():
            # After clipping x0, eps has to follow it for the two to belong together.
            step = scheduler.step(
                unet(sample, t).sample,
                t,
                sample,
                eta=eta,
                use_clipped_model_output=True,
                variance_noise=next(left) if eta else None,
            )
        sample = step.prev_sample
    torch.testing.assert_close(actual, sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_ddpm_guided(prediction: str, variance: str, replayed: list[Tensor]) -> None:
    learned = variance == "learned_range"
    unet = tiny_unet(out_channels=6 if learned else 3)
    scheduler = ddpm(prediction_type=prediction, variance_type=variance)
    fixed = DDPM("large" if variance == "fixed_large" else None)
    steps = all_steps(
        generator_of(unet, scheduler), replayed, guided=True, clip=True, steps=STEPS, sampler=fixed
    )
    sample = replayed[0]
    for t, step in zip(scheduler.timesteps.tolist(), steps, strict=True):
        torch.testing.assert_close(step.x_t, sample, rtol=1e-4, atol=1e-4)
        output, guidance = pulled(scheduler, unet, sample, t)
        with torch.no_grad():
            spread = scheduler._get_variance(t, output[:, 3:]) if learned else scheduler._get_variance(t)
            sigma = spread.exp() if learned else spread
            unguided = scheduler.step(output, t, sample).prev_sample
            sample = unguided + sigma * guidance
    if (
        variance == "fixed_small"
    ):  # elsewhere the last Sigma is a convention, and diffusers, without noise, has none
        torch.testing.assert_close(steps[-1].sample, sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_guided(prediction: str) -> None:
    unet, scheduler, noise = tiny_unet(), ddim(prediction_type=prediction, clip_sample=False), draws(1)
    actual = ours(
        generator_of(unet, scheduler), noise, guided=True, clip=False, steps="ddim5", sampler="ddim"
    )
    scheduler.set_timesteps(5)
    in_eps = ddim(prediction_type="epsilon", clip_sample=False)
    in_eps.set_timesteps(5)
    sample = noise[0]
    for t in scheduler.timesteps.tolist():
        output, guidance = pulled(scheduler, unet, sample, t)
        abar = scheduler.alphas_cumprod[t]
        eps = (sample - abar.sqrt() * x0_of(scheduler, output, sample, t)) / (1 - abar).sqrt()
        sample = in_eps.step(eps - (1 - abar).sqrt() * guidance, t, sample).prev_sample
    torch.testing.assert_close(actual, sample, rtol=1e-4, atol=1e-4)


def test_guidance_changes_the_picture() -> None:
    """The comparisons above would hold for a guidance that is lost."""
    generator = generator_of(tiny_unet(), ddpm())
    guided, plain = (ours(generator, draws(STEPS), guided=on, clip=True, steps=STEPS) for on in (True, False))
    assert (guided - plain).abs().max() > 0.01


def test_the_scheduler_chooses_between_the_fixed_variances(replayed: list[Tensor]) -> None:
    """The engine's own DDPM takes the variance that the generator was meant to be sampled with."""
    unet, scheduler = tiny_unet(), ddpm(variance_type="fixed_large")
    actual = ours(
        generator_of(unet, scheduler), replayed, guided=False, clip=True, steps=STEPS, sampler="ddpm"
    )
    sample = replayed[0]
    for t in scheduler.timesteps.tolist():
        with torch.no_grad():
            sample = scheduler.step(unet(sample, t).sample, t, sample).prev_sample
    torch.testing.assert_close(actual, sample, rtol=1e-4, atol=1e-4)


def test_class_labels_are_passed_on() -> None:
    unet = tiny_unet(num_class_embeds=3)
    config = {**ddpm().config, "_class_name": "DDPMScheduler"}
    generator = DiffusersGenerator(unet, training_process(config), class_label=2)
    x, t = draws(1)[0], torch.tensor([3, 17])
    expected = unet(x, t, class_labels=torch.tensor([2, 2])).sample
    torch.testing.assert_close(generator(x, t), expected)
    other = DiffusersGenerator(unet, training_process(config), class_label=0)
    assert not torch.equal(other(x, t), expected)
    assert other.fingerprint != generator.fingerprint


def test_checkpointing_changes_no_number() -> None:
    generator = generator_of(tiny_unet(), ddpm())
    x, t = draws(1)[0].requires_grad_(), torch.tensor([3, 17])
    (kept,) = torch.autograd.grad(generator(x, t).square().sum(), x)
    generator.checkpointing(True)
    (recomputed,) = torch.autograd.grad(generator(x, t).square().sum(), x)
    assert generator.network.is_gradient_checkpointing
    torch.testing.assert_close(recomputed, kept)
    generator.checkpointing(False)
    assert not generator.network.is_gradient_checkpointing
