"""Gradients by objective in the stream, the maps of them that telemetry keeps, and how these are drawn."""

from __future__ import annotations

import gc
import io
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from guidelens.contracts import TextBatch
from guidelens.engine import Engine, Sample
from guidelens.guidance import GuidanceOptions
from guidelens.runs.telemetry import (
    MAPS,
    StepRecorder,
    Telemetry,
    load_batch,
    pack,
    saliency_maps,
    single_telemetry,
)
from test_guidance import SCALES, central_differences, tiny_setup
from test_memory import Narrow
from test_no_waiting import EVERYTHING, NoWaiting
from toys import SHAPE, Constant, GaussianGenerator, Shift, TinyNet, TinyVision

MIXED = [
    Sample("a red circle", Constant(dot=1.0), 0),
    Sample("two squares", Shift("dot", "square"), 1),
    Sample("a cross", None, 3),
    Sample("a red circle", Constant(dot=0.5, square=0.5), 2, scale=10.0),
    Sample("a cross", Constant(square=-1.0), 4),
]
BOTH = Sample("two squares", Constant(dot=0.5, square=-2.0), 1)
NAMES = ("dot", "square")


def tiny_engine(options=None, net=None, vision=None, steps=5, dtype="float64", **settings):
    return Engine(
        net or TinyNet(),
        vision or TinyVision(),
        steps=steps,
        options=options or GuidanceOptions(scale=3.0),
        device="cpu",
        dtype=dtype,
        **settings,
    )


def own_gradients(samples, images, name):
    """dL/d(image) of each sample by itself, straight from the guidance model, in float64."""
    vision, rows = TinyVision().double(), []
    for sample, image in zip(samples, images, strict=True):
        point = image[None].clone().requires_grad_()
        with torch.no_grad():
            text = vision.encode_text([sample.prompt])
        (row,) = torch.autograd.grad(vision.losses(point, text, [name])[name].sum(), point)
        rows.append(row[0])
    return torch.stack(rows)


class TestStream:
    @pytest.mark.parametrize("see", ["x0", "blend"])
    @pytest.mark.parametrize("through", ["unet", "x0"])
    def test_are_those_of_finite_differences(self, through, see):
        engine = tiny_engine(GuidanceOptions(through=through, see=see, recurrence=2, clip_denoised=False))
        samples = [BOTH, Sample("a cross", Constant(square=1.0, dot=1.0), 4)]
        vision = engine.guidance_model
        with torch.no_grad():
            text = vision.encode_text([sample.prompt for sample in samples])
        for step in engine.stream(samples):
            share = (1 - engine.generator.alphas_cumprod[step.timestep]).sqrt() if see == "blend" else 1.0
            image = share * step.pred_x0 + (1 - share) * step.x_t
            for name in NAMES:
                expected = central_differences(lambda x, n=name: vision.losses(x, text, [n])[n], image)
                torch.testing.assert_close(step.gradients[name], expected, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
    @pytest.mark.parametrize("options", [GuidanceOptions(), EVERYTHING], ids=["plain", "everything"])
    def test_norms_and_cosines_are_theirs(self, options, dtype):
        for step in tiny_engine(options, dtype=dtype).stream(MIXED):
            assert tuple(step.gradients) == NAMES
            flat = {}
            for name, gradient in step.gradients.items():
                assert gradient.shape == (len(MIXED), *SHAPE)
                assert gradient.dtype == step.x_t.dtype
                assert gradient.device == step.x_t.device
                assert not gradient.requires_grad
                flat[name] = gradient.flatten(1)
                torch.testing.assert_close(flat[name].norm(dim=1), step.gradient_norms[name], equal_nan=True)
                assert gradient.isnan().flatten(1).all(dim=1).tolist() == step.losses[name].isnan().tolist()
                assert not gradient[~step.losses[name].isnan()].isnan().any()
            cosines = torch.nn.functional.cosine_similarity(flat["dot"], flat["square"], dim=1)
            torch.testing.assert_close(step.cosines[NAMES], cosines, equal_nan=True)
        assert [value.isnan().tolist() for value in step.losses.values()] == [  # not of all alike
            [False, True, True, False, True],
            [True, False, True, False, False],
        ]

    def test_each_row_is_its_own_samples(self):
        for step in tiny_engine(GuidanceOptions(clip_denoised=False)).stream(MIXED):
            for name in NAMES:
                active = ~step.losses[name].isnan()
                expected = own_gradients(MIXED, step.pred_x0, name)
                torch.testing.assert_close(step.gradients[name][active], expected[active])

    @pytest.mark.parametrize("average", ["mean", "logmeanexp"])
    def test_over_views_they_add_up_to_what_guides(self, average):
        """Which other tests hold against finite differences; that it is at x0 makes the sum simple."""
        views = {"augment": "crop+noise", "augmentations": 2, "smoothing": 3, "smoothing_average": average}
        guide, *_, x_t, index = tiny_setup(through="x0", into="x0", **views)
        with torch.no_grad():
            guided = guide(x_t, index, 0)
        dot, square = (SCALES[name] * guided.gradients[name] for name in NAMES)
        torch.testing.assert_close(guided.gradient[0], -1.5 * (0.5 * dot[0] + 2.0 * square[0]))
        torch.testing.assert_close(guided.gradient[1], 0.5 * dot[1])

    @pytest.mark.parametrize("capacity", [1, 2, 3])
    def test_parts_of_a_batch_are_joined(self, capacity):
        whole = tiny_engine(EVERYTHING).stream(MIXED)
        parts = tiny_engine(EVERYTHING, Narrow(capacity)).stream(MIXED)
        for expected, step in zip(whole, parts, strict=True):
            for name in NAMES:
                torch.testing.assert_close(
                    step.gradients[name], expected.gradients[name], rtol=1e-9, atol=1e-9, equal_nan=True
                )

    def test_none_outside_the_window_and_none_unguided(self):
        steps = list(tiny_engine(GuidanceOptions(start=0.5)).stream([BOTH, BOTH]))
        assert [bool(step.gradients["dot"].isnan().all()) for step in steps] == [
            True,
            True,
            False,
            False,
            False,
        ]
        (step, *_) = tiny_engine().stream([Sample("a cross", None)])
        assert step.gradients == {}

    def test_of_what_reads_x_t_are_at_x_t(self):
        class Reader(TinyVision):
            reads = "x_t"

            def losses(self, images, text, objectives, *, timesteps):
                return super().losses(images, text, objectives)

        for step in tiny_engine(vision=Reader()).stream([BOTH]):
            torch.testing.assert_close(step.gradients["dot"], own_gradients([BOTH], step.x_t, "dot"))

    def test_float16_keeps_what_is_below_its_range(self):
        class Faint(TinyVision):
            def losses(self, images, text, objectives):
                return {n: 1e-6 * v for n, v in super().losses(images, text, objectives).items()}

        half, full = (tiny_engine(vision=Faint(), dtype=d) for d in ("float16", "float32"))
        step, expected = (next(e.stream([BOTH])).gradients["dot"] for e in (half, full))
        assert step.dtype == torch.float32
        assert 1e-9 < expected.abs().max() < 1e-5
        torch.testing.assert_close(step / 1e-6, expected / 1e-6, rtol=0.02, atol=0.02)

    def test_not_finite_is_told_as_it_is_and_stays_alone(self):
        class Broken(TinyVision):
            def losses(self, images, text, objectives):
                bad = torch.tensor([p == "a cross" for p in text.prompts])
                factor = torch.where(bad, torch.inf, 1.0)
                return {n: v * factor for n, v in super().losses(images, text, objectives).items()}

        samples = [BOTH, Sample("a cross", Constant(dot=1.0), 1)]
        (step, *_) = tiny_engine(vision=Broken(), max_nonfinite=5).stream(samples)
        assert step.nonfinite.tolist() == [False, True]
        assert step.gradients["dot"].isfinite().flatten(1).any(dim=1).tolist() == [True, False]
        assert step.gradients["square"][0].isfinite().all()

    def test_a_step_is_not_changed_by_those_after_it(self):
        steps, copies = [], []
        for step in tiny_engine(EVERYTHING).stream(MIXED):
            steps.append(step)
            copies.append({name: gradient.clone() for name, gradient in step.gradients.items()})
        for step, copy in zip(steps, copies, strict=True):
            for name in NAMES:
                torch.testing.assert_close(step.gradients[name], copy[name], rtol=0, atol=0, equal_nan=True)

    def test_die_with_their_step(self):
        alive, most = [], 0

        def watch(step):
            nonlocal most
            alive.append(weakref.ref(step.gradients["dot"]))
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))

        results = list(tiny_engine(steps=8).run(MIXED, on_step=watch))
        gc.collect()
        assert len(results) == len(MIXED)
        assert most <= 2
        assert [ref() for ref in alive] == [None] * 8


class Corner:
    """Reads the upper left quadrant and nothing else: the prompt is how strongly."""

    objectives = frozenset({"corner", "whole"})
    fingerprint = "corner"

    def encode_text(self, prompts):
        return TextBatch(tuple(prompts), {"y": torch.tensor([float(p) for p in prompts])})

    def losses(self, images, text, objectives):
        strength = text.tensors["y"].to(images)
        half = images.shape[-1] // 2
        squares = images.square().mean(dim=1)
        known = {"corner": squares[:, :half, :half].sum((1, 2)), "whole": squares.sum((1, 2))}
        return {name: strength * known[name] for name in objectives}


def recorded(samples, engine, snapshots, keys=None):
    """The file of a batch, and the steps it is of."""
    recorder, steps = StepRecorder(engine.steps, snapshots), []

    def on_step(step):
        recorder(step)
        steps.append(step)

    results = list(engine.run(samples, on_step=on_step))
    keys = keys or [f"cell{row}" for row in range(len(samples))]
    return pack(keys, results, [{} for _ in samples], recorder), steps


def loaded(content, tmp_path):
    path = tmp_path / "batch.npz"
    path.write_bytes(content)
    return load_batch(path)


def step_of(gradient, index=0):
    """As much of a step as a recorder reads, of one objective."""
    return SimpleNamespace(
        index=index,
        nonfinite=torch.zeros(len(gradient), dtype=torch.bool),
        pred_x0=torch.zeros_like(gradient),
        gradients={"k": gradient},
    )


class TestTelemetry:
    def test_maps_are_those_of_autograd(self, tmp_path):
        engine = tiny_engine(GuidanceOptions(clip_denoised=False), steps=5)
        content, steps = recorded(MIXED, engine, (0.0, 0.5, 1.0))
        cells = loaded(content, tmp_path)
        for row, (sample, cell) in enumerate(zip(MIXED, cells.values(), strict=True)):
            assert cell.snapshot_steps is None or cell.snapshot_steps.tolist() == [0, 2, 4]
            assert list(cell.saliency) == list(cell.saliency_peaks)
            for name, maps in cell.saliency.items():
                assert maps.dtype == np.uint8
                assert maps.shape == (3, *SHAPE[1:])
                peaks = cell.saliency_peaks[name]
                assert peaks.dtype == np.float32
                for levels, peak, step in zip(maps, peaks, (steps[0], steps[2], steps[4]), strict=True):
                    if step.losses[name][row].isnan():
                        assert np.isnan(peak)
                        assert not levels.any()
                        continue
                    gradient = own_gradients([sample], step.pred_x0[[row]], name)[0]
                    expected = gradient.abs().mean(dim=0).numpy()
                    assert peak == pytest.approx(expected.max(), rel=1e-6)
                    assert levels.max() == 255
                    np.testing.assert_allclose(levels * (peak / 255), expected, atol=0.51 * peak / 255)
        kept = [list(cell.saliency) for cell in cells.values()]
        assert kept == [["dot"], ["dot", "square"], [], ["dot", "square"], ["square"]]
        assert np.isnan(cells["cell1"].saliency_peaks["dot"]).tolist() == [False, False, True]
        assert np.isnan(cells["cell1"].saliency_peaks["square"]).tolist() == [True, False, False]

    def test_is_only_where_the_model_looks(self, tmp_path):
        engine = Engine(
            GaussianGenerator(shape=(3, 16, 16)), Corner(), steps=4, device="cpu", dtype="float64"
        )
        samples = [Sample("1", Constant(corner=1.0, whole=1.0)), Sample("2", Constant(corner=1.0), 1)]
        cells = loaded(recorded(samples, engine, (0.0, 1.0))[0], tmp_path)
        for cell in cells.values():
            maps = cell.saliency["corner"]
            assert maps[:, :8, :8].mean() > 30
            assert not maps[:, 8:].any()
            assert not maps[:, :, 8:].any()
        assert cells["cell0"].saliency["whole"][:, 8:, 8:].mean() > 30
        # The same point, the same place: twice the loss has twice the peak and the same map.
        one, two = (recorded([Sample(p, Constant(corner=1.0))], engine, (0.0,))[0] for p in ("1", "2"))
        one, two = (next(iter(loaded(content, tmp_path).values())) for content in (one, two))
        np.testing.assert_array_equal(one.saliency["corner"], two.saliency["corner"])
        np.testing.assert_allclose(2 * one.saliency_peaks["corner"], two.saliency_peaks["corner"], rtol=1e-6)

    def test_large_maps_are_means_of_areas(self):
        gradient = torch.zeros(1, 3, 128, 256)
        gradient[0, 1, 4:8, 8:12] = -3.0  # one whole area of the reduced map, mean over channels 1
        gradient[0, 0, 64, 128] = 24.0  # one of 16 pixels: mean 0.5
        recorder = StepRecorder(1, (0.0,))
        recorder(step_of(gradient))
        maps, peaks = recorder.saliency()["k"]
        assert maps.shape == (1, 1, 32, 64)
        assert peaks.tolist() == [[1.0]]
        assert maps[0, 0, 1, 2] == 255
        assert maps[0, 0, 16, 32] == 128  # 127.5, to even
        assert np.count_nonzero(maps) == 2

    def test_nothing_and_not_finite(self):
        rows = torch.stack([torch.full(SHAPE, v) for v in (0.0, torch.nan, torch.inf, 1e-42, 3e38)])
        rows[1, :, 1:] = 1.0
        levels, peaks = saliency_maps(rows)
        assert levels.flatten(1).amax(dim=1).tolist()[:3] == [0, 0, 0]
        assert peaks[0] == 0
        assert peaks[1:3].isnan().all()
        assert levels[3].unique().tolist() == [255]

    def test_no_snapshots_no_maps_and_old_files(self, tmp_path):
        content, _ = recorded(MIXED, tiny_engine(), ())
        assert all(c.saliency == c.saliency_peaks == {} for c in loaded(content, tmp_path).values())
        content, _ = recorded(MIXED, tiny_engine(), (0.0, 1.0))
        with np.load(io.BytesIO(content)) as file:
            before = {name: file[name] for name in file.files if name.partition("/")[0] not in MAPS}
        assert len(before) == len(file.files) - 4
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **before)
        cells = loaded(buffer.getvalue(), tmp_path)
        assert all(cell.saliency == cell.saliency_peaks == {} for cell in cells.values())
        assert cells["cell0"].snapshots is not None

    def test_the_same_numbers_are_the_same_bytes(self):
        first, second = (recorded(MIXED, tiny_engine(EVERYTHING), (0.0, 0.5))[0] for _ in range(2))
        assert first == second

    def test_a_single_one_is_that_of_its_file(self, tmp_path):
        engine, recorder = tiny_engine(), StepRecorder(5, (0.0, 1.0))
        (result,) = engine.run([BOTH], on_step=recorder)
        weights = {"dot": [0.5] * 5, "square": [-2.0] * 5}
        ours = single_telemetry(result, weights, recorder)
        (stored,) = loaded(pack(["a"], [result], [weights], recorder), tmp_path).values()
        assert isinstance(ours, Telemetry)
        for kind in ("losses", "gradient_norms", "cosines", "weights", *MAPS):
            ours_of, stored_of = getattr(ours, kind), getattr(stored, kind)
            assert list(ours_of) == list(stored_of) != []
            for name, values in ours_of.items():
                np.testing.assert_array_equal(values, stored_of[name])
        np.testing.assert_array_equal(ours.snapshots, stored.snapshots)

    def test_nothing_is_waited_for(self):
        recorder = StepRecorder(5, (0.0, 0.5, 1.0))
        stream = tiny_engine(EVERYTHING).stream(MIXED)
        recorder(next(stream))
        with NoWaiting():
            for _ in range(3):
                recorder(next(stream))
