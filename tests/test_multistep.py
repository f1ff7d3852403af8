"""DPM-Solver++ (2M) against its published implementation, its equations in numpy, and the order of its error."""

from __future__ import annotations

import math

import pytest
import torch
from guidelens.diffusion import DDIM, DiffusionProcess, DPMSolver, ReplayedNoise, make_sampler
from guidelens.engine import Engine, Sample
from guidelens.errors import UsageError
from guidelens.sampling import Sampling
from toys import SHAPE, Constant, GaussianGenerator, Quadratic, TinyNet


def last(engine, noise, scale=None, count=1):
    samples = [Sample("0.6", Constant(near=1.0) if scale else None, k, scale=scale) for k in range(count)]
    *_, step = engine.stream(samples, noise=ReplayedNoise([noise]))
    return step.sample


def noise_of(count=1):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_it_takes_the_steps_of_the_published_scheduler(prediction, steps):
    """diffusers's DPMSolverMultistepScheduler, which its authors wrote, in float32."""
    schedulers = pytest.importorskip("diffusers.schedulers")
    net = TinyNet(prediction=prediction).eval()
    engine = Engine(net, None, Sampling(steps=steps, sampler="dpm++", clip_denoised=False), device="cpu")
    betas = 1 - net.alphas_cumprod / torch.cat([torch.ones(1, dtype=torch.float64), net.alphas_cumprod[:-1]])
    scheduler = schedulers.DPMSolverMultistepScheduler(
        trained_betas=betas.numpy(),
        prediction_type={"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}[prediction],
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=list(engine.settings.timesteps))
    noise = noise_of().float()
    x = noise
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t.reshape(1)), t, x, return_dict=False)[0]
    torch.testing.assert_close(last(engine, noise), x, rtol=5e-4, atol=5e-4)


def reference(abar, x, x0_of, guidance_of):
    """Algorithm 2 of Lu et al. 2022, in its exponentials; abar cleanest first."""
    before = None
    for i in reversed(range(len(abar))):
        alpha, sigma = math.sqrt(abar[i]), math.sqrt(1 - abar[i])
        x0 = x0_of(i, x)
        x0 = x0 + sigma**2 / alpha * guidance_of(i, x, x0)
        lam = math.log(alpha / sigma)
        if i == 0:
            return x0
        alpha_p, sigma_p = math.sqrt(abar[i - 1]), math.sqrt(1 - abar[i - 1])
        h = math.log(alpha_p / sigma_p) - lam
        slope = x0
        if before is not None:
            r = (lam - before[0]) / h
            slope = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before[1]
        x = sigma_p / sigma * x - alpha_p * (math.exp(-h) - 1) * slope
        before = (lam, x0)
    return None


@pytest.mark.parametrize("scale", [0.0, 0.7])
@pytest.mark.parametrize("through", ["unet", "x0"])
def test_guided_steps_are_those_of_the_equations(scale, through):
    mu, std = 0.2, 0.5
    sampling = Sampling(
        steps=9, sampler="dpm++", clip_denoised=False, dtype="float64", through=through, scale=scale
    )
    engine = Engine(GaussianGenerator(mu, std), Quadratic(), sampling, device="cpu")
    abar = engine.settings.process.alphas_cumprod.tolist()

    def gain(i):
        return math.sqrt(abar[i]) * std**2 / (abar[i] * std**2 + 1 - abar[i])

    def x0_of(i, x):
        return mu + gain(i) * (x - math.sqrt(abar[i]) * mu)

    def guidance_of(i, x, x0):
        return -scale * (gain(i) if through == "unet" else math.sqrt(abar[i])) * (x0 - 0.6)

    noise = noise_of()
    expected = reference(abar, noise, x0_of, guidance_of)
    torch.testing.assert_close(last(engine, noise, scale), expected, rtol=1e-10, atol=1e-10)


def test_its_error_is_of_second_order_where_that_of_ddim_is_of_first():
    """Gaussian data: the exact flow takes x_T to mu + std x_T / sqrt(abar_T std^2 + 1 - abar_T)."""
    mu, std = 0.2, 0.5
    generator = GaussianGenerator(mu, std)
    noise = noise_of()
    errors = {}
    for name in ("ddim", "dpm++"):
        for steps in (100, 200, "20+3+2"):
            engine = Engine(
                generator,
                None,
                Sampling(steps=steps, sampler=name, clip_denoised=False, dtype="float64"),
                device="cpu",
            )
            abar = engine.settings.process.alphas_cumprod[-1]
            exact = mu + std * (noise - abar.sqrt() * mu) / (abar * std**2 + 1 - abar).sqrt()
            errors[name, steps] = (last(engine, noise) - exact).abs().mean().item()
    assert errors["ddim", 100] / errors["ddim", 200] == pytest.approx(2, rel=0.1)
    assert errors["dpm++", 100] / errors["dpm++", 200] == pytest.approx(4, rel=0.2)
    assert errors["dpm++", 200] < errors["ddim", 200] / 3
    assert errors["dpm++", "20+3+2"] < errors["ddim", "20+3+2"] / 2  # as docs/guidance.md has it


@pytest.mark.parametrize("options", [{}, {"into": "x0"}, {"into": "sample"}])
def test_the_gain_is_how_far_guidance_moves_the_first_step(options):
    generator = GaussianGenerator()
    sampling = Sampling(
        steps=6, sampler="dpm++", dtype="float64", clip_denoised=False, through="x0", **options
    )
    engine = Engine(generator, Quadratic(), sampling, device="cpu")
    gains = engine.settings.sampler.guidance_gain(engine.settings.process, sampling.into)
    noise = noise_of(2)
    samples = [Sample("0.6", Constant(near=1.0), 0, scale=0.01), Sample("0.6", None, 0)]
    first = next(iter(engine.stream(samples, noise=ReplayedNoise([noise[:1].expand(2, -1, -1, -1)]))))
    slope = first.gradients["near"][0]
    if sampling.into == "score":
        slope = engine.settings.process.sqrt_alphas_cumprod[-1] * slope
    torch.testing.assert_close(first.sample[0] - first.sample[1], -0.01 * gains[-1] * slope)


def test_one_step_alone_is_a_step_of_ddim():
    process = DiffusionProcess(GaussianGenerator().alphas_cumprod, 7)
    x, output = noise_of(2), noise_of(2).flip(0)
    options = {"prediction": "v", "learned_variance": False, "clip_denoised": True, "guidance": 0.1 * x}
    for i in range(7):
        index = torch.tensor([i, i])
        ours = DPMSolver().step(process, output, x, index, **options)
        theirs = DDIM().step(process, output, x, index, **options)
        torch.testing.assert_close(ours.sample, theirs.sample, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.pred_x0, theirs.pred_x0)


def test_a_repeated_step_refers_to_the_step_before_it():
    """The last repetition decides: with noise that renews the very state, repeating changes nothing."""
    process = DiffusionProcess(GaussianGenerator().alphas_cumprod, 5)
    options = {"prediction": "x0", "learned_variance": False, "clip_denoised": False}
    x = noise_of()
    once, twice = DPMSolver().begin(), DPMSolver().begin()
    for i in (4, 3, 2):
        index = torch.tensor([i])
        output = torch.sin(x + i)
        twice.step(process, output + 1, x, index, **options)
        repeated = twice.step(process, output, x, index, **options)
        x = once.step(process, output, x, index, **options).sample
        torch.testing.assert_close(repeated.sample, x)


def test_runs_of_one_engine_do_not_share_their_steps():
    engine = Engine(TinyNet(), None, Sampling(steps=6, sampler="dpm++", clip_denoised=False), device="cpu")
    noise = noise_of().float()
    assert torch.equal(last(engine, noise), last(engine, noise))
    together, alone = last(engine, noise_of(2).float(), count=2), last(engine, noise_of(2)[:1].float())
    torch.testing.assert_close(together[:1], alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 0.5}, r"eta \(0.5\) belongs to the ddim sampler; dpm\+\+ has none"),
        ({"fixed_variance": "large"}, "belongs to the ddpm sampler"),
        ({"clip_after_guidance": True}, "belongs to the ddim sampler"),
    ],
)
def test_options_of_other_samplers_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_sampler("dpm++", **options)
