"""Flow matching and EDM as rescaled processes: DDIM takes the steps of their own Euler samplers."""

from __future__ import annotations

import itertools

import pytest
import torch
from guidelens.diffusion import GaussianPath, PathGenerator, ReplayedNoise, edm_path, flow_path, karras_sigmas
from guidelens.engine import Engine, Sample
from guidelens.errors import UsageError
from guidelens.sampling import Sampling
from guidelens.testing import check_generator
from toys import SHAPE, Constant, Quadratic, TinyNet

STEPS = 12


class TimedNet(TinyNet):
    """A small network that is told any time, and remembers which."""

    def __init__(self, span: float) -> None:
        super().__init__()
        self.span = span
        self.told: list[float] = []

    def forward(self, x, times):
        self.told.append(float(times[0]))
        return super().forward(x, times * (1000 / self.span))


def steps_of(path, network, **options):
    """The states x of DDIM's steps through the engine, x_T first, and the indices that it visits, noisiest first."""
    generator = PathGenerator(network, path, SHAPE, "net").double()
    chosen = Sampling(steps=STEPS, sampler="ddim", clip_denoised=False, dtype="float64", **options)
    engine = Engine(generator, None, chosen)
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    visited = engine.settings.timesteps
    states, scales = [], [*(path.scale[i] for i in visited), torch.tensor(1.0)]
    for step in engine.stream([Sample("", None, 0)], noise=ReplayedNoise([noise])):
        states += [step.x_t] if not states else []
        states.append(step.sample)
    return [state * scale for state, scale in zip(states, scales, strict=True)], visited


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("shift", [1.0, 3.0], ids=["plain", "SD3"])
def test_ddim_takes_the_euler_steps_of_a_flow(shift):
    network = TimedNet(1000.0).double().eval()
    path = flow_path(shift=shift)
    ours, visited = steps_of(path, network)
    sigmas = [*(path.noise[i].item() for i in visited), 0.0]
    assert network.told == pytest.approx([1000 * sigma for sigma in sigmas[:-1]])
    x = ours[0]
    with torch.no_grad():
        for k, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
            x = x + (following - sigma) * network(x, torch.tensor([1000 * sigma], dtype=torch.float64))
            assert relative(ours[k + 1], x) < 1e-13


@pytest.mark.parametrize("negated", [False, True])
def test_ddim_takes_the_euler_steps_of_edm(negated):
    """Karras et al. 2022, algorithm 1 without correction: dx/dsigma = (x - D(x)) / sigma."""
    network = TimedNet(1.0).double().eval()
    path = edm_path(karras_sigmas(), negated=negated)
    ours, visited = steps_of(path, network)
    sigmas = [*(path.noise[i].item() for i in visited), 0.0]
    assert sigmas[0] == pytest.approx(80.0)
    assert sigmas[-2] == pytest.approx(0.002)
    x, data = ours[0], 0.5
    with torch.no_grad():
        for k, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
            total = sigma**2 + data**2
            time = torch.tensor([sigma], dtype=torch.float64).log() / 4
            output = network(x / total**0.5, time) * (-1 if negated else 1)
            denoised = data**2 / total * x + sigma * data / total**0.5 * output
            x = x + (following - sigma) * (x - denoised) / sigma
            assert relative(ours[k + 1], x) < 1e-13


@pytest.mark.parametrize("kind", ["flow", "edm"])
def test_it_agrees_with_the_schedulers_of_diffusers(kind):
    """An oracle of others, in float32."""
    schedulers = pytest.importorskip("diffusers.schedulers")
    network = TimedNet(1000.0 if kind == "flow" else 1.0).double().eval()
    path = flow_path(shift=3.0) if kind == "flow" else edm_path(karras_sigmas())
    ours, visited = steps_of(path, network)
    sigmas = [path.noise[i].item() for i in visited]
    if kind == "flow":
        scheduler = schedulers.FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=sigmas)
    else:
        scheduler = schedulers.EDMEulerScheduler(final_sigmas_type="zero")
        scheduler.set_timesteps(STEPS)
        scheduler.sigmas = torch.tensor([*sigmas, 0.0])
        scheduler.timesteps = scheduler.precondition_noise(scheduler.sigmas[:-1])
    x = ours[0].float()
    network.float()
    with torch.no_grad():
        for time in scheduler.timesteps:
            shown = x if kind == "flow" else scheduler.scale_model_input(x, time)
            x = scheduler.step(network(shown, time.reshape(1)), time, x, return_dict=False)[0]
    assert relative(ours[-1].float(), x) < 1e-5


@pytest.mark.parametrize("through", ["unet", "x0"])
@pytest.mark.parametrize("path", [flow_path(shift=3.0), edm_path(karras_sigmas())], ids=["flow", "edm"])
def test_the_gradient_is_that_of_x0_in_the_rescaled_state(path, through):
    network = TimedNet(1000.0).double().eval()
    generator = PathGenerator(network, path, SHAPE, "net").double()
    sampling = Sampling(
        steps=STEPS, clip_denoised=False, dtype="float64", through=through, scale=0.3, stop=0.0
    )
    engine = Engine(generator, Quadratic(), sampling)
    first = next(iter(engine.stream([Sample("0.5", Constant(near=1.0), 0)])))
    unguided = next(iter(engine.stream([Sample("0.5", None, 0)])))
    i = engine.settings.timesteps[0]
    a, s = path.signal[i], path.noise[i]
    z = first.x_t.clone().requires_grad_()
    x0 = path.x0(network, z, torch.tensor([i]))
    torch.testing.assert_close(first.pred_x0, x0.detach())
    if through == "x0":
        expected = -(a / (a**2 + s**2).sqrt()) * (x0 - 0.5).detach()
    else:
        (expected,) = torch.autograd.grad(-(x0 - 0.5).square().sum() / 2, z)
    variance = engine.settings.process.posterior_variance[-1]
    torch.testing.assert_close(first.sample - unguided.sample, 0.3 * variance * expected)


class GaussianVelocity:
    """The exact velocity of data ~ N(mu, std^2) under x = (1 - sigma) x0 + sigma eps."""

    mu, std = 0.2, 0.5

    def __call__(self, x, times):
        sigma = (times / 1000).reshape(-1, 1, 1, 1)
        variance = (1 - sigma) ** 2 * self.std**2 + sigma**2
        centred = x - (1 - sigma) * self.mu
        x0 = self.mu + (1 - sigma) * self.std**2 / variance * centred
        return sigma / variance * centred - x0


class GaussianF:
    """The network of EDM whose denoiser is exact for data ~ N(mu, std^2)."""

    mu, std = 0.2, 0.5

    def __call__(self, x, times):
        sigma = (4 * times).exp().reshape(-1, 1, 1, 1)
        total = sigma**2 + 0.25
        x = x * total.sqrt()
        x0 = self.mu + self.std**2 / (self.std**2 + sigma**2) * (x - self.mu)
        return (x0 - 0.25 / total * x) / (0.5 * sigma / total.sqrt())


@pytest.mark.parametrize(
    ("network", "path"),
    [(GaussianVelocity(), flow_path(shift=3.0)), (GaussianF(), edm_path(karras_sigmas()))],
    ids=["flow", "edm"],
)
def test_exact_networks_keep_the_contract(network, path):
    generator = PathGenerator(network, path, SHAPE, "exact")
    report = check_generator(generator, skip=("bf16",))  # exact formulas divide by small differences
    assert report["denoises"].numbers["worst error"] <= 1.0


def test_a_path_generator_of_latents_decodes():
    decode = torch.nn.Upsample(scale_factor=2)
    generator = PathGenerator(
        GaussianVelocity(), flow_path(), SHAPE, "exact", decode=decode, picture_shape=(3, 8, 8)
    )
    engine = Engine(generator, None, Sampling(steps=2))
    (result,) = engine.run([Sample("", None, 0)])
    assert result.image.shape == (3, 8, 8)


def test_fingerprints_name_the_path():
    prints = [
        PathGenerator(GaussianVelocity(), path, SHAPE, "net").fingerprint
        for path in (flow_path(), flow_path(), flow_path(shift=2.0), flow_path(time_scale=1.0))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_the_levels_of_a_flow():
    path = flow_path(4, shift=2.0)
    u = torch.tensor([0.25, 0.5, 0.75, 0.875], dtype=torch.float64)  # the last is kept below pure noise
    torch.testing.assert_close(path.noise, 2 * u / (1 + u))
    torch.testing.assert_close(
        path.alphas_cumprod, (1 - path.noise) ** 2 / ((1 - path.noise) ** 2 + path.noise**2)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flow_path(0), "at least 1 level"),
        (lambda: flow_path(shift=-1), "shift above 0"),
        (lambda: karras_sigmas(sigma_min=2, sigma_max=1), "0 < sigma_min <= sigma_max"),
        (lambda: edm_path(karras_sigmas().flip(0)), "must grow"),
        (lambda: edm_path(karras_sigmas().float()), "float64"),
        (lambda: GaussianPath(*[torch.zeros(2, dtype=torch.float64)] * 6), "above 0"),
    ],
)
def test_what_is_no_path_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
