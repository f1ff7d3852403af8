"""The engine: batches, pairing, telemetry, precision, borrowed networks, faults."""

from __future__ import annotations

import gc
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from guidelens.contracts import TextBatch
from guidelens.diffusion import DDPM
from guidelens.engine import Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.joint_guidance import JointGuidance
from guidelens.networks import resolve_device
from guidelens.sampling import Sampling
from toys import SHAPE, Constant, GaussianGenerator, Quadratic, Shift, TinyNet, TinyVision, make_engine

STRONG = Sampling(scale=30.0)


def tiny_engine(steps=6, **settings):
    return make_engine(TinyNet(), TinyVision(), settings.pop("sampling", STRONG), steps=steps, **settings)


def gaussian_engine(steps=6, **settings):
    return make_engine(GaussianGenerator(), Quadratic(), steps=steps, **settings)


MIXED = [
    Sample("a red circle", Constant(dot=1.0), 0),
    Sample("two squares", Shift("dot", "square"), 1),
    Sample("a red circle", Constant(dot=0.5, square=0.5), 2, scale=10.0),
    Sample("a cross", None, 3),
    Sample("a cross", Constant(square=1.0), 0, scale=0.0),
    Sample("two squares", Constant(square=-1.0), 4),
]


class RecordingSampler:
    """DDPM that keeps the noise it was given."""

    draws_noise = True

    def __init__(self):
        self.noise = []

    def step(self, *arguments, noise=None, **keywords):
        self.noise.append(noise)
        return DDPM().step(*arguments, noise=noise, **keywords)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_sample_is_the_same_alone_in_a_batch_and_in_another_order(sampler):
    # In float64: DDIM's first step on the cosine schedule magnifies rounding by 1 / sqrt(abar) = 20,000.
    engine = tiny_engine(sampler=sampler, dtype="float64")
    together = list(engine.run(MIXED))
    backwards = list(engine.run(MIXED[::-1]))[::-1]
    pairs = list(tiny_engine(sampler=sampler, dtype="float64", batch_size=2).run(MIXED))
    for sample, *results in zip(MIXED, together, backwards, pairs, strict=True):
        (alone,) = engine.run([sample])
        for result in results:
            assert result.sample is sample
            torch.testing.assert_close(result.image, alone.image, rtol=1e-6, atol=1e-6)
            assert result.losses.keys() == alone.losses.keys()
            for name, series in alone.losses.items():
                assert result.losses[name] == pytest.approx(series, rel=1e-6, abs=1e-8, nan_ok=True)
            assert result.cosines.keys() == alone.cosines.keys()
    images = [result.image for result in together]
    assert all(not torch.allclose(images[0], other, atol=1e-2) for other in images[1:])


def test_schedules_share_initial_and_step_noise():
    recorded = []
    for schedule in (Constant(dot=1.0), Shift("square", "dot"), None):
        sampler = RecordingSampler()
        steps = list(tiny_engine(sampler=sampler).stream([Sample("a", schedule, 11)]))
        recorded.append([steps[0].x_t, *sampler.noise[:-1]])
        assert sampler.noise[-1] is None  # the last step draws none
        assert len(sampler.noise) == 6
    for other in recorded[1:]:
        for ours, theirs in zip(recorded[0], other, strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(recorded[0][0], recorded[0][1])


@pytest.mark.parametrize("respacing", [1, 7, "ddim8", "2+3"])
def test_steps_are_numbered_and_timed(respacing):
    engine = gaussian_engine(respacing)
    steps = list(engine.stream([Sample("0.5", Constant(near=1.0), seed) for seed in range(2)]))
    descending = engine.settings.process.timesteps.tolist()[::-1]
    assert [step.timestep for step in steps] == descending
    assert engine.generator.told == [[timestep] * 2 for timestep in descending]  # one evaluation a step
    assert [step.index for step in steps] == list(range(engine.settings.steps))
    last = max(engine.settings.steps - 1, 1)
    assert [step.progress for step in steps] == [k / last for k in range(engine.settings.steps)]
    for earlier, later in pairwise(steps):
        assert later.x_t is earlier.sample


def test_a_step_carries_detached_float32_telemetry():
    (step, *_) = tiny_engine().stream(MIXED)
    assert step.x_t.shape == step.pred_x0.shape == step.sample.shape == (6, *SHAPE)
    assert set(step.weights) == set(step.losses) == set(step.gradient_norms) == {"dot", "square"}
    assert set(step.cosines) == {("dot", "square")}
    assert step.weights["dot"].tolist() == [1.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    assert step.losses["dot"].isnan().tolist() == [False, False, False, True, True, True]
    assert step.losses["square"].isnan().tolist() == [True, True, False, True, True, False]
    for tensor in (step.x_t, step.pred_x0, step.sample, *step.losses.values(), *step.gradient_norms.values()):
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad
    assert step.nonfinite.tolist() == [False] * 6


def test_results_are_what_the_steps_said():
    engine, steps = tiny_engine(), []
    results = list(engine.run(MIXED, on_step=steps.append))
    assert [result.sample for result in results] == MIXED
    shifted = results[1]
    assert set(shifted.losses) == {"dot", "square"}
    for name in ("dot", "square"):
        expected = [step.losses[name][1].item() for step in steps]
        assert shifted.losses[name] == pytest.approx(expected, nan_ok=True)
        norms = [step.gradient_norms[name][1].item() for step in steps]
        assert shifted.gradient_norms[name] == pytest.approx(norms, nan_ok=True)
    assert math.isnan(shifted.losses["square"][0])
    assert math.isnan(shifted.losses["dot"][-1])
    assert list(shifted.cosines) == ["dot|square"]
    cosines = [step.cosines["dot", "square"][1].item() for step in steps]
    assert shifted.cosines["dot|square"] == pytest.approx(cosines, nan_ok=True)
    assert set(results[0].losses) == {"dot"}
    assert results[0].cosines == {}
    assert results[3].losses == results[4].losses == {}
    for row, result in enumerate(results):
        torch.testing.assert_close(result.image, steps[-1].sample[row].clamp(-1, 1))
        assert result.nonfinite_steps == 0
        assert result.seconds > 0


def test_scale_zero_is_unguided_and_scale_overrides_the_options():
    engine = gaussian_engine(sampling=Sampling(scale=2.0))
    samples = [
        Sample("0.9", None, 1),
        Sample("0.9", Constant(near=1.0), 1, scale=0.0),
        Sample("0.9", Constant(near=1.0), 1),
        Sample("0.9", Constant(near=1.0), 1, scale=2.0),
        Sample("0.9", Constant(near=2.0), 1, scale=1.0),
    ]
    images = [result.image for result in engine.run(samples)]
    assert torch.equal(images[0], images[1])
    assert not torch.allclose(images[1], images[2], atol=1e-2)
    torch.testing.assert_close(images[2], images[3])
    torch.testing.assert_close(images[2], images[4])


def test_images_are_clamped_and_states_are_not():
    engine, steps = gaussian_engine(sampling=Sampling(scale=30.0, clip_denoised=False)), []
    (result,) = engine.run([Sample("5", Constant(near=1.0))], on_step=steps.append)
    assert steps[-1].sample.max() > 1
    assert result.image.max() == 1


def test_objective_scales_multiply_the_gradient():
    def image(weight, model_scale=None, **given):
        model = Quadratic()
        if model_scale is not None:
            model.default_scales = {"near": model_scale}
        options = Sampling(objective_scales=given)
        engine = make_engine(GaussianGenerator(), model, replace(options, steps=5), device="cpu")
        return engine.generate("0.9", Constant(near=weight))[0].image

    torch.testing.assert_close(image(1.0, model_scale=3.0), image(3.0))
    torch.testing.assert_close(image(1.0, model_scale=50.0, near=3.0), image(3.0))
    assert not torch.allclose(image(1.0), image(3.0), atol=1e-2)


def test_unguided_steps_build_no_graph():
    engine = gaussian_engine()
    list(engine.stream([Sample("0.5", None, 0), Sample("0.5", Constant(near=0.0), 1)]))
    assert engine.generator.graphs == [False] * 6
    assert engine.guidance_model.asked == []
    list(engine.stream([Sample("0.5", None, 0), Sample("0.5", Shift("near", "steep"), 1)]))
    assert engine.generator.graphs[6:] == [True] * 6


def test_prompts_are_encoded_once_per_run():
    engine = gaussian_engine(batch_size=2)
    samples = [Sample(prompt, Constant(near=1.0), seed) for seed in range(3) for prompt in ("0.5", "-0.5")]
    samples.append(Sample("never read", None, 0))
    results = list(engine.run(samples))
    assert engine.guidance_model.encoded == [("0.5", "-0.5")]
    assert [result.sample for result in results] == samples
    assert results[0].image.mean() > results[1].image.mean()


def test_generate_crosses_prompts_and_seeds():
    engine = gaussian_engine()
    results = engine.generate(["0.5", "0.1"], Constant(near=1.0), seeds=(3, 4))
    got = [(result.sample.prompt, result.sample.seed) for result in results]
    assert got == [("0.5", 3), ("0.5", 4), ("0.1", 3), ("0.1", 4)]
    assert len(engine.generate("0.5", None)) == 1


def test_runs_can_be_cancelled_and_print_nothing(capfd):
    engine = gaussian_engine(batch_size=1)
    results = engine.run([Sample("0.5", Constant(near=1.0), seed) for seed in range(5)])
    next(results)
    results.close()
    assert len(engine.generator.told) == 6
    stream = engine.stream([Sample("0.5", Constant(near=1.0))])
    next(stream)
    stream.close()
    assert len(engine.generator.told) == 7
    assert capfd.readouterr() == ("", "")


def test_no_samples():
    assert list(gaussian_engine().run([])) == []
    with pytest.raises(UsageError, match="no samples"):
        gaussian_engine().stream([])


class TestBorrowedNetworks:
    """What is done to the user's modules is undone."""

    @staticmethod
    def state(engine):
        modules = [*engine.generator.modules(), *engine.guidance_model.modules()]
        parameters = [*engine.generator.parameters(), *engine.guidance_model.parameters()]
        return [m.training for m in modules], [p.requires_grad for p in parameters]

    def test_frozen_while_streaming_and_restored_after(self):
        engine = tiny_engine()
        engine.generator.train()
        engine.generator.dropout.eval()
        engine.guidance_model.features[1].bias.requires_grad_(False)
        before = self.state(engine)
        for step in engine.stream(MIXED):
            training, trainable = self.state(engine)
            assert not any(training)
            assert not any(trainable)
            assert torch.is_grad_enabled()  # the caller's mode is the caller's
            assert step.index < 6
        assert self.state(engine) == before
        assert all(
            p.grad is None for p in [*engine.generator.parameters(), *engine.guidance_model.parameters()]
        )

    def test_restored_when_abandoned_or_failed(self):
        engine = tiny_engine()
        before = self.state(engine)
        stream = engine.stream(MIXED)
        next(stream)
        assert self.state(engine) != before
        del stream
        gc.collect()
        assert self.state(engine) == before

        def fail(step):
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            list(engine.run(MIXED, on_step=fail))
        assert self.state(engine) == before

    def test_the_last_of_two_streams_restores(self):
        engine = tiny_engine()
        before = self.state(engine)
        first, second = engine.stream(MIXED[:1]), engine.stream(MIXED[1:2])
        next(first)
        next(second)
        first.close()
        assert not any(self.state(engine)[0])
        second.close()
        assert self.state(engine) == before

    def test_under_the_callers_inference_mode(self):
        expected = [result.image for result in tiny_engine().run(MIXED)]
        engine = tiny_engine()
        with torch.inference_mode():
            images = [result.image for result in engine.run(MIXED)]
        torch.testing.assert_close(images, expected)

    def test_dropout_is_off(self):
        engine = tiny_engine()
        engine.generator.train()
        first, second = (next(engine.run(MIXED[:1])).image for _ in range(2))
        assert torch.equal(first, second)

    def test_objects_that_are_no_modules_are_moved_by_their_own_to(self):
        class Movable(Quadratic):
            def to(self, device, dtype):
                self.moved = (device, dtype)

        model = Movable()
        engine = make_engine(GaussianGenerator(), model, Sampling(dtype="bfloat16"), device="cpu")
        assert engine.guidance_model is model
        assert model.moved == (torch.device("cpu"), torch.float32)

    def test_float64_tables_of_modules_keep_their_digits(self):
        net = TinyNet()
        table = net.alphas_cumprod
        del net.alphas_cumprod
        net.register_buffer("alphas_cumprod", table)
        net.half()
        net.alphas_cumprod = table
        make_engine(net, None, device="cpu")
        assert net.alphas_cumprod.dtype == torch.float64
        assert net.first.weight.dtype == torch.float32


def test_threads_with_networks_in_common():
    net, vision = TinyNet(), TinyVision()
    net.train()
    engines = [make_engine(net, vision, replace(STRONG, steps=steps), device="cpu") for steps in (5, 9)]
    expected = [[r.image for r in engine.run(MIXED)] for engine in engines]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(lambda e: [r.image for r in e.run(MIXED)], engines[k % 2]) for k in range(8)]
    for k, future in enumerate(futures):
        torch.testing.assert_close(future.result(), expected[k % 2])
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_global_random_state_is_untouched():
    engine, before = tiny_engine(), torch.get_rng_state()
    list(engine.run(MIXED))
    assert torch.equal(before, torch.get_rng_state())


class TestPrecision:
    @pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
    def test_networks_compute_in_it_and_the_state_does_not(self, name, dtype):
        engine = tiny_engine(dtype=name)
        seen = []
        for layer in (engine.generator.second, engine.guidance_model.features[1]):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        steps = list(engine.stream(MIXED))
        assert set(seen) == {dtype}
        assert engine.generator.first.weight.dtype == torch.float32
        for step in steps:
            assert step.sample.dtype == step.losses["dot"].dtype == torch.float32
            assert not step.nonfinite.any()
        exact = list(tiny_engine().stream(MIXED))
        for ours, theirs in zip(steps, exact, strict=True):
            for name, norms in theirs.gradient_norms.items():
                torch.testing.assert_close(
                    ours.gradient_norms[name], norms, rtol=0.05, atol=0.05, equal_nan=True
                )
        torch.testing.assert_close(steps[-1].sample, exact[-1].sample, rtol=0.1, atol=0.1)

    def test_float16_survives_gradients_that_would_vanish(self):
        """An objective scale of 1e-9 and its inverse in s cancel, if nothing is flushed to zero."""

        def image(small, dtype):
            engine = tiny_engine(dtype=dtype, scale=30.0 / small, objective_scales={"dot": small})
            return next(engine.run(MIXED[:1])).image

        torch.testing.assert_close(image(1e-9, "float16"), image(1.0, "float32"), rtol=0.05, atol=0.05)

    @pytest.mark.parametrize("joint", [False, True])
    def test_gradients_of_a_model_with_float16_weights_do_not_vanish(self, joint):
        """The engine computes in float32, and the guidance model in float16 by itself."""

        class HalfVision:
            objectives, fingerprint, dtype = frozenset({"dot", "square"}), "half", torch.float16

            def __init__(self, small):
                self.small, self.model = small, TinyVision().eval().requires_grad_(False)

            def encode_text(self, prompts):
                return self.model.encode_text(prompts)

            def losses(self, images, text, objectives):
                with torch.autocast("cpu", torch.float16):
                    losses = self.model.losses(images, text, objectives)
                return {name: self.small * loss.float() for name, loss in losses.items()}

        def image(small):
            model = JointGuidance({"half": HalfVision(small)}) if joint else HalfVision(small)
            name = "half/dot" if joint else "dot"
            sampling = replace(STRONG, steps=6, scale=30.0 / small)
            engine = make_engine(TinyNet(), model, sampling, device="cpu")
            return next(engine.run([Sample("a red circle", Constant(**{name: 1.0}), 0)])).image

        torch.testing.assert_close(image(1e-8), image(1.0), rtol=0.05, atol=0.05)

    def test_float64_throughout(self):
        steps = list(tiny_engine(dtype="float64").stream(MIXED))
        assert steps[-1].sample.dtype == steps[-1].losses["dot"].dtype == torch.float64
        exact = list(tiny_engine().stream(MIXED))
        torch.testing.assert_close(steps[-1].sample.float(), exact[-1].sample, rtol=1e-3, atol=1e-4)

    def test_unknown(self):
        with pytest.raises(UsageError, match=r"dtype must be one of float32, .*, got 'int8'"):
            gaussian_engine(dtype="int8")


class Spoiled(Quadratic):
    """Gradients that are nan for the prompt 13, in every evaluation or the first ``until``."""

    def __init__(self, until=None):
        super().__init__()
        self._until = until

    def losses(self, images, text, objectives):
        losses = super().losses(images, text, objectives)
        if self._until is not None and len(self.asked) > self._until:
            return losses
        factor = torch.tensor([math.nan if prompt == "13" else 1.0 for prompt in text.prompts])
        return {name: loss * factor for name, loss in losses.items()}


class TestNonfinite:
    samples = (Sample("0.5", Constant(near=1.0), 1), Sample("13", Constant(near=1.0), 2))

    def test_too_many_end_in_an_error_that_names_the_sample(self):
        engine = make_engine(GaussianGenerator(), Spoiled(), Sampling(steps=6), device="cpu")
        words = r"prompt '13', seed 2: .* not finite in 6 of 6 steps \(at most 3 "
        with pytest.raises(GuidelensError, match=words) as info:
            list(engine.run(self.samples))
        assert not isinstance(info.value, UsageError)

    def test_a_long_run_stops_early(self):
        engine = make_engine(
            GaussianGenerator(), Spoiled(), Sampling(steps=100), max_nonfinite=5, device="cpu"
        )
        with pytest.raises(GuidelensError, match="in 10 of 100 steps"):
            list(engine.run(self.samples))

    @pytest.mark.parametrize(("until", "limit"), [(3, None), (2, 2), (6, 6)])
    def test_a_few_are_counted(self, until, limit):
        engine = make_engine(
            GaussianGenerator(), Spoiled(until), Sampling(steps=6), max_nonfinite=limit, device="cpu"
        )
        steps = []
        good, bad = engine.run(self.samples, on_step=steps.append)
        assert (good.nonfinite_steps, bad.nonfinite_steps) == (0, until)
        assert [step.nonfinite.tolist() for step in steps] == [[False, k < until] for k in range(6)]
        unguided = gaussian_engine().stream([Sample("13", None, 2)])
        for step, plain in zip(steps[:until], unguided, strict=False):
            torch.testing.assert_close(step.sample[1:], plain.sample)
        assert bad.image.isfinite().all()

    def test_a_generator_that_goes_astray(self):
        class Astray(GaussianGenerator):
            def __call__(self, x_t, timesteps):
                return super().__call__(x_t, timesteps) * math.nan

        engine = make_engine(Astray(), Quadratic(), Sampling(steps=3), device="cpu")
        with pytest.raises(GuidelensError, match=r"prompt '0\.5', seed 7: its values are no longer finite"):
            engine.generate("0.5", None, seeds=[7])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be a number from 1 on, .*, got 0"),
        ({"steps": 1001}, "choose between 1 and the 1000"),
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"max_nonfinite": -1}, "max_nonfinite must be at least 0"),
        ({"sampler": "heun"}, r"sampler must be one of ddpm, ddim, dpm\+\+, got 'heun'"),
        ({"eta": 0.5}, "belongs to the ddim sampler"),
        ({"eta": 0.5, "sampler": DDPM()}, "give it to your DDPM"),
        ({"objective_scales": {"cap": 1.0}}, "'cap', unknown .* away, near, steep"),
        ({"device": "tpu"}, "'tpu'; choose auto, cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:x"}, "unknown device 'cuda:x'"),
        ({"device": "cpu:1"}, "unknown device 'cpu:1'"),
        ({"device": "cuda:"}, "'cuda:' lacks its number"),
    ],
)
def test_unusable_settings(settings, words):
    with pytest.raises(UsageError, match=words) as caught:
        gaussian_engine(**settings)
    assert caught.value.setting in settings


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (Sample("  ", Constant(near=1.0)), "a prompt is empty"),
        (
            Sample("0.5", Constant(cap=1.0)),
            r"Constant.* names the objective 'cap'.* it has away, near, steep",
        ),
        (
            Sample("0.5", Constant(near=math.nan)),
            "'near' at progress 0 must be a finite number, got nan",
        ),
        (
            Sample("0.5", Constant(near=1.0), scale=math.inf),
            "scale of '0.5' must be a finite number",
        ),
        (Sample("0.5", Constant(near=1.0), seed=-1), "a seed must be a whole number"),
    ],
)
def test_unusable_samples_are_refused_before_anything_runs(sample, words):
    engine = gaussian_engine()
    for begin in (engine.stream, engine.run):
        with pytest.raises(UsageError, match=words) as info:
            begin([Sample("0.1", Constant(near=1.0)), sample])
        assert "\n" not in str(info.value)
    assert engine.guidance_model.encoded == []


def test_unusable_components():
    with pytest.raises(UsageError, match="draws images of 1 channels; guidance models see 3"):
        make_engine(GaussianGenerator(shape=(1, 4, 4)), Quadratic(), device="cpu")
    with pytest.raises(UsageError, match="object is not a generator: it lacks image_shape, alphas_cumprod"):
        make_engine(object(), Quadratic(), device="cpu")
    with pytest.raises(UsageError, match="object is not a guidance model: it lacks objectives, encode_text"):
        make_engine(GaussianGenerator(), object(), device="cpu")
    generator = GaussianGenerator()
    generator.prediction = "noise"
    with pytest.raises(UsageError, match="predicts 'noise'; choose epsilon, x0, v"):
        make_engine(generator, Quadratic(), device="cpu")
    generator = GaussianGenerator()
    generator.learned_variance = True
    with pytest.raises(UsageError, match=r"returned \(1, 3, 4, 4\) .* it should be \(1, 6, 4, 4\)"):
        make_engine(generator, Quadratic(), device="cpu").generate("0.5", None)
    with pytest.raises(UsageError, match=r"names the objective 'near'.*there is none"):
        make_engine(GaussianGenerator(), None, device="cpu").generate("0.5", Constant(near=1.0))


def test_grey_generators_work_unguided():
    (result,) = make_engine(
        GaussianGenerator(shape=(1, 4, 4)), None, Sampling(steps=3), device="cpu"
    ).generate("", None)
    assert result.image.shape == (1, 4, 4)


def test_a_text_encoder_that_loses_prompts():
    class Forgetful(Quadratic):
        def encode_text(self, prompts):
            return TextBatch(())

    with pytest.raises(GuidelensError, match="encoded 0 prompts, not the 1"):
        make_engine(GaussianGenerator(), Forgetful(), device="cpu").generate("0.5", Constant(near=1.0))


def test_notes_on_prompts_are_returned_and_not_logged(caplog):
    class Noting(Quadratic):
        def encode_text(self, prompts):
            text = super().encode_text(prompts)
            return TextBatch(text.prompts, text.tensors, tuple((f"note on {p}",) for p in prompts))

    engine = make_engine(GaussianGenerator(), Noting(), Sampling(steps=2), batch_size=1, device="cpu")
    with caplog.at_level(logging.WARNING, logger="guidelens"):
        results = engine.generate(["0.5", "0.1"], Constant(near=1.0), seeds=2)
        unguided = engine.generate("0.5", None)
        step = next(engine.stream([Sample("0.5", Constant(near=1.0)), Sample("0.1", None)]))
    assert [result.notes for result in results] == [("note on 0.5",)] * 2 + [("note on 0.1",)] * 2
    assert unguided[0].notes == ()
    assert step.notes == (("note on 0.5",), ())
    assert not caplog.messages


def test_noise_of_the_wrong_shape():
    class Wrong:
        def next(self):
            return torch.zeros(1, 3, 8, 8)

    with pytest.raises(UsageError, match=r"shape \(1, 3, 8, 8\); this batch needs \(1, 3, 4, 4\)"):
        next(gaussian_engine().stream([Sample("0.5", None)], noise=Wrong()))


def test_absent_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UsageError, match=f"no CUDA device is present .asked for '{name}'"):
            resolve_device(name)
    with pytest.raises(UsageError, match="no Apple GPU"):
        resolve_device("mps")


def test_present_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert (
        resolve_device("auto")
        == resolve_device("cuda")
        == resolve_device("cuda:1")
        == torch.device("cuda", 1)
    )
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(UsageError, match=r"no CUDA device 2 .* present: 0 to 1"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("mps") == torch.device("mps")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    def test_pictures_are_those_of_the_cpu(self):
        ours = list(tiny_engine(device="cuda").stream(MIXED))
        theirs = list(tiny_engine().stream(MIXED))
        assert ours[-1].sample.device.type == "cuda"
        torch.testing.assert_close(ours[-1].sample.cpu(), theirs[-1].sample, rtol=1e-2, atol=1e-2)

    @pytest.mark.parametrize("dtype", ["bf16", "fp16"])
    def test_half_precision(self, dtype):
        ours = list(tiny_engine(device="cuda", dtype=dtype).run(MIXED))
        theirs = list(tiny_engine().run(MIXED))
        for half, full in zip(ours, theirs, strict=True):
            assert half.nonfinite_steps == 0
            torch.testing.assert_close(half.image, full.image, rtol=0.1, atol=0.1)
