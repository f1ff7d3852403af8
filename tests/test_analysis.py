"""Gradients and growth of perturbations along trajectories, where both are known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from click.testing import CliRunner
from guidelens.analysis.calibration import calibrate, toml_fragment
from guidelens.analysis.plot import Curve, log_plot
from guidelens.analysis.sensitivity import perturbation_growth
from guidelens.cli.main import cli
from guidelens.contracts import Prompt
from guidelens.engine import Engine, Sample
from guidelens.errors import UsageError
from guidelens.sampling import Sampling
from toys import Constant, GaussianGenerator, Quadratic

PROMPTS = [Prompt("0.1"), Prompt("0.4"), Prompt("-0.3")]


def engine(model=None, dtype="float32", **options):
    sampling = Sampling(**{"clip_denoised": False, "steps": 8, "dtype": dtype, **options})
    return Engine(GaussianGenerator(), model or Quadratic(), sampling, device="cpu")


def test_norms_are_those_of_the_unguided_trajectory():
    """steep is 3 times near around y + 1; away is minus near."""
    found = calibrate(engine(), PROMPTS, seeds=(0, 5))
    assert list(found.norms) == ["away", "near", "steep"]
    assert found.norms["near"].shape == (8, 6)
    torch.testing.assert_close(found.norms["away"], found.norms["near"])
    samples = [Sample(prompt.text, None, seed) for prompt in PROMPTS for seed in (0, 5)]
    for k, step in enumerate(engine().stream(samples)):
        y = torch.tensor([float(sample.prompt) for sample in samples]).reshape(-1, 1, 1, 1)
        expected = (step.pred_x0 - y).flatten(1).norm(dim=1).double()
        torch.testing.assert_close(found.norms["near"][k], expected, rtol=1e-5, atol=1e-6)
        assert found.timesteps[k] == step.timestep


def test_measuring_leaves_pictures_as_they_are():
    """Bit for bit: NO_GUIDANCE is too small to change a float32."""
    from guidelens.analysis.calibration import NO_GUIDANCE

    samples = [Sample("0.4", schedule, 3, scale=NO_GUIDANCE) for schedule in (Constant(near=1.0), None)]
    last = list(engine().stream(samples))[-1].sample
    assert torch.equal(last[0], last[1])


@pytest.mark.parametrize("by_step", [False, True])
def test_the_proposed_scales_make_the_measure_equal(by_step):
    found = calibrate(engine(objective_scales={"near": 2.0}), PROMPTS)
    scales = found.proposed("near", by_step=by_step)
    assert scales["near"] == 2.0
    measured = calibrate(engine(objective_scales=scales), PROMPTS)
    measure = measured.step_in_x0 if by_step else measured.mean_norm
    lengths = [measured.scales[name] * measure(name).mean for name in scales]
    assert lengths == pytest.approx([lengths[0]] * 3)
    with pytest.raises(UsageError, match="unknown objective 'far'; choose away, near, steep"):
        found.proposed("far")


def test_what_cannot_be_calibrated():
    with pytest.raises(UsageError, match="leave out --start, --stop and --every"):
        calibrate(engine(start=0.5), PROMPTS)
    with pytest.raises(UsageError, match="without a guidance model"):
        calibrate(Engine(GaussianGenerator(), None, Sampling(steps=3), device="cpu"), PROMPTS)


def test_the_fragment_is_toml_that_a_grid_takes():
    tomllib = pytest.importorskip("tomllib")
    found = calibrate(engine(), PROMPTS)
    text = toml_fragment(found, "near", "g", "v")
    (scales,) = tomllib.loads(text)["objective_scales"]
    assert scales == pytest.approx(found.proposed("near"), rel=1e-3)
    assert "# near: mean norm" in text


def test_growth_is_the_product_of_the_slopes():
    """Data are Gaussian, so that a step is linear: x_{t-1} = c1 slope x_t + c2 x_t, and guidance adds to that."""
    run = engine(dtype="float64")
    growth = perturbation_growth(run, [Sample("0.4", None, 3), Sample("0.4", Constant(near=1.0), 3)])
    process = run.settings.process
    slope = process.sqrt_alphas_cumprod * 0.25 / (process.alphas_cumprod * 0.25 + 1 - process.alphas_cumprod)
    plain = process.posterior_mean_coef1 * slope + process.posterior_mean_coef2
    guided = plain - process.posterior_variance * slope**2
    for column, factors in ((0, plain), (1, guided)):
        torch.testing.assert_close(growth[:, column], factors.flip(0).cumprod(0).abs(), rtol=1e-5, atol=1e-9)


def test_a_plot_has_every_curve_and_leaves_gaps():
    svg = log_plot(
        [Curve("a<b", [1e-3, 0.0, 10.0, 1.0], [(5e-4, 2e-3)] * 4), Curve("c", [math.nan, 2.0])], "t"
    )
    assert svg.startswith("<svg")
    assert all(word in svg for word in ("a&lt;b", "1e-4"))
    paths = [part for part in svg.split("<path") if 'stroke-width="2"' in part]
    assert [path.split('"')[1].count("M") for path in paths] == [2, 1]


def test_the_command_writes_scales_and_a_plot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        cli, ["calibrate", "a red circle", "--steps", "3", "--out", "scales", "--reference", "itc"]
    )
    assert done.exit_code == 0, done.output
    assert "# itc: mean norm" in done.output
    assert (tmp_path / "scales" / "scales.toml").read_text() in done.output
    assert (tmp_path / "scales" / "gradients.svg").read_text().startswith("<svg")
