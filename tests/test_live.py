"""Schedules side by side while they draw: the pictures of ``compare``, bit for bit, and those without guidance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_world
import torch
from guidelens import Engine, PluginManager, Sample, Sampling, UsageError, compare
from guidelens.hookspecs import Register, hookimpl
from guidelens.pictures import open_picture, to_levels
from guidelens.runs import live
from guidelens.runs.live import LiveModels, LiveRun, LiveStep
from latent_world import ConvLatents

SCHEDULES = ["only-itc", "turn"]


@pytest.fixture
def models() -> LiveModels:
    return LiveModels(PluginManager.load([tiny_world], environment={}), device="cpu")


def steps_of(models: LiveModels, **options: object) -> list[LiveStep]:
    given = {"sampling": Sampling(steps=4, scale=3.0), "seed": 5, **options}
    return list(LiveRun(models, "a red circle", SCHEDULES, **given).steps())  # type: ignore[arg-type]


def test_it_ends_in_the_pictures_of_a_comparison(models: LiveModels, tmp_path: Path) -> None:
    run = compare(
        "a red circle",
        schedules=["none", *SCHEDULES],
        seeds=[5],
        sampling=Sampling(steps=4, scale=3.0),
        out=tmp_path,
        plugins=models.plugins,
        device="cpu",
    )
    last = steps_of(models)[-1]
    assert (last.index, last.progress) == (4, 1.0)
    for view, row in zip(last.views, run.rows, strict=True):
        assert (view.picture == np.asarray(open_picture(tmp_path / row["image"]))).all()
        assert view.scores == row["metrics"]


def test_the_first_column_is_without_guidance(models: LiveModels) -> None:
    generator, guidance, _ = models.load()
    engine = Engine(generator.component, guidance.component, Sampling(steps=4), device="cpu")
    (alone,) = engine.run([Sample("a red circle", None, 5)])
    view = steps_of(models)[-1].views[0]
    assert (view.picture == to_levels(alone.image).numpy()).all()
    assert view.losses == {}
    assert view.pull is None


def test_a_step_says_what_the_engine_says(models: LiveModels) -> None:
    generator, guidance, _ = models.load()
    sampling = Sampling(steps=4, scale=3.0)
    engine = Engine(generator.component, guidance.component, sampling, device="cpu")
    turn = models.plugins.build("schedule", "turn")
    ours = steps_of(models)
    for step, theirs in zip(ours, engine.stream([Sample("a red circle", turn, 5)]), strict=False):
        view = step.views[2]
        for name, loss in theirs.losses.items():
            expected = float(loss[0])
            assert view.losses[name] == (pytest.approx(expected) if np.isfinite(expected) else None)
    assert ours[0].views[2].losses["itc"] is None
    middle = ours[1].views[2]
    assert set(middle.saliency) == {"itc", "cap"}
    assert -1 <= middle.cosines["cap|itc"] <= 1
    assert middle.pull is not None
    assert middle.pull.max() == 255
    assert ours[1].views[1].saliency == {}  # one objective: its map is the pull


def test_the_pull_is_the_weighted_gradient(models: LiveModels) -> None:
    generator, guidance, _ = models.load()
    sampling = Sampling(steps=4, objective_scales={"itc": 2.0, "cap": 0.5})
    engine = Engine(generator.component, guidance.component, sampling, device="cpu")
    turn = models.plugins.build("schedule", "turn")
    step = list(engine.stream([Sample("a red circle", turn, 5)]))[1]
    total = (2 / 3 * 0.5 * step.gradients["cap"] + 1 / 3 * 2.0 * step.gradients["itc"])[0].abs().mean(0)
    expected = (total / total.max() * 255).round()
    pull = steps_of(models, sampling=sampling)[1].views[2].pull
    assert pull is not None
    assert np.abs(pull - expected.numpy()).max() <= 1


def test_predictions_are_scored_while_that_is_cheap(
    models: LiveModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SCORING_SHARE", float("inf"))
    assert all(view.scores for step in steps_of(models) for view in step.views)
    monkeypatch.setattr(live, "SCORING_SHARE", -1.0)
    *steps, last = steps_of(models)
    assert all(view.scores is None for step in steps for view in step.views)
    assert all(view.scores for view in last.views)


def test_a_metric_that_fails_is_named(models: LiveModels) -> None:
    run = LiveRun(models, "unscorable", SCHEDULES, sampling=Sampling(steps=2))
    *_, last = run.steps()
    assert "cannot read the picture" in last.errors["brightness"]


def test_models_are_built_once(models: LiveModels) -> None:
    first = models.load()
    assert models.load("tiny", "tiny-vl")[0].component is first[0].component
    other = models.load("tiny:fingerprint=x")
    assert other[0].component is not first[0].component
    assert other[1].component is first[1].component


def test_nothing_runs_ahead_and_closing_stops(models: LiveModels) -> None:
    run = LiveRun(models, "a red circle", SCHEDULES, sampling=Sampling(steps=9))
    generator = models.load()[0].component
    steps = run.steps()
    assert generator.evaluated == 0
    next(steps)
    assert generator.evaluated == 3
    steps.close()
    assert list(steps) == []
    assert generator.evaluated == 3


def test_the_shapes_world_is_read_by_its_parser() -> None:
    models = LiveModels(PluginManager.load(environment={}), device="cpu")
    *_, last = LiveRun(models, "a red circle", ["shift"], sampling=Sampling(steps=2)).steps()
    assert all({"alignment", "fidelity"} <= set(view.scores or ()) for view in last.views)


class LatentWorld:
    """A generator of latents of another shape than its pictures."""

    @staticmethod
    @hookimpl
    def register_generators(register: Register) -> None:
        register("latents", ConvLatents, summary="four channels")


def test_latents_are_shown_decoded() -> None:
    plugins = PluginManager.load([tiny_world, LatentWorld], environment={})
    run = LiveRun(
        LiveModels(plugins, device="cpu"),
        "a red circle",
        SCHEDULES,
        sampling=Sampling(steps=2),
        generator="latents",
    )
    for step in run.steps():
        assert [view.picture.shape for view in step.views] == [(8, 8, 3)] * 3
    assert run.settings.image_shape == (3, 8, 8)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    plugins = PluginManager.load(["guidelens.testing.tiny"], environment={})
    pictures = []
    for device in ("cpu", "cuda"):
        run = LiveRun(
            LiveModels(plugins, device=device), "a circle", ["itc", "shift"], sampling=Sampling(steps=4)
        )
        pictures.append([view.picture.astype(int) for step in run.steps() for view in step.views])
    for ours, theirs in zip(*pictures, strict=True):
        assert np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedules": ["itm"]}, "needs the objective 'itm'"),
        ({"schedules": ["shif"]}, "did you mean 'shift'"),
        ({"prompt": " "}, "empty"),
        ({"guidance": "none-such"}, "unknown guidance model"),
    ],
)
def test_a_wrong_request_is_refused_at_once(models: LiveModels, wrong: dict[str, object], said: str) -> None:
    given = {"prompt": "a red circle", "schedules": SCHEDULES, **wrong}
    with pytest.raises(UsageError, match=said):
        LiveRun(models, **given)  # type: ignore[arg-type]
