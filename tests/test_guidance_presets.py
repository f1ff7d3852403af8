"""Published methods against their update equations, written out again in numpy where all is Gaussian.

Data are N(mu, sigma^2) per pixel, so that the posterior mean E[x0 | x_t] and its slope are known exactly, and
the condition is a measurement y of every pixel. Only the noise is the package's own.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from guidelens.contracts import TextBatch
from guidelens.diffusion import KeyedNoise, ReplayedNoise
from guidelens.engine import Sample
from guidelens.errors import UsageError
from guidelens.sampling import PRESETS, Sampling
from toys import SHAPE, Constant, GaussianGenerator, make_engine

MU, SIGMA, TARGET, STEPS, SEED = 0.2, 0.5, -0.4, 12, 7


class Measurement:
    """``residual``: |x - y|^2; ``near``: half of it."""

    objectives = frozenset({"residual", "near"})
    fingerprint = "measurement"

    def encode_text(self, prompts):
        return TextBatch(
            tuple(prompts), {"y": torch.tensor([float(p) for p in prompts], dtype=torch.float64)}
        )

    def losses(self, images, text, objectives):
        squares = (images - text.tensors["y"].reshape(-1, 1, 1, 1)).square().sum(dim=(1, 2, 3))
        return {name: squares if name == "residual" else squares / 2 for name in objectives}


def slope(a):
    """d E[x0 | x_t] / d x_t."""
    return math.sqrt(a) * SIGMA**2 / (a * SIGMA**2 + 1 - a)


def posterior_mean(x, a):
    """E[x0 | x_t]."""
    return MU + slope(a) * (x - math.sqrt(a) * MU)


def eps_of(x, x0, a):
    return (x - math.sqrt(a) * x0) / math.sqrt(1 - a)


def ddpm_coefficients(a, previous):
    """Of x0 and x_t in the mean of q(x_{t-1} | x_t, x0), and its variance, by Bayes' rule."""
    if previous == 1:
        return 1.0, 0.0, 0.0
    alpha = a / previous
    precision = alpha / (1 - alpha) + 1 / (1 - previous)
    of_x0 = math.sqrt(previous) / (1 - previous) / precision
    return of_x0, math.sqrt(alpha) / (1 - alpha) / precision, 1 / precision


def ddpm(x, x0, a, previous, z):
    of_x0, of_x, variance = ddpm_coefficients(a, previous)
    return of_x0 * x0 + of_x * x + math.sqrt(variance) * z


def ddim(x0, eps, previous):
    return math.sqrt(previous) * x0 + math.sqrt(1 - previous) * eps


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


class Run:
    """The noise of a run of the engine: x_T, that of each step, and what recurrence and smoothing draw."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.tensors = [
            torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64) for _ in range(STEPS)
        ]
        self._extra = KeyedNoise([SEED])

    @property
    def x_T(self):
        return self.tensors[0].numpy()

    def step(self, k):
        return self.tensors[k + 1].numpy() if k + 1 < STEPS else 0.0

    def extra(self, *key):
        return self._extra.normal(SHAPE, *key).double().numpy()


TIMESTEPS = [round(999 * (1 - k / (STEPS - 1))) for k in range(STEPS)]


def recurring(run, k, x, a, previous, times, take):
    """Take a step ``times`` times, each but the last followed by forward noise of the step."""
    for lap in range(times):
        if lap:
            kept = a / previous
            x = math.sqrt(kept) * x_next + math.sqrt(1 - kept) * run.extra("renoise", k, lap)  # noqa: F821
        last = lap + 1 == times
        z = 0.0 if k + 1 == STEPS else run.step(k) if last else run.extra("repeat", k, lap)
        x_next = take(x, z)
    return x_next


def paper(run, k, x, a, previous, s):
    """Kong & Kwak 2023, eq. 1: x_{t-1} ~ N(mu + s Sigma grad log p, Sigma)."""
    _, _, variance = ddpm_coefficients(a, previous)
    x0 = posterior_mean(x, a)
    return ddpm(x, x0, a, previous, run.step(k)) - s * variance * slope(a) * (x0 - TARGET)


def dps(run, k, x, a, previous, s):
    """Chung et al. 2023, algorithm 1, as in their code: x' - zeta grad |y - x0|, its square being the objective."""
    x0 = posterior_mean(x, a)
    residual = x0 - TARGET
    gradient = slope(a) * residual / np.linalg.norm(residual)
    return ddpm(x, x0, a, previous, run.step(k)) - s * gradient


def freedom(run, k, x, a, previous, s):
    """Yu et al. 2023, algorithm 2: x_{t-1} -= rho_t g_t, rho_t as in the authors' code for text."""

    def take(x, z):
        x0 = posterior_mean(x, a)
        gradient = slope(a) * (x0 - TARGET)
        of_x0, _, _ = ddpm_coefficients(a, previous)
        rho = s * of_x0 * rms(eps_of(x, x0, a)) * math.sqrt((1 - a) / a) / rms(gradient)
        return ddpm(x, x0, a, previous, z) - rho * gradient

    return recurring(run, k, x, a, previous, 10 if 500 <= TIMESTEPS[k] <= 800 else 1, take)


def universal(run, k, x, a, previous, s):
    """Bansal et al. 2023, algorithm 1: eps + s sqrt(1 - abar) grad loss, then DDIM, self-recurring."""

    def take(x, _):
        x0 = posterior_mean(x, a)
        eps = eps_of(x, x0, a) + s * math.sqrt(1 - a) * slope(a) * (x0 - TARGET)
        return ddim((x - math.sqrt(1 - a) * eps) / math.sqrt(a), eps, previous)

    return recurring(run, k, x, a, previous, 10, take)


def mpgd(run, k, x, a, previous, s):
    """He et al. 2023, algorithm 1 without autoencoder, c_t = s / sqrt(abar_{t-1}): x0 -= c_t dL/dx0, eps held."""
    x0 = posterior_mean(x, a)
    guided = x0 - s / math.sqrt(previous) * (x0 - TARGET)
    sigma = 0.5 * math.sqrt((1 - previous) / (1 - a) * (1 - a / previous))
    towards_x_t = math.sqrt(1 - previous - sigma**2) * eps_of(x, x0, a)
    return math.sqrt(previous) * guided + towards_x_t + sigma * run.step(k)


def lgd(run, k, x, a, previous, s):
    """Song et al. 2023, LGD-MC: grad log (1/n) sum exp(-L(x^i)), x^i ~ N(x0, (1 - abar) I)."""
    _, _, variance = ddpm_coefficients(a, previous)
    x0 = posterior_mean(x, a)
    draws = [x0 + math.sqrt(1 - a) * run.extra("smoothing", k, 0, i) for i in range(10)]
    likelihoods = np.array([math.exp(-0.5 * np.sum((draw - TARGET) ** 2)) for draw in draws])
    weights = likelihoods / likelihoods.sum()
    gradient = -sum(w * slope(a) * (draw - TARGET) for w, draw in zip(weights, draws, strict=True))
    return ddpm(x, x0, a, previous, run.step(k)) + s * variance * gradient


def blended(run, k, x, a, previous, s):
    """Avrahami et al. 2022, without masks: mu + s Sigma grad, the loss at f x0 + (1 - f) x_t, f = sqrt(1 - abar)."""
    _, _, variance = ddpm_coefficients(a, previous)
    x0, f = posterior_mean(x, a), math.sqrt(1 - a)
    seen = f * x0 + (1 - f) * x
    outside = x0 - np.clip(x0, -1, 1)
    gradient = (f * slope(a) + 1 - f) * (seen - TARGET) + 50 * slope(a) * 2 * outside / x0.size
    return ddpm(x, x0, a, previous, run.step(k)) - s * variance * gradient


METHODS = {
    "paper": (paper, "near"),
    "dps": (dps, "residual"),
    "freedom": (freedom, "near"),
    "universal": (universal, "near"),
    "mpgd": (mpgd, "near"),
    "lgd": (lgd, "near"),
    "blended": (blended, "near"),
}


def states(name, run, objective, **overrides):
    engine = make_engine(
        GaussianGenerator(MU, SIGMA),
        Measurement(),
        Sampling.preset(name, clip_denoised=False, steps=STEPS, dtype="float64", **overrides),
        device="cpu",
    )
    sample = Sample(str(TARGET), Constant(**{objective: 1.0}), SEED)
    steps = engine.stream([sample], noise=ReplayedNoise(run.tensors))
    return engine.settings.process.alphas_cumprod.tolist(), [step.sample.numpy() for step in steps]


@pytest.mark.parametrize("scale", [None, 0.13])
@pytest.mark.parametrize("name", list(PRESETS))
def test_every_step_is_that_of_the_paper(name, scale):
    method, objective = METHODS[name]
    overrides = {} if scale is None else {"scale": scale}
    run = Run()
    abar, got = states(name, run, objective, **overrides)
    s = Sampling.preset(name, **overrides).scale
    x, unguided = run.x_T, run.x_T
    for k in range(STEPS):
        a, previous = abar[STEPS - 1 - k], abar[STEPS - 2 - k] if k + 1 < STEPS else 1.0
        x = method(run, k, x, a, previous, s)
        unguided = method(run, k, unguided, a, previous, 0.0)
        np.testing.assert_allclose(got[k], x, rtol=1e-6, atol=1e-8)
    assert np.abs(x - unguided).max() > 1e-3  # or the test would not see guidance at all


def test_there_is_an_equation_for_every_preset():
    assert set(METHODS) == set(PRESETS)


def test_overrides_replace_a_presets_values_and_no_others():
    options = Sampling.preset("freedom", recurrence=3, scale=0.5)
    assert (options.recurrence, options.scale) == (3, 0.5)
    assert (options.into, options.normalize, options.recurrence_start) == ("x0", "noise", 0.2)
    assert Sampling.preset("paper") == Sampling()


def test_unknown_presets_and_options_are_named():
    with pytest.raises(UsageError, match="unknown preset 'adm'; choose paper, dps, freedom"):
        Sampling.preset("adm")
    with pytest.raises(UsageError, match="unknown option 'strength'; there are steps, sampler"):
        Sampling.preset("dps", strength=1.0)
