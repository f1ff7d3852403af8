"""Random views: their geometry, their seeds, their gradients; smoothing against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from guidelens.diffusion import DDPM, DiffusionProcess, KeyedNoise
from guidelens.engine import Sample
from guidelens.errors import UsageError
from guidelens.guidance import GuidedDenoiser, plan_guidance, resolve
from guidelens.guidance.views import Views, combined_loss
from guidelens.sampling import Sampling
from test_guidance import central_differences, seen, tiny_setup
from toys import Constant, GaussianGenerator, Quadratic, Shift, make_engine

SIZE = 32


def views(seeds=(0, 1, 2), **options):
    return Views(Sampling(**options), KeyedNoise(seeds))


def ramps(count):
    """Images whose channels are their own coordinates: x, y and 1, with pixel centres from -1 to 1."""
    centre = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE * 2 - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)]).expand(count, 3, SIZE, SIZE)


def show(which, images, rows=None, key=(0, 0), draw=0, n=0, radius=None):
    return which.show(images, radius, rows if rows is not None else range(len(images)), key, draw, n)


class TestCrops:
    def test_are_square_windows_inside_the_image(self):
        images = ramps(40)
        shown = show(views(range(40), augment="crop"), images)
        inner = slice(1, -1)  # bilinear interpolation of a ramp is exact away from the border
        pitch = (shown[:, 0, 0, inner].diff(dim=1) * SIZE / 2).mean(dim=1)
        rise = (shown[:, 1, inner, 0].diff(dim=1) * SIZE / 2).mean(dim=1)
        torch.testing.assert_close(pitch, rise)
        assert pitch.min() >= 0.55 - 1e-6
        assert pitch.max() <= 1
        assert pitch.std() > 0.05
        middle = shown[:, :2].mean(dim=(2, 3))
        assert (middle.abs() + pitch[:, None] <= 1 + 1e-6).all()
        assert middle.std() > 0.05
        torch.testing.assert_close(shown[:, 2], torch.ones_like(shown[:, 2]))

    def test_strength_is_how_far_they_go(self):
        images = ramps(40)
        whole = show(views(range(40), augment="crop", augment_strength=0.0), images)
        torch.testing.assert_close(whole, images)
        small = show(views(range(40), augment="crop", augment_strength=2.0), images)
        assert (small[:, 0].amax(dim=(1, 2)) - small[:, 0].amin(dim=(1, 2))).min() < 0.6


def test_affine_maps_turn_zoom_and_shift_within_bounds():
    shown = show(views(range(60), augment="affine"), ramps(60))
    middle = slice(SIZE // 2 - 4, SIZE // 2 + 4)  # away from reflected borders
    across = shown[:, :2, middle, middle].diff(dim=3).mean(dim=(2, 3)) * SIZE / 2
    down = shown[:, :2, middle, middle].diff(dim=2).mean(dim=(2, 3)) * SIZE / 2
    torch.testing.assert_close(across[:, 0], down[:, 1])  # a rotation and a zoom have a c b; -b a ...
    torch.testing.assert_close(across[:, 1], -down[:, 0])
    zoom, turn = across.norm(dim=1), torch.atan2(across[:, 1], across[:, 0]).rad2deg()
    assert 0.85 <= zoom.min() < 0.92
    assert 1.08 < zoom.max() <= 1.15
    assert -20 <= turn.min() < -10
    assert 10 < turn.max() <= 20
    shift = shown[:, :2, middle, middle].mean(dim=(2, 3))
    assert 0.1 < shift.abs().max() <= 0.2 + 1e-6


def test_noise_is_of_its_standard_deviation():
    shown = show(views(range(30), augment="noise", augment_strength=1.5), torch.zeros(30, 3, 32, 32))
    assert shown.std().item() == pytest.approx(0.15, rel=0.02)
    assert shown.mean().item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("augment", ["crop", "affine", "noise", "crop+affine+noise"])
class TestSeeds:
    def test_a_view_depends_on_seed_step_lap_and_number_and_nothing_else(self, augment):
        images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        which = views((5, 6, 5), augment=augment)
        base = show(which, images)
        assert torch.equal(base, show(views((5, 6, 5), augment=augment), images))
        torch.testing.assert_close(base[1:2], show(which, images[1:2], rows=[1]))
        same = show(which, images[[0, 0, 0]])
        torch.testing.assert_close(same[0], same[2])
        assert not torch.allclose(same[0], same[1], atol=1e-3)
        for other in ({"key": (1, 0)}, {"key": (0, 1)}, {"draw": 1}, {"n": 1}):
            assert not torch.allclose(base, show(which, images, **other), atol=1e-3)

    def test_sampling_noise_is_not_touched(self, augment):
        class Recording:
            draws_noise = True

            def __init__(self):
                self.noise = []

            def step(self, *arguments, noise=None, **keywords):
                self.noise.append(noise)
                return DDPM().step(*arguments, noise=noise, **keywords)

        drawn = []
        for options in ({}, {"augment": augment, "augmentations": 3, "smoothing": 2}):
            sampler = Recording()
            engine = make_engine(
                GaussianGenerator(), Quadratic(), Sampling(steps=4, **options), sampler=sampler, device="cpu"
            )
            steps = list(engine.stream([Sample("0.5", Constant(near=1.0), 9)]))
            drawn.append([steps[0].x_t, *sampler.noise[:-1]])
        for ours, theirs in zip(*drawn, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("augment", ["crop", "affine", "noise", "crop+affine+noise"])
def test_the_gradient_is_the_mean_over_views(augment):
    denoiser, net, vision, text, process, x_t, index = tiny_setup(
        schedules=[Constant(dot=1.0), Constant(square=1.0)], augment=augment, augmentations=3
    )
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
    which = views((0, 0), augment=augment, augmentations=3)

    def log_p(x):
        total = [0.0, 0.0]
        for n in range(3):
            losses = vision.losses(
                show(which, seen(net, process, x, index, "x0"), n=n), text, ["dot", "square"]
            )
            total[0] = total[0] - 1.5 * 0.7 * losses["dot"][0] / 3
            total[1] = total[1] + 0.5 * -1.3 * losses["square"][1] / 3
        return total

    torch.testing.assert_close(guided.gradient, central_differences(log_p, x_t), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("average", ["logmeanexp", "mean"])
def test_smoothing_with_augmentation_is_that_of_finite_differences(average):
    options = {
        "smoothing": 3,
        "smoothing_average": average,
        "smoothing_radius": 0.7,
        "augment": "crop",
        "augmentations": 2,
    }
    denoiser, net, vision, text, process, x_t, index = tiny_setup(**options)
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
    which = views((0, 0), **options)
    spread = (1 - process.alphas_cumprod[index]).sqrt().reshape(-1, 1, 1, 1)
    scales = torch.tensor([[0.5 * 0.7, 2.0 * -1.3], [1.0 * 0.7, 0.0]], dtype=torch.float64)

    def log_p(x):
        draws = []
        for draw in range(3):
            total = 0
            for n in range(2):
                image = seen(net, process, x, index, "x0")
                shown = show(which, image, draw=draw, n=n, radius=0.7 * spread)
                losses = vision.losses(shown, text, ["dot", "square"])
                total = total + (scales[:, 0] * losses["dot"] + scales[:, 1] * losses["square"]) / 2
            draws.append(total)
        stacked = torch.stack(draws)
        loss = stacked.mean(dim=0) if average == "mean" else -(-stacked).exp().mean(dim=0).log()
        return [-1.5 * loss[0], 0.5 * loss[1]]

    torch.testing.assert_close(guided.gradient, central_differences(log_p, x_t), rtol=1e-5, atol=1e-7)


def test_smoothing_tends_to_the_exact_expectation():
    """For L = |x0 - y|^2 / 2, E exp(-L(x0 + r z)) over z has the gradient -(x0 - y) / (1 + r^2)."""
    process = DiffusionProcess(GaussianGenerator().alphas_cumprod, 5)
    plan = plan_guidance([Constant(near=1.0)] * 2, [1.0, 1.0], [True], Quadratic.objectives)
    sampling = Sampling(steps=5, smoothing=4000, smoothing_radius=0.8)
    denoiser = GuidedDenoiser(
        lambda x, t: x * 1,  # predicts x0, which is x_t
        Quadratic(),
        resolve(sampling, GaussianGenerator(prediction="x0"), Quadratic()),
        plan,
        Quadratic().encode_text(["0.7", "-0.2"]),
        seeds=[1, 2],
    )
    x_t = torch.tensor([0.1, -0.9], dtype=torch.float64).reshape(2, 1, 1, 1)
    index = torch.tensor([3, 2])
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
    r2 = 0.64 * (1 - process.alphas_cumprod[index])
    expected = -(x_t.flatten() - torch.tensor([0.7, -0.2])) / (1 + r2)
    torch.testing.assert_close(guided.gradient.flatten(), expected, rtol=0.05, atol=0.02)


def test_shares_of_draws_are_those_of_their_likelihoods():
    losses = torch.tensor([[1.0, 900.0], [3.0, 900.0], [2.0, 900.0]])
    loss, shares = combined_loss(losses, "logmeanexp")
    likelihood = [math.exp(-1), math.exp(-3), math.exp(-2)]
    assert loss[0].item() == pytest.approx(-math.log(sum(likelihood) / 3))
    assert shares[:, 0].tolist() == pytest.approx([p / sum(likelihood) for p in likelihood])
    assert loss[1].item() == pytest.approx(900.0)  # where exp(-L) would be 0
    assert shares[:, 1].tolist() == pytest.approx([1 / 3] * 3)
    loss, shares = combined_loss(losses, "mean")
    assert loss.tolist() == [2.0, 900.0]


def test_telemetry_is_the_mean_over_views():
    denoiser, net, vision, text, process, x_t, index = tiny_setup(augment="noise", augmentations=4)
    with torch.no_grad():
        guided = denoiser(x_t, index, 0)
        which = views((0, 0), augment="noise", augmentations=4)
        image = seen(net, process, x_t, index, "x0")
        losses = [vision.losses(show(which, image, n=n), text, ["dot", "square"])["dot"] for n in range(4)]
    torch.testing.assert_close(guided.losses[0], torch.stack(losses).mean(dim=0))


class NoisyReader(Quadratic):
    """p(y | x_t) of y ~ N(x0, r^2), exactly: a classifier trained on noisy images, and perfectly so."""

    reads = "x_t"
    fingerprint = "noisy"
    R = 0.3

    def __init__(self, generator):
        super().__init__()
        self._generator = generator
        self.told = []

    def losses(self, images, text, objectives, *, timesteps):
        self.told.append(timesteps.tolist())
        g = self._generator
        abar = g.alphas_cumprod[timesteps].to(images.dtype).reshape(-1, 1, 1, 1)
        spread = abar * g.sigma**2 + 1 - abar
        x0 = g.mu + abar.sqrt() * g.sigma**2 / spread * (images - abar.sqrt() * g.mu)
        variance = g.sigma**2 * (1 - abar) / spread
        y = text.tensors["y"].to(images).reshape(-1, 1, 1, 1)
        loss = ((x0 - y).square() / (2 * (variance + self.R**2))).sum(dim=(1, 2, 3))
        return dict.fromkeys(objectives, loss)


class TestReadingXt:
    @pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
    def test_exact_noisy_classifier_ends_in_the_posterior(self, sampler):
        """Eq. 1 was written for p(y | x_t): with the exact one, samples follow Bayes' rule."""
        generator = GaussianGenerator(mu=0.2, sigma=0.5)
        engine = make_engine(
            generator,
            NoisyReader(generator),
            Sampling(steps=1000, clip_denoised=False),
            sampler=sampler,
            batch_size=64,
            device="cpu",
        )
        steps = list(engine.stream([Sample("-0.4", Constant(near=1.0), seed) for seed in range(60)]))
        final = steps[-1].sample
        precision = 1 / 0.25 + 1 / 0.09
        assert final.mean().item() == pytest.approx((0.2 / 0.25 - 0.4 / 0.09) / precision, abs=0.02)
        assert final.std().item() == pytest.approx(precision**-0.5, abs=0.02)

    def test_the_generator_is_not_differentiated_and_times_are_told(self):
        generator = GaussianGenerator()
        model = NoisyReader(generator)
        engine = make_engine(generator, model, Sampling(steps=6), device="cpu")
        samples = [
            Sample("0.5", Constant(near=1.0), 0),
            Sample("0.1", None, 1),
            Sample("0.2", Constant(near=2.0), 2),
        ]
        list(engine.stream(samples))
        assert generator.graphs == [False] * 6
        assert model.told == [[t] * 2 for t in engine.settings.process.timesteps.tolist()[::-1]]

    def test_the_gradient_is_taken_at_x_t(self):
        generator = GaussianGenerator()
        model = NoisyReader(generator)
        engine = make_engine(generator, model, Sampling(steps=5, dtype="float64"), device="cpu")
        stream = engine.stream([Sample("0.5", Constant(near=0.7), 0, scale=1.3)])
        guided, plain = next(stream), next(engine.stream([Sample("0.5", None, 0)]))
        x = guided.x_t.clone()
        text = model.encode_text(["0.5"])
        t = torch.tensor([guided.timestep])

        def log_p(x):
            return [-1.3 * 0.7 * model.losses(x, text, ["near"], timesteps=t)["near"][0]]

        sigma = engine.settings.process.posterior_variance[-1]
        torch.testing.assert_close(
            guided.sample - plain.sample, sigma * central_differences(log_p, x), rtol=1e-6, atol=1e-9
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"through": "x0"},
            {"see": "blend"},
            {"into": "x0"},
            {"range_scale": 1.0},
            {"smoothing": 2},
            {"augment": "crop"},
        ],
    )
    def test_options_about_x0_are_refused(self, options):
        generator = GaussianGenerator()
        with pytest.raises(UsageError, match=f"{next(iter(options))}.* has no use: .* reads x_t"):
            make_engine(generator, NoisyReader(generator), Sampling(**options))

    def test_lengths_apply(self):
        generator = GaussianGenerator()
        for options in (
            {"normalize": "unit"},
            {"normalize": "noise"},
            {"clip_norm": 0.1},
            {"into": "sample"},
        ):
            engine = make_engine(
                generator, NoisyReader(generator), Sampling(steps=4, **options), device="cpu"
            )
            plain = make_engine(generator, NoisyReader(generator), Sampling(steps=4), device="cpu")
            ours, theirs = (e.generate("0.5", Shift("near", "steep"))[0].image for e in (engine, plain))
            assert not torch.allclose(ours, theirs, atol=1e-4)

    def test_another_spelling_is_refused(self):
        model = Quadratic()
        model.reads = "eps"
        with pytest.raises(UsageError, match="reads 'eps'; choose x0 or x_t"):
            make_engine(GaussianGenerator(), model)
