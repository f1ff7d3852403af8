"""Each option of guidance against its equation; no option without an effect, no effect outside the key."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from guidelens.contracts import Prompt
from guidelens.diffusion import DDIM, DDPM, DiffusionProcess, ReplayedNoise
from guidelens.engine import Sample
from guidelens.errors import UsageError
from guidelens.runs.config import Cell, ModelId, RunSettings
from guidelens.sampling import Sampling, options
from guidelens.schedules import NamedSchedule
from test_guidance import central_differences, seen, tiny_setup, weighted_losses
from toys import SHAPE, Constant, GaussianGenerator, Quadratic, Shift, TinyNet, TinyVision, make_engine

S = torch.tensor([1.5, -0.5], dtype=torch.float64)
"""The scales of tiny_setup's two samples."""


def gradient(prediction="v", wide=1.0, **options):
    """s * g of the two samples, and all that they were made from."""
    guide, net, vision, text, process, x_t, index = tiny_setup(prediction, **options)
    with torch.no_grad():
        guided = guide(wide * x_t, index, 0)
    return guided.gradient, (net, vision, text, process, wide * x_t, index)


def norms(values):
    return torch.from_numpy(np.sqrt((values.numpy() ** 2).sum(axis=(1, 2, 3))))


class TestLength:
    def test_unit(self):
        plain, _ = gradient()
        got, _ = gradient(normalize="unit")
        torch.testing.assert_close(got, plain / norms(plain / S[:, None, None, None])[:, None, None, None])
        torch.testing.assert_close(norms(got), S.abs())

    def test_rms(self):
        got, _ = gradient(normalize="rms")
        torch.testing.assert_close(got.square().mean(dim=(1, 2, 3)).sqrt(), S.abs())
        plain, _ = gradient()
        assert torch.cosine_similarity(got.flatten(1), plain.flatten(1)).min() > 1 - 1e-12

    def test_loss(self):
        plain, (net, vision, text, process, x_t, index) = gradient()
        got, _ = gradient(normalize="loss")
        first, second = weighted_losses(vision, text, seen(net, process, x_t, index, "x0"))
        weighted = torch.stack([first / -1.5, second / 0.5]).detach()  # the losses, without s and sign
        torch.testing.assert_close(got, plain / (2 * weighted.abs().sqrt()[:, None, None, None]))

    @pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
    def test_noise(self, prediction):
        got, (net, _, _, process, x_t, index) = gradient(prediction, normalize="noise")
        abar = process.alphas_cumprod[index].reshape(-1, 1, 1, 1)
        noise = x_t / abar.sqrt() - seen(net, process, x_t, index, "x0").detach()
        expected = S.abs() * noise.square().mean(dim=(1, 2, 3)).sqrt()
        torch.testing.assert_close(got.square().mean(dim=(1, 2, 3)).sqrt(), expected)

    def test_clipping_is_per_sample_and_shortens_only_what_is_long(self):
        plain, _ = gradient()
        lengths = norms(plain) / S.abs()
        limit = float(lengths.mean())  # one sample is longer, one is not
        got, _ = gradient(clip_norm=limit)
        torch.testing.assert_close(norms(got) / S.abs(), lengths.clamp(max=limit))
        kept = int(lengths.argmin())
        torch.testing.assert_close(got[kept], plain[kept])

    def test_normalised_before_clipped(self):
        got, _ = gradient(normalize="unit", clip_norm=0.25)
        torch.testing.assert_close(norms(got), 0.25 * S.abs())

    @pytest.mark.parametrize("options", [{"normalize": n} for n in ("unit", "rms", "loss", "noise")])
    def test_no_gradient_stays_none(self, options):
        """At its target the objective is flat: 0 / 0 must not become a direction."""

        class Flat(Quadratic):
            def losses(self, images, text, objectives):
                return {name: 0 * loss for name, loss in super().losses(images, text, objectives).items()}

        for chosen in (options, {"clip_norm": 1.0}):
            engine = make_engine(GaussianGenerator(), Flat(), Sampling(steps=3, **chosen), device="cpu")
            (result,) = engine.generate("0.5", Constant(near=1.0))
            (plain,) = engine.generate("0.5", None)
            assert result.nonfinite_steps == 0
            torch.testing.assert_close(result.image, plain.image)

    def test_clipping_survives_a_norm_whose_square_overflows(self):
        class Steep(Quadratic):
            def losses(self, images, text, objectives):
                return {n: 1e25 * loss for n, loss in super().losses(images, text, objectives).items()}

        def image(model, **options):
            options = Sampling(scale=4.0, **options)
            generator = GaussianGenerator(prediction="x0")
            engine = make_engine(generator, model, replace(options, steps=4), device="cpu")
            return engine.generate("0.5", Constant(near=1.0))[0].image

        torch.testing.assert_close(image(Steep(), clip_norm=1.0), image(Quadratic(), normalize="unit"))


@pytest.mark.parametrize("see", ["x0", "blend"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_range_loss_is_that_of_finite_differences(prediction, see):
    got, (net, vision, text, process, x_t, index) = gradient(prediction, wide=3.0, see=see, range_scale=80.0)

    def log_p(x):
        x0 = seen(net, process, x, index, "x0")
        outside = (x0 - x0.clip(-1, 1)).square().mean(dim=(1, 2, 3))
        losses = weighted_losses(vision, text, seen(net, process, x, index, see))
        return [loss - s * 80.0 * r for loss, s, r in zip(losses, S, outside, strict=True)]

    torch.testing.assert_close(got, central_differences(log_p, x_t), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(got, gradient(prediction, wide=3.0, see=see)[0], rtol=1e-3)


def test_range_loss_holds_only_those_who_are_guided():
    def images(**options):
        engine = make_engine(
            GaussianGenerator(mu=1.5),
            Quadratic(),
            Sampling(steps=6, clip_denoised=False, scale=5.0, **options),
            device="cpu",
        )
        samples = [Sample("1.5", Constant(near=1e-9), 0), Sample("1.5", None, 0)]
        steps = list(engine.stream(samples))
        return steps[-1].sample

    plain, held = images(), images(range_scale=150.0)
    assert held[0].mean() < plain[0].mean() - 0.1
    assert torch.equal(held[1], plain[1])


def run_steps(sampler="ddpm", steps=9, samples=None, noise=None, eta=0.0, **options):
    generator = GaussianGenerator()
    engine = make_engine(
        generator,
        Quadratic(),
        Sampling(steps=steps, eta=eta, **{"clip_denoised": False, **options}, dtype="float64"),
        sampler=sampler,
        device="cpu",
    )
    samples = samples or [Sample("0.9", Constant(near=1.0), 3)]
    return engine, list(engine.stream(samples, noise=noise))


class TestWindow:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"start": 0.25}, [2, 3, 4, 5, 6, 7, 8]),
            ({"stop": 0.5}, [0, 1, 2, 3, 4]),
            ({"every": 3}, [0, 3, 6]),
            ({"start": 0.3, "stop": 0.9, "every": 2}, [3, 5, 7]),
        ],
    )
    def test_only_these_steps_are_guided(self, options, expected):
        engine, steps = run_steps(**options)
        told = [k for k, step in enumerate(steps) if not step.losses["near"].isnan().any()]
        assert told == expected
        assert [k for k, graph in enumerate(engine.generator.graphs) if graph] == expected
        assert [k for k, step in enumerate(steps) if step.weights["near"].item()] == expected

    def test_an_unguided_step_is_that_of_an_unguided_run(self):
        _, steps = run_steps(start=0.5)
        _, plain = run_steps(samples=[Sample("0.9", None, 3)])
        for k in range(4):
            assert torch.equal(steps[k].sample, plain[k].sample)
        assert not torch.allclose(steps[4].sample, plain[4].sample, atol=1e-3)

    def test_a_window_without_steps_is_refused(self):
        with pytest.raises(UsageError, match=r"none of the 9 steps lies between start=0\.51 and stop=0\.6"):
            run_steps(start=0.51, stop=0.6)


class TestRecurrence:
    def test_counts_evaluations_within_its_window(self):
        engine, steps = run_steps(recurrence=4, recurrence_start=0.25, recurrence_stop=0.5)
        descending = engine.settings.process.timesteps.tolist()[::-1]
        times = [4 if k in (2, 3, 4) else 1 for k in range(9)]
        assert [row for (row,) in engine.generator.told] == [
            t for t, n in zip(descending, times, strict=True) for _ in range(n)
        ]
        assert [step.index for step in steps] == list(range(9))

    def test_does_not_shift_the_noise_of_other_steps(self):
        class Recording:
            draws_noise = True

            def __init__(self):
                self.noise = []

            def step(self, *arguments, noise=None, **keywords):
                self.noise.append(noise)
                return DDPM().step(*arguments, noise=noise, **keywords)

        plain, again = Recording(), Recording()
        run_steps(plain)
        run_steps(again, recurrence=2)
        last_of_each = again.noise[1::2]
        for ours, theirs in zip(last_of_each[:-1], plain.noise[:-1], strict=True):
            assert torch.equal(ours, theirs)
        repeats = again.noise[0:-2:2]
        assert len({round(noise.sum().item(), 9) for noise in repeats + last_of_each[:-1]}) == 16

    def test_leaves_the_distribution_of_unguided_samples_alone(self):
        """Going forward and back again is a step of the same Markov chain: data stay N(mu, sigma^2)."""
        samples = [Sample("0", None, seed) for seed in range(60)]
        _, steps = run_steps(steps=200, samples=samples, recurrence=2, recurrence_start=0.2)
        final = steps[-1].sample
        assert final.mean().item() == pytest.approx(0.2, abs=0.04)
        assert final.std().item() == pytest.approx(0.5, abs=0.03)

    def test_a_fault_in_any_repetition_is_told(self):
        class Once(Quadratic):
            def losses(self, images, text, objectives):
                losses = super().losses(images, text, objectives)
                return {n: v * (math.nan if len(self.asked) == 2 else 1) for n, v in losses.items()}

        engine = make_engine(GaussianGenerator(), Once(), Sampling(steps=4, recurrence=3), device="cpu")
        steps = list(engine.stream([Sample("0.5", Constant(near=1.0))]))
        assert [step.nonfinite.tolist() for step in steps] == [[True], [False], [False], [False]]


class TestInto:
    """Where s * g is added, one step at a time, from the plain gradient of the same state."""

    @pytest.mark.parametrize("through", ["unet", "x0"])
    @pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.7)])
    @pytest.mark.parametrize("into", ["sample", "x0"])
    def test_first_step(self, into, sampler, eta, through):
        noise = [torch.randn(1, *SHAPE, dtype=torch.float64) for _ in range(9)]
        settings = {"sampler": sampler, "eta": eta, "through": through}
        engine, (plain, *_) = run_steps(samples=[Sample("0.9", None)], noise=ReplayedNoise(noise), **settings)
        _, (moved, *_) = run_steps(noise=ReplayedNoise(noise), into=into, scale=0.3, **settings)
        a, previous = (engine.settings.process.alphas_cumprod[i].item() for i in (-1, -2))
        x0 = plain.pred_x0
        at_x0 = -(x0 - 0.9)
        of_unet = math.sqrt(a) * 0.25 / (a * 0.25 + 1 - a)
        g = at_x0 * (of_unet if through == "unet" else 1)
        if into == "sample":
            gain = 1.0
        elif sampler == "ddim":
            gain = math.sqrt(previous)
        else:
            gain = math.sqrt(previous) * (1 - a / previous) / (1 - a)
        torch.testing.assert_close(moved.sample - plain.sample, 0.3 * gain * g, rtol=1e-7, atol=1e-10)

    def test_samplers_that_do_not_say_their_gain(self):
        class Silent:
            draws_noise = False

        with pytest.raises(UsageError, match="guidance into x0 needs a sampler with guidance_gain"):
            make_engine(GaussianGenerator(), Quadratic(), Sampling(into="x0"), sampler=Silent())
        with pytest.raises(UsageError, match="a dose needs a sampler with guidance_gain"):
            make_engine(GaussianGenerator(), Quadratic(), Sampling(dose="matched"), sampler=Silent())


class TestDose:
    def test_is_the_sum_of_sigma(self):
        """The linear schedule's sum of beta is 10.05 at 1000 steps and 5.44 at 10."""
        engine, _ = run_steps(steps=10, dose="matched", fixed_variance="large")
        assert engine.settings.dose_factor == pytest.approx(10.05 / 5.44, rel=2e-3)
        assert engine.settings.dose == pytest.approx(10.05, rel=1e-3)
        assert run_steps(steps=10, fixed_variance="large")[0].settings.dose == pytest.approx(5.44, rel=1e-3)
        engine, _ = run_steps(steps=10, dose="matched", dose_steps=25, fixed_variance="large")
        assert engine.settings.dose_factor == pytest.approx(7.79 / 5.44, rel=2e-3)

    def test_a_learned_variance_counts_as_beta(self):
        generator = GaussianGenerator(interpolation=0.0)
        engine = make_engine(generator, Quadratic(), Sampling(steps=100, dose="matched"))
        assert engine.settings.dose_factor == pytest.approx(10.05 / 9.464, rel=1e-3)

    def test_only_guided_steps_count(self):
        options = {"dose": "matched", "start": 0.5, "every": 2}
        engine, _ = run_steps(steps=9, **options)
        sigma = DiffusionProcess(engine.generator.alphas_cumprod, 9).posterior_variance.tolist()
        full = DiffusionProcess(engine.generator.alphas_cumprod, 1000).posterior_variance.tolist()
        received = sigma[4] + sigma[2] + sigma[0]
        wanted = sum(full[999 - k] for k in range(500, 1000, 2))
        assert engine.settings.dose_factor == pytest.approx(wanted / received)

    @pytest.mark.parametrize("into", ["sample", "x0"])
    def test_by_where_it_enters(self, into):
        engine, _ = run_steps("ddim", steps=20, into=into, dose="matched")
        process = DiffusionProcess(engine.generator.alphas_cumprod, 1000)
        wanted = {"sample": 1000.0, "x0": process.alphas_cumprod_prev.sqrt().sum().item()}[into]
        received = {"sample": 20.0, "x0": engine.settings.process.alphas_cumprod_prev.sqrt().sum().item()}[
            into
        ]
        assert engine.settings.dose_factor == pytest.approx(wanted / received)

    def test_multiplies_every_scale(self):
        samples = [Sample("0.9", Constant(near=1.0), 3), Sample("0.9", Constant(near=1.0), 3, scale=0.7)]
        engine, matched = run_steps(samples=samples, dose="matched", scale=1.3)
        factor = engine.settings.dose_factor
        scaled = [Sample("0.9", Constant(near=1.0), 3, scale=s * factor) for s in (1.3, 0.7)]
        _, plain = run_steps(samples=scaled)
        torch.testing.assert_close(matched[-1].sample, plain[-1].sample)
        assert factor > 1.2

    def test_equal_dose_at_different_numbers_of_steps(self):
        """With a constant gradient the displacement is the dose itself, whatever the number of steps."""

        class Push(Quadratic):
            def losses(self, images, text, objectives):
                return {name: -images.sum(dim=(1, 2, 3)) for name in objectives}

        class Idle(GaussianGenerator):
            def __call__(self, x_t, timesteps):
                return super().__call__(x_t, timesteps)

        def dose(steps, **options):
            engine = make_engine(Idle(), Push(), Sampling(steps=steps, through="x0", **options), device="cpu")
            sigma = engine.settings.process.posterior_variance.sum().item()
            return engine.settings.dose_factor * sigma

        assert dose(10, dose="matched") == pytest.approx(dose(100, dose="matched"))
        assert dose(10) < 0.6 * dose(100)

    def test_what_cannot_be_matched(self):
        with pytest.raises(UsageError, match=r"dose_steps \(2000\) exceeds the 1000 training timesteps"):
            run_steps(dose="matched", dose_steps=2000)
        with pytest.raises(UsageError, match="no dose to match"):
            run_steps(dose="matched", start=1.0)  # the last step alone, whose posterior variance is 0


class TestFixedVariance:
    def test_is_the_samplers(self):
        _, ours = run_steps(fixed_variance="large")
        _, theirs = run_steps(DDPM(fixed_variance="large"))
        assert torch.equal(ours[-1].sample, theirs[-1].sample)
        assert not torch.allclose(ours[-1].sample, run_steps()[1][-1].sample, atol=1e-2)

    def test_the_generators_own_is_the_default_and_is_recorded(self):
        generator = GaussianGenerator()
        generator.fixed_variance = "large"
        engine = make_engine(generator, Quadratic())
        assert engine.settings.sampler == DDPM(fixed_variance="large")
        assert engine.settings.sampling.fixed_variance == "large"
        small = make_engine(generator, Quadratic(), Sampling(fixed_variance="small"))
        assert small.settings.sampler == DDPM()
        assert make_engine(generator, Quadratic(), Sampling(sampler="ddim")).settings.sampler == DDIM()

    @pytest.mark.parametrize("kind", ["small", "large"])
    def test_takes_the_place_of_a_learned_variance(self, kind):
        def draw(interpolation, **options):
            engine = make_engine(
                GaussianGenerator(interpolation=interpolation),
                Quadratic(),
                steps=5,
                dtype="float64",
                **options,
            )
            return engine.generate("0.9", Constant(near=1.0))[0].image, engine.settings.sampling.as_dict()

        given, described = draw(0.3, fixed_variance=kind)
        assert torch.equal(given, draw(None, fixed_variance=kind)[0])
        assert not torch.allclose(given, draw(0.3)[0], atol=1e-3)
        assert described["fixed_variance"] == kind

    def test_where_it_has_no_use(self):
        options = Sampling(fixed_variance="large")
        with pytest.raises(UsageError, match="belongs to the ddpm sampler"):
            make_engine(GaussianGenerator(), Quadratic(), replace(options, sampler="ddim"))
        with pytest.raises(UsageError, match="give it to your DDPM"):
            make_engine(GaussianGenerator(), Quadratic(), options, sampler=DDPM())


CHANGED = {
    "steps": 6,
    "sampler": "ddim",
    "eta": 0.5,
    "dtype": "float32",
    "scale": 2.0,
    "objective_scales": {"near": 2.0},
    "through": "x0",
    "see": "blend",
    "clip_denoised": False,
    "clip_after_guidance": True,
    "into": "sample",
    "normalize": "rms",
    "clip_norm": 0.5,
    "range_scale": 10.0,
    "augment": "crop",
    "augmentations": 2,
    "augment_strength": 0.5,
    "smoothing": 2,
    "smoothing_average": "mean",
    "smoothing_radius": 0.5,
    "start": 0.3,
    "stop": 0.7,
    "every": 2,
    "recurrence": 2,
    "recurrence_start": 0.5,
    "recurrence_stop": 0.5,
    "dose": "matched",
    "dose_steps": 20,
    "fixed_variance": "large",
}
NEEDS = {
    "clip_after_guidance": {"sampler": "ddim"},
    "eta": {"sampler": "ddim"},
    "augmentations": {"augment": "crop"},
    "augment_strength": {"augment": "crop"},
    "smoothing_average": {"smoothing": 2},
    "smoothing_radius": {"smoothing": 2},
    "recurrence_start": {"recurrence": 2},
    "recurrence_stop": {"recurrence": 2},
    "dose_steps": {"dose": "matched"},
}
"""Options that mean something only together with another."""


def key(options):
    settings = RunSettings(ModelId("g", "1"), ModelId("v", "1"), (3, 4, 4), options)
    return Cell(Prompt("a"), NamedSchedule("near", Constant(near=1.0)), 0).key(settings)


@pytest.mark.parametrize("name", [option.name for option in options()])
def test_every_option_changes_the_picture_and_its_key(name):
    def draw(**options):
        chosen = Sampling(**{"steps": 7, "dtype": "float64", **options})
        engine = make_engine(GaussianGenerator(mu=0.9), Quadratic(), chosen)
        samples = [Sample("0.9", Shift("near", "steep"), 3)]
        return list(engine.stream(samples))[-1].sample, key(chosen)

    base = NEEDS.get(name, {})
    before, key_before = draw(**base)
    after, key_after = draw(**base, **{name: CHANGED[name]})
    assert before.dtype != after.dtype or not torch.allclose(before, after, rtol=1e-6, atol=1e-9)
    assert key_before != key_after


@pytest.mark.parametrize("through", ["unet", "x0"])
def test_what_is_seen_clamped_is_differentiated_through_the_clamp(through):
    """Outside [-1, 1] nothing changes what the model sees; through="x0" stops at what it sees."""
    got, (net, vision, text, process, x_t, index) = gradient(wide=3.0, see="clamped", through=through)

    def log_p(x):
        seen_x0 = seen(net, process, x, index, "x0")
        return weighted_losses(vision, text, seen_x0.clamp(-1, 1) if through == "unet" else seen_x0)

    if through == "unet":
        torch.testing.assert_close(got, central_differences(log_p, x_t), rtol=1e-5, atol=1e-6)
        return
    x0 = seen(net, process, x_t, index, "x0").detach()
    assert (x0.abs() > 1).any()
    of_x0 = central_differences(lambda x: weighted_losses(vision, text, x), x0.clamp(-1, 1))
    root = process.alphas_cumprod[index].sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(got, root * of_x0, rtol=1e-5, atol=1e-6)


def test_clamped_is_what_the_reverse_step_uses():
    """Without clip_denoised there is no clamp to see."""
    plain, _ = gradient(wide=3.0, see="x0", clip_denoised=False)
    assert torch.equal(gradient(wide=3.0, see="clamped", clip_denoised=False)[0], plain)
    assert not torch.allclose(gradient(wide=3.0, see="clamped")[0], plain, rtol=1e-3)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [("ddpm", "belongs to the ddim sampler"), (DDIM(), "give it to your DDIM")],
)
def test_where_clipping_after_guidance_has_no_use(sampler, words):
    options = Sampling(clip_after_guidance=True)
    with pytest.raises(UsageError, match=words):
        make_engine(GaussianGenerator(), Quadratic(), options, sampler=sampler)
    with pytest.raises(UsageError, match="clip_after_guidance needs into=score, got into=x0"):
        make_engine(GaussianGenerator(), Quadratic(), sampler="ddim", clip_after_guidance=True, into="x0")


def test_every_option_is_part_of_the_key_even_at_its_default():
    """A default that changes must not return pictures drawn with the old one."""
    assert list(Sampling().as_dict()) == [option.name for option in options()]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"into": "mean"}, "into must be one of score, sample, x0, got 'mean'"),
        ({"normalize": "l2"}, "normalize must be one of none, unit, rms, loss, noise"),
        ({"smoothing_average": "max"}, "one of logmeanexp, mean"),
        ({"dose": "equal"}, "dose must be one of plain, matched"),
        ({"fixed_variance": "huge"}, "one of small, large"),
        ({"clip_norm": 0.0}, "clip_norm must be a finite number above 0, got 0.0"),
        ({"clip_norm": math.nan}, "clip_norm must be a finite number"),
        ({"range_scale": math.inf}, "range_scale must be a finite number"),
        (
            {"augment": "crop+flip"},
            "augment must be some of crop, affine, noise joined by .*, got 'crop.flip'",
        ),
        ({"augmentations": 4}, "4 augmentations without a kind are one image; choose augment"),
        ({"augment": "crop", "augmentations": 0}, "augmentations must be a whole number, at least 1, got 0"),
        ({"augment_strength": 2.5}, "augment_strength must be a finite number from 0 to 2, got 2.5"),
        ({"smoothing": -1}, "smoothing must be a whole number, at least 0"),
        ({"smoothing": 2.0}, "smoothing must be a whole number"),
        ({"smoothing_radius": -0.1}, "smoothing_radius must be a finite number, at least 0"),
        ({"start": 1.5}, "start must be a finite number from 0 to 1"),
        ({"start": 0.6, "stop": 0.4}, r"start \(0.6\) must not exceed stop \(0.4\)"),
        (
            {"recurrence_start": 0.6, "recurrence_stop": 0.4},
            "recurrence_start .* must not exceed recurrence_stop",
        ),
        ({"every": 0}, "every must be a whole number, at least 1"),
        ({"recurrence": 0}, "recurrence must be a whole number, at least 1"),
        ({"dose_steps": 0}, "dose_steps must be a whole number, at least 1"),
        ({"scale": True}, "must be a finite number"),
    ],
)
def test_unusable_values_are_named(wrong, words):
    with pytest.raises(UsageError, match=words) as caught:
        Sampling(**wrong)
    assert caught.value.setting in wrong


def test_options_on_a_nonlinear_network_do_not_mix_samples():
    """Everything at once: a picture is the same alone and among others."""
    options = Sampling(
        scale=20.0,
        normalize="noise",
        clip_norm=0.5,
        range_scale=5.0,
        augment="crop+affine+noise",
        augmentations=2,
        smoothing=2,
        recurrence=2,
        into="sample",
        see="blend",
        every=2,
    )
    engine = make_engine(TinyNet(), TinyVision(), replace(options, steps=6, dtype="float64"), device="cpu")
    samples = [
        Sample("a red circle", Constant(dot=1.0), 0),
        Sample("two squares", Shift("dot", "square"), 1),
        Sample("a cross", None, 3),
        Sample("a red circle", Constant(dot=0.5, square=0.5), 1),
    ]
    together = list(engine.run(samples))
    for sample, result in zip(samples, together, strict=True):
        (alone,) = engine.run([sample])
        torch.testing.assert_close(result.image, alone.image, rtol=1e-9, atol=1e-9)
