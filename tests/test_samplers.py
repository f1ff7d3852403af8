"""DDPM and DDIM against closed forms, where the data are Gaussian and the objective is quadratic."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from guidelens.diffusion import DDIM, DDPM, DiffusionProcess, NoiseStream, ReplayedNoise, make_sampler
from guidelens.engine import Sample
from guidelens.errors import UsageError
from guidelens.sampling import Sampling
from toys import SHAPE, Constant, GaussianGenerator, Quadratic, make_engine

MU, SIGMA, TARGET = 0.2, 0.5, -0.4


def reverse_process(
    abar, x, noise, *, sampler, scale, target=TARGET, eta=0.0, variance="small", through="unet"
):
    """All states of guided sampling, from x_T on: scalar formulas in numpy, from the definitions.

    The objective is (x0 - y)^2 / 2 per pixel; the posterior is Bayes' rule over two Gaussians.
    """
    states = []
    draws = iter(noise)
    for i in reversed(range(len(abar))):
        a, previous = abar[i], abar[i - 1] if i else 1.0
        alpha = a / previous
        gain = math.sqrt(a) * SIGMA**2 / (a * SIGMA**2 + 1 - a)  # d E[x0 | x_t] / d x_t
        x0 = MU + gain * (x - math.sqrt(a) * MU)
        g = -(gain if through == "unet" else math.sqrt(a)) * (x0 - TARGET)
        z = next(draws) if i and (sampler == "ddpm" or eta) else 0.0
        if sampler == "ddpm":
            if i:
                precision = alpha / (1 - alpha) + 1 / (1 - previous)
                mean = (
                    math.sqrt(alpha) / (1 - alpha) * x + math.sqrt(previous) / (1 - previous) * x0
                ) / precision
                small = 1 / precision
            else:  # nothing is left but x0; logarithms borrow the variance of the step before
                mean, small = x0, (abar_posterior(abar, 1) if variance != "small" else 0.0)
            beta = 1 - alpha
            if variance == "large":
                sigma2 = beta if i else small
            elif variance == "small":
                sigma2 = small
            else:  # a learned interpolation in [-1, 1]
                share = (variance + 1) / 2
                sigma2 = beta**share * small ** (1 - share)
            x = mean + scale * sigma2 * g + math.sqrt(sigma2) * z
        else:
            eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a) - math.sqrt(1 - a) * scale * g
            x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
            sigma2 = eta**2 * (1 - previous) / (1 - a) * (1 - alpha)
            x = math.sqrt(previous) * x0 + math.sqrt(1 - previous - sigma2) * eps + math.sqrt(sigma2) * z
        states.append(x)
    return states


def abar_posterior(abar, i):
    return (1 - abar[i] / abar[i - 1]) * (1 - abar[i - 1]) / (1 - abar[i])


def stream(generator, sampler, scale, noise, *, steps=12, options=None, eta=0.0):
    engine = make_engine(
        generator,
        Quadratic(),
        replace(options or Sampling(scale=scale, clip_denoised=False), steps=steps, dtype="float64", eta=eta),
        sampler=sampler,
        device="cpu",
    )
    sample = Sample(str(TARGET), Constant(near=1.0))
    abar = engine.settings.process.alphas_cumprod.tolist()
    return abar, list(engine.stream([sample], noise=ReplayedNoise(noise)))


@pytest.fixture
def noise():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(12)]


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize(
    ("sampler", "eta", "variance"),
    [
        ("ddpm", 0.0, "small"),
        ("ddpm", 0.0, "large"),
        ("ddpm", 0.0, -1.0),
        ("ddpm", 0.0, 0.3),
        ("ddim", 0.0, "small"),
        ("ddim", 0.6, "small"),
        ("ddim", 1.0, 0.3),
    ],
)
@pytest.mark.parametrize("scale", [0.0, 1.7])
def test_every_step_is_the_closed_form(prediction, sampler, eta, variance, scale, noise):
    interpolation = variance if isinstance(variance, float) else None
    generator = GaussianGenerator(MU, SIGMA, prediction=prediction, interpolation=interpolation)
    chosen = DDPM(fixed_variance="large") if variance == "large" else sampler
    abar, steps = stream(generator, chosen, scale, noise, eta=eta)
    draws = [z.numpy() for z in noise[1:]]
    expected = reverse_process(
        abar,
        noise[0].numpy(),
        draws,
        sampler=sampler,
        scale=scale,
        eta=eta,
        variance=variance,
    )
    assert len(steps) == 12
    for step, state in zip(steps, expected, strict=True):
        np.testing.assert_allclose(step.sample.numpy(), state, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_guidance_past_the_network_is_the_closed_form(prediction, sampler, noise):
    options = Sampling(scale=0.8, through="x0", clip_denoised=False)
    generator = GaussianGenerator(MU, SIGMA, prediction=prediction)
    abar, steps = stream(generator, sampler, 0.8, noise, options=options)
    draws = [z.numpy() for z in noise[1:]]
    expected = reverse_process(abar, noise[0].numpy(), draws, sampler=sampler, scale=0.8, through="x0")
    np.testing.assert_allclose(steps[-1].sample.numpy(), expected[-1], rtol=1e-7, atol=1e-9)
    assert not any(generator.graphs)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_exact_guidance_samples_the_bayesian_posterior(sampler, prediction):
    """With data N(mu, sigma^2) and an observation y ~ N(x0, r^2), exact guidance must end in p(x0 | y).

    grad log p(y | x_t) = -d[(E[x0 | x_t] - y)^2 / 2] / dx_t / (Var[x0 | x_t] + r^2): a quadratic objective
    whose weight depends on the time. None of the package's formulas is used: a wrong sign, a lost Sigma or a
    lost sqrt(1 - abar) misses the posterior by far.
    """
    r = 0.3
    generator = GaussianGenerator(MU, SIGMA, prediction=prediction)
    process = DiffusionProcess(generator.alphas_cumprod)
    last = process.num_steps - 1

    class Exact:
        def weights(self, progress):
            abar = process.alphas_cumprod[last - round(progress * last)].item()
            remaining = SIGMA**2 * (1 - abar) / (abar * SIGMA**2 + 1 - abar)
            return {"near": 1 / (remaining + r**2)}

    engine = make_engine(
        generator,
        Quadratic(),
        Sampling(steps=1000, dtype="float64", clip_denoised=False),
        sampler=sampler,
        device="cpu",
    )
    ends = []
    for start in (0.0, 1.0):
        # Without noise a linear DDPM ends in the mean; DDIM also carries the spread of x_T over.
        zeros = [torch.zeros(1, *SHAPE, dtype=torch.float64)] * 1000
        replay = ReplayedNoise([torch.full((1, *SHAPE), start, dtype=torch.float64), *zeros])
        *_, last_step = engine.stream([Sample(str(TARGET), Exact())], noise=replay)
        ends.append(last_step.sample.mean().item())
    precision = 1 / SIGMA**2 + 1 / r**2
    assert ends[0] == pytest.approx((MU / SIGMA**2 + TARGET / r**2) / precision, abs=8e-3)
    if sampler == "ddim":
        assert ends[1] - ends[0] == pytest.approx(1 / math.sqrt(precision), rel=0.02)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_unguided_moments_are_the_datas(sampler):
    """Many pixels at once: the mean and spread of samples are those of the data."""
    generator = GaussianGenerator(MU, SIGMA, prediction="v", shape=(3, 40, 40))
    engine = make_engine(
        generator, None, Sampling(steps=200, clip_denoised=False), sampler=sampler, device="cpu"
    )
    *_, last = engine.stream([Sample("", None, seed) for seed in range(4)])
    assert last.sample.mean().item() == pytest.approx(MU, abs=0.02)
    assert last.sample.std().item() == pytest.approx(SIGMA, rel=0.03)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_guidance_gain_is_how_far_guidance_moves_the_sample(eta):
    sampler, process = (
        DDIM(eta=eta),
        DiffusionProcess(GaussianGenerator(schedule="cosine").alphas_cumprod, 20),
    )
    index, x_t = torch.arange(20), torch.ones(20, 3, 1, 1, dtype=torch.float64)
    known = {"prediction": "v", "learned_variance": False, "clip_denoised": False}
    plain, moved = (
        sampler.step(process, x_t, x_t, index, guidance=push * x_t, **known).sample for push in (0.0, 0.01)
    )
    torch.testing.assert_close((moved - plain)[:, 0, 0, 0] / 0.01, sampler.guidance_gain(process))


def test_a_first_ddim_step_that_magnifies_guidance_is_warned_of(caplog):
    cosine, linear = GaussianGenerator(schedule="cosine"), GaussianGenerator()
    for generator, steps in ((cosine, "ddim50"), (linear, 50), (linear, 10)):
        make_engine(generator, Quadratic(), Sampling(steps=steps, sampler="ddim"), device="cpu")
    make_engine(cosine, None, Sampling(steps=50, sampler="ddim"), device="cpu")
    make_engine(cosine, Quadratic(), Sampling(steps=50, sampler="ddpm"), device="cpu")
    assert caplog.messages == []
    make_engine(cosine, Quadratic(), Sampling(steps=50, sampler="ddim"), device="cpu")
    (message,) = caplog.messages
    assert "timestep 999 has almost no signal left" in message


def test_clipping_bounds_the_prediction_but_not_the_guidance():
    process = DiffusionProcess(GaussianGenerator().alphas_cumprod, 10)
    x_t, index = torch.zeros(2, *SHAPE), torch.tensor([4, 0])
    guidance, output = torch.full_like(x_t, 50.0), torch.full_like(x_t, 3.0)
    known = {"prediction": "x0", "learned_variance": False, "clip_denoised": True}
    for sampler in (DDPM(), DDIM()):
        plain = sampler.step(process, output, x_t, index, **known)
        guided = sampler.step(process, output, x_t, index, guidance=guidance, **known)
        assert plain.pred_x0.max() == guided.pred_x0.max() == 1
        assert (guided.sample[0] > plain.sample[0]).all()
    torch.testing.assert_close(DDPM().step(process, output, x_t, index, **known).sample[1], torch.ones(SHAPE))


@pytest.mark.parametrize("sampler", [DDPM(), DDPM(fixed_variance="large"), DDIM(eta=1.0)])
def test_no_noise_is_added_in_the_last_step(sampler):
    process = DiffusionProcess(GaussianGenerator().alphas_cumprod, 10)
    x_t, index = torch.zeros(2, *SHAPE), torch.tensor([0, 1])
    known = {"prediction": "x0", "learned_variance": False, "clip_denoised": False}
    quiet = sampler.step(process, x_t, x_t, index, **known).sample
    loud = sampler.step(process, x_t, x_t, index, noise=torch.ones_like(x_t), **known).sample
    torch.testing.assert_close(loud[0], quiet[0], rtol=0, atol=0)
    assert (loud[1] > quiet[1]).all()


def test_one_step_returns_the_prediction():
    generator = GaussianGenerator(MU, SIGMA)
    for sampler in ("ddpm", "ddim"):
        engine = make_engine(generator, None, Sampling(steps=1), sampler=sampler, device="cpu")
        (step,) = engine.stream([Sample("", None, 5)])
        assert (step.timestep, step.progress, step.index) == (999, 0.0, 0)
        torch.testing.assert_close(step.sample, step.pred_x0)


def test_sampler_names():
    assert make_sampler("ddpm") == DDPM()
    assert make_sampler("ddim", eta=0.5) == DDIM(eta=0.5)
    assert not DDIM().draws_noise
    assert DDIM(eta=0.1).draws_noise
    with pytest.raises(UsageError, match="'euler'; choose ddpm, ddim or dpm\\+\\+"):
        make_sampler("euler")
    with pytest.raises(UsageError, match=r"eta \(0.5\) belongs to the ddim sampler"):
        make_sampler("ddpm", eta=0.5)
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="eta lies between 0 and 1"):
            DDIM(eta=eta)
    with pytest.raises(UsageError, match="'tiny'; choose small or large"):
        DDPM(fixed_variance="tiny")


def test_a_streams_noise_is_its_seeds_alone():
    alone, mixed = NoiseStream([5], SHAPE), NoiseStream([9, 5, 5], SHAPE)
    for _ in range(3):
        one, three = alone.next(), mixed.next()
        assert one.dtype == torch.float32
        assert torch.equal(one[0], three[1])
        assert torch.equal(three[1], three[2])
        assert not torch.equal(three[0], three[1])
    before = torch.get_rng_state()
    mixed.next()
    assert torch.equal(before, torch.get_rng_state())


def test_every_bit_of_a_seed_counts():
    """PyTorch's own generator reads 32 of them."""
    seeds = [5, 2**32 + 5, 2**40 + 5, 2**62 + 5]
    draws = NoiseStream(seeds, SHAPE).next()
    for i in range(4):
        for j in range(i):
            assert not torch.equal(draws[i], draws[j])
    assert torch.equal(draws[0], torch.empty(SHAPE).normal_(generator=torch.Generator().manual_seed(5)))


def test_noise_is_standard_normal():
    draws = NoiseStream(range(20), (3, 32, 32)).next()
    assert abs(draws.mean()) < 0.02
    assert abs(draws.std() - 1) < 0.02


def test_noise_faults():
    for seed in (-1, 2**63, 1.5, True, "1"):
        with pytest.raises(UsageError, match="a seed must be a whole number"):
            NoiseStream([seed], SHAPE)
    replay = ReplayedNoise([torch.zeros(1)])
    replay.next()
    with pytest.raises(UsageError, match="fewer tensors"):
        replay.next()
