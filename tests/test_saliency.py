"""Gradients by objective in the stream, the maps of them that telemetry keeps, and how these are drawn."""

from __future__ import annotations

import gc
import io
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_world
import torch
from click.testing import CliRunner
from guidelens import PluginManager
from guidelens.cli.main import cli
from guidelens.contracts import TextBatch
from guidelens.engine import Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.report.saliency import HEAT, heat_colours, labelled_strip, saliency_image, write_saliency
from guidelens.runs.single import draw
from guidelens.runs.telemetry import (
    MAPS,
    StepRecorder,
    Telemetry,
    load_batch,
    pack,
    saliency_maps,
    single_telemetry,
)
from guidelens.sampling import Sampling
from PIL import Image
from test_guidance import SCALES, central_differences, tiny_setup
from test_memory import Narrow
from test_no_waiting import EVERYTHING, NoWaiting
from tiny_world import Weights
from toys import SHAPE, Constant, GaussianGenerator, Shift, TinyNet, TinyVision, make_engine

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
    return make_engine(
        net or TinyNet(),
        vision or TinyVision(),
        replace(options or Sampling(scale=3.0), steps=steps, dtype=dtype),
        device="cpu",
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
        engine = tiny_engine(Sampling(through=through, see=see, recurrence=2, clip_denoised=False))
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
    @pytest.mark.parametrize("options", [Sampling(), EVERYTHING], ids=["plain", "everything"])
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
        for step in tiny_engine(Sampling(clip_denoised=False)).stream(MIXED):
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
        steps = list(tiny_engine(Sampling(start=0.5)).stream([BOTH, BOTH]))
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
    recorder, steps = StepRecorder(engine.settings.steps, snapshots), []

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
        preview=torch.zeros_like(gradient),
        gradients={"k": gradient},
    )


class TestTelemetry:
    def test_maps_are_those_of_autograd(self, tmp_path):
        engine = tiny_engine(Sampling(clip_denoised=False), steps=5)
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
        engine = make_engine(
            GaussianGenerator(shape=(3, 16, 16)), Corner(), Sampling(steps=4, dtype="float64"), device="cpu"
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


def lightness(colour):
    """CIELAB L* of sRGB in [0, 1], from its definition (CIE 15, D65 white)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


class TestPictures:
    def test_equal_levels_are_equal_steps_of_lightness(self):
        steps = lightness(heat_colours(np.linspace(0, 255, 18)))
        np.testing.assert_allclose(np.diff(steps), (94 - 8) / 17, rtol=0.12)
        assert (np.diff(lightness(heat_colours(np.arange(256)))) > 0).all()

    def test_no_heat_leaves_the_picture_in_grey_and_full_heat_covers_it(self):
        picture = np.zeros((2, 4, 3), dtype=np.uint8)
        picture[:, 2:] = 255
        picture[1, :, 0] = 255
        levels = np.zeros((2, 4), dtype=np.uint8)
        levels[0, [0, 3]] = 255
        drawn = np.asarray(saliency_image(picture, levels))
        assert drawn.shape == (2, 4, 3)
        peak = [int(HEAT[-1][i : i + 2], 16) for i in (0, 2, 4)]
        assert drawn[0, 0].tolist() == drawn[0, 3].tolist() == peak  # whatever lies beneath
        calm = drawn[levels == 0]
        assert (calm == calm[:, :1]).all()  # grey
        assert drawn[0, 1, 0] < drawn[1, 1, 0] < drawn[1, 2, 0] == drawn[0, 2, 0]  # black, red, white
        more = np.asarray(saliency_image(picture, levels // 3))
        assert drawn[0, 1].tolist() == more[0, 1].tolist()
        assert 0 < lightness(more[0, 0] / 255) < lightness(drawn[0, 0] / 255)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_small_ones_are_enlarged_by_whole_pixels(self, channels):
        picture = np.random.default_rng(0).integers(0, 256, (2, 4, channels), dtype=np.uint8)
        levels = np.random.default_rng(1).integers(0, 256, (1, 2), dtype=np.uint8)
        small, large = (np.asarray(saliency_image(picture, levels, side=side)) for side in (0, 10))
        assert large.shape == (6, 12, 3)
        np.testing.assert_array_equal(large, small.repeat(3, 0).repeat(3, 1))
        whole = np.asarray(saliency_image(picture, levels.repeat(2, 0).repeat(2, 1)))
        np.testing.assert_array_equal(small, whole)

    @pytest.mark.parametrize(
        ("picture", "levels"), [((4, 4), (4, 4)), ((4, 4, 3), (4, 4, 1)), ((4, 4, 2), (4, 4))]
    )
    def test_other_shapes_are_refused(self, picture, levels):
        with pytest.raises(ValueError, match="expected a picture"):
            saliency_image(np.zeros(picture, np.uint8), np.zeros(levels, np.uint8))

    def test_a_strip_has_objectives_down_and_steps_across(self, tmp_path):
        content, _ = recorded(MIXED, tiny_engine(), (0.0, 0.5, 1.0))
        cells = loaded(content, tmp_path)
        write_saliency(tmp_path, cells)
        folder = tmp_path / "trajectories"
        assert sorted(path.name for path in folder.iterdir()) == [
            f"cell{row}-saliency.png"
            for row in (0, 1, 3, 4)  # the third is unguided
        ]
        cell = cells["cell1"]
        with Image.open(folder / "cell1-saliency.png") as image:
            strip = np.asarray(image)
        side = SHAPE[1]
        assert strip.shape == (2 * side, 3 * side, 3)
        for row, name in enumerate(NAMES):
            for column in range(3):
                part = strip[row * side : (row + 1) * side, column * side : (column + 1) * side]
                expected = saliency_image(cell.snapshots[column], cell.saliency[name][column])
                np.testing.assert_array_equal(part, np.asarray(expected))
        (folder / "cell0-saliency.png").write_bytes(b"mine")
        (folder / "cell1-saliency.png").unlink()
        write_saliency(tmp_path, cells)
        assert (folder / "cell0-saliency.png").read_bytes() == b"mine"
        assert (folder / "cell1-saliency.png").exists()

    def test_without_maps_there_is_nothing(self, tmp_path):
        content, _ = recorded(MIXED, tiny_engine(), ())
        cells = loaded(content, tmp_path)
        write_saliency(tmp_path, cells)
        assert not (tmp_path / "trajectories").exists()
        with pytest.raises(GuidelensError, match="no saliency maps"):
            labelled_strip(cells["cell0"])

    def test_labels_stand_beside_the_same_pictures(self, tmp_path):
        content, _ = recorded([BOTH], tiny_engine(), (0.0, 1.0))
        (cell,) = loaded(content, tmp_path).values()
        sheet = np.asarray(labelled_strip(cell))
        for name in NAMES:
            for column in range(2):
                part = saliency_image(cell.snapshots[column], cell.saliency[name][column], side=128)
                assert holds(sheet, np.asarray(part))
        frame = cell.snapshots[1].repeat(32, 0).repeat(32, 1)
        assert holds(sheet, frame)


def holds(sheet, part):
    """Whether a picture is somewhere in a larger one."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], part.shape[:2])
    places = np.argwhere((windows[..., 0, 0] == part[0, 0, 0]) & (windows[..., -1, -1] == part[-1, -1, 0]))
    height, width = part.shape[:2]
    return any((sheet[y : y + height, x : x + width] == part).all() for y, x in places)


class TestOnePicture:
    def test_the_steps_kept_are_guided_ones(self):
        drawing = draw_tiny("turn", sampling=Sampling(steps=21, start=0.5))
        assert drawing.telemetry.snapshot_steps.tolist() == [10, 12, 14, 16, 18, 20]
        assert np.isnan(drawing.telemetry.saliency_peaks["cap"]).tolist() == [False] * 5 + [True]
        assert not np.isnan(drawing.telemetry.saliency_peaks["itc"]).any()
        assert draw_tiny("turn", sampling=Sampling(steps=3)).telemetry.snapshot_steps.tolist() == [0, 1, 2]
        assert draw_tiny("only-itc", sampling=Sampling(steps=1)).telemetry.snapshot_steps.tolist() == [0]
        assert draw_tiny("turn", sampling=Sampling(steps=3), keep_saliency=False).telemetry is None

    @pytest.mark.parametrize("schedule", [Weights("none", {}), Weights("zero", {"itc": 0.0}), "only-itc"])
    def test_an_unguided_one_has_none(self, schedule):
        options = Sampling(scale=0.0 if schedule == "only-itc" else 1.0)
        with pytest.raises(UsageError, match="an unguided picture has no saliency"):
            draw_tiny(schedule, sampling=replace(options, steps=3))
        assert draw_tiny(schedule, sampling=replace(options, steps=3), keep_saliency=False).picture.size == (
            8,
            8,
        )


def draw_tiny(schedule, keep_saliency=True, **settings):
    plugins = PluginManager.load([tiny_world.__file__], environment={})
    return draw(
        "a dot", schedule, plugins=plugins, metrics=[], device="cpu", keep_saliency=keep_saliency, **settings
    )


class TestCommand:
    @pytest.fixture
    def guidelens(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return lambda *words: CliRunner().invoke(
            cli, ["-p", tiny_world.__file__, *words], catch_exceptions=False
        )

    def test_writes_the_strip_beside_the_picture(self, guidelens):
        result = guidelens(
            *("generate", "a dot above", "--schedule", "turn", "--steps", "8"),
            *("--out", "x.png", "--saliency", "new/where.PNG"),
        )
        assert result.exit_code == 0, result.output
        names = [line.split(":")[0] for line in result.stdout.splitlines()]
        assert names[-3:] == ["picture", "enlarged", "saliency"]
        with Image.open("new/where.PNG") as sheet:
            assert sheet.size[0] > 6 * 128
            assert 3 * 128 < sheet.size[1] < 4 * 128  # x0, cap, itc

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("--saliency", "x.webp"), 2, "--saliency x.webp: the file name must end in .png"),
            (("--saliency", "file.txt/x.png"), 1, "file.txt/x.png"),
            (("--saliency", "x.png", "--scale", "0"), 2, "an unguided picture has no saliency"),
            (("--saliency", "out.png"), 2, "the same file"),
        ],
    )
    def test_bad_requests_are_one_line_before_anything_is_drawn(self, guidelens, arguments, code, message):
        Path("file.txt").write_text("mine")
        result = guidelens(
            *("generate", "a", "--schedule", "turn", "--steps", "4", "--out", "out.png", *arguments)
        )
        assert result.exit_code == code, result.output
        errors = [line for line in result.stderr.splitlines() if not line.startswith("warning:")]
        assert len(errors) == 1
        assert message in errors[0]
        assert [path.name for path in Path().iterdir()] == ["file.txt"]
