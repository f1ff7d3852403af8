"""Tables, respacing and reverse posterior, held to golden numbers, closed forms and properties."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from golden_numbers import RESPACINGS, golden, golden_unet
from guidelens.diffusion import DiffusionProcess, alphas_cumprod_of, beta_schedule, space_timesteps
from guidelens.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

LINEAR = alphas_cumprod_of(beta_schedule("linear"))
COSINE = alphas_cumprod_of(beta_schedule("cosine"))


@pytest.mark.parametrize("name", RESPACINGS)
def test_tables_are_the_original_codes(name):
    numbers, process = golden(), DiffusionProcess(LINEAR, RESPACINGS[name])
    assert process.timesteps.tolist() == numbers[f"{name}/timestep_map"].tolist()
    for table in ("betas", "alphas_cumprod", "posterior_variance"):
        torch.testing.assert_close(getattr(process, table), numbers[f"{name}/{table}"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", RESPACINGS)
@pytest.mark.parametrize("clip", [False, True])
def test_p_mean_variance_is_the_original_codes(name, clip):
    numbers, process = golden(), DiffusionProcess(LINEAR, RESPACINGS[name])
    x, index = numbers["forward/x"], numbers[f"{name}/p_mean_variance/t"]
    with torch.no_grad():
        output = golden_unet()(x, process.timesteps[index])
    step = process.p_mean_variance(
        output, x, index, prediction="epsilon", learned_variance=True, clip_denoised=clip
    )
    fields = {
        "mean": "mean",
        "variance": "variance",
        "log_variance": "log_variance",
        "pred_x0": "pred_xstart",
    }
    for ours, theirs in fields.items():
        expected = numbers[f"{name}/p_mean_variance/clip_{clip}/{theirs}"]
        for sample in range(
            2
        ):  # the two timesteps differ by orders of magnitude: each is held to its own scale
            scale = expected[sample].abs().max().item()
            torch.testing.assert_close(
                getattr(step, ours)[sample], expected[sample], rtol=1e-4, atol=1e-4 * scale
            )


def test_linear_schedule_ends():
    for steps in (1000, 4000):
        betas = beta_schedule("linear", steps)
        assert betas.dtype == torch.float64
        assert betas[0].item() == pytest.approx(0.1 / steps, rel=1e-12)
        assert betas[-1].item() == pytest.approx(20 / steps, rel=1e-12)


def test_cosine_schedule_is_its_formula():
    abar = alphas_cumprod_of(beta_schedule("cosine", 1000))

    def f(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (0, 1, 500, 998):
        assert abar[t].item() == pytest.approx(f((t + 1) / 1000) / f(0), rel=1e-9)
    assert beta_schedule("cosine", 1000).max().item() == 0.999


def test_unusable_schedules():
    with pytest.raises(UsageError, match="'sigmoid'; choose linear or cosine"):
        beta_schedule("sigmoid")
    with pytest.raises(UsageError, match="more than 20 timesteps"):
        beta_schedule("linear", 20)
    with pytest.raises(UsageError, match="at least 1"):
        beta_schedule("linear", 0)


@given(total=st.integers(1, 400), data=st.data())
def test_even_respacing(total, data):
    count = data.draw(st.integers(1, total))
    chosen = space_timesteps(total, count)
    assert chosen == space_timesteps(total, str(count)) == space_timesteps(total, [count])
    assert len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert chosen[-1] == total - 1
    assert count == 1 or chosen[0] == 0
    gaps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=5), spare=st.integers(0, 9))
def test_sectioned_respacing(counts, spare):
    total = len(counts) * (max(counts) + 2) + spare
    chosen = space_timesteps(total, ",".join(map(str, counts)))
    assert len(set(chosen)) == sum(counts)
    assert chosen == sorted(chosen)
    start = 0
    for section, count in enumerate(counts):
        end = start + total // len(counts) + (section < total % len(counts))
        inside = [t for t in chosen if start <= t < end]
        assert len(inside) == count
        assert inside[0] == start
        assert count == 1 or inside[-1] == end - 1
        start = end


@given(stride=st.integers(1, 30), total=st.integers(31, 500))
def test_ddim_respacing_is_one_stride(stride, total):
    count = len(range(0, total, stride))
    chosen = space_timesteps(total, f"ddim{count}")
    gaps = {later - earlier for earlier, later in itertools.pairwise(chosen)}
    assert len(chosen) == count
    assert chosen[0] == 0
    assert len(gaps) == 1


def test_ties_of_rounding_fall_as_in_the_original_code():
    # 999 / 20 = 49.95: sums of it drift off the products, and 499.5 is not a tie any more.
    def original(count):
        taken, position = [], 0.0
        for _ in range(count):
            taken.append(round(position))
            position += 999 / (count - 1)
        return taken

    for count in (21, 31, 499, 999):
        assert space_timesteps(1000, count) == original(count)


@pytest.mark.parametrize(
    ("respacing", "words"),
    [
        (0, "choose between 1 and the 100"),
        (-3, "choose between 1 and the 100"),
        (101, "101 sampling steps; choose between 1 and the 100"),
        ("60,40,1", "choose between 1 and the 100"),
        ("60,10", "cannot place 60 steps in a section of 50"),
        ("1,0", "choose between"),
        ("ten", "cannot read the respacing 'ten'"),
        ("ddimx", "cannot read the respacing 'ddimx'"),
        ("ddim70", "no integer stride visits exactly 70 of 100"),
        ("ddim0", "no integer stride"),
        ("", "cannot read"),
        ([], "cannot read"),
        ([2.5], "cannot read"),
        (2.5, "cannot read"),
        (True, "cannot read"),
    ],
)
def test_impossible_respacings(respacing, words):
    with pytest.raises(UsageError, match=words):
        space_timesteps(100, respacing)


@pytest.mark.parametrize("training", [LINEAR, COSINE], ids=["linear", "cosine"])
@pytest.mark.parametrize("respacing", [None, 1, 2, 50, "ddim25", "10,20"])
def test_posterior_is_bayes_rule(training, respacing):
    """q(x_{t-1} | x_t, x0) as a product of two Gaussians: precisions add, means are weighted by them."""
    process = DiffusionProcess(training, respacing)
    abar, previous = process.alphas_cumprod[1:], process.alphas_cumprod_prev[1:]
    alpha = abar / previous
    precision = alpha / (1 - alpha) + 1 / (1 - previous)
    tight = {"rtol": 1e-8, "atol": 0.0}
    torch.testing.assert_close(process.posterior_variance[1:], 1 / precision, **tight)
    of_x0 = previous.sqrt() / (1 - previous) / precision
    torch.testing.assert_close(process.posterior_mean_coef1[1:], of_x0, **tight)
    torch.testing.assert_close(
        process.posterior_mean_coef2[1:], alpha.sqrt() / (1 - alpha) / precision, **tight
    )
    # The last step returns x0 itself, and has nothing left to vary.
    assert process.posterior_mean_coef1[0].item() == pytest.approx(1, abs=1e-12)
    assert process.posterior_mean_coef2[0].item() == 0
    assert process.posterior_variance[0].item() == 0
    assert process.posterior_log_variance_clipped.isfinite().all()


def test_respacing_keeps_the_training_signal_level():
    process = DiffusionProcess(COSINE, 7)
    torch.testing.assert_close(process.alphas_cumprod, COSINE[process.timesteps], rtol=0, atol=0)
    torch.testing.assert_close(torch.cumprod(1 - process.betas, 0), process.alphas_cumprod, rtol=1e-7, atol=0)


def test_dose_of_the_linear_schedule():
    """Sum of beta, the guidance a run receives at scale 1, shrinks with the number of steps."""
    for steps, dose in ((1000, 10.05), (100, 9.46), (25, 7.79), (10, 5.44)):
        assert DiffusionProcess(LINEAR, steps).betas.sum().item() == pytest.approx(dose, abs=0.006)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_predictions_invert_q_sample(prediction):
    process = DiffusionProcess(COSINE, 20)
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    index = torch.tensor([0, 3, 11, 19])
    abar = process.alphas_cumprod[index].reshape(-1, 1, 1, 1)
    x_t = process.q_sample(x0, index, eps)
    torch.testing.assert_close(x_t, abar.sqrt() * x0 + (1 - abar).sqrt() * eps)
    v = abar.sqrt() * eps - (1 - abar).sqrt() * x0  # Salimans & Ho 2022, section 4
    output = {"epsilon": eps, "x0": x0, "v": v}[prediction]
    torch.testing.assert_close(process.predict_x0(output, x_t, index, prediction), x0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(process.predict_eps(x0, x_t, index), eps, rtol=1e-6, atol=1e-6)


def test_fixed_variances():
    process = DiffusionProcess(LINEAR, 5)
    index, x_t = torch.arange(5), torch.zeros(5, 3, 2, 2, dtype=torch.float64)

    def variance(kind):
        step = process.p_mean_variance(
            x_t, x_t, index, prediction="x0", learned_variance=False, clip_denoised=False, fixed_variance=kind
        )
        assert step.variance.shape == x_t.shape
        positive = step.variance > 0
        torch.testing.assert_close(step.log_variance[positive], step.variance[positive].log())
        return step.variance[:, 0, 0, 0]

    torch.testing.assert_close(variance("small"), process.posterior_variance)
    torch.testing.assert_close(variance("large")[1:], process.betas[1:])
    torch.testing.assert_close(variance("large")[0], process.posterior_variance[1])
    with pytest.raises(UsageError, match="'medium'; choose small or large"):
        variance("medium")


def test_learned_variance_interpolates_in_the_logarithm():
    process = DiffusionProcess(LINEAR, 5)
    index, x_t = torch.full((3,), 4), torch.zeros(3, 3, 1, 1, dtype=torch.float64)
    interpolation = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).reshape(3, 1, 1, 1).expand_as(x_t)
    output = torch.cat([x_t, interpolation], dim=1)
    step = process.p_mean_variance(
        output, x_t, index, prediction="v", learned_variance=True, clip_denoised=False
    )
    small, large = process.posterior_variance[4], process.betas[4]
    torch.testing.assert_close(step.variance[:, 0, 0, 0], torch.stack([small, (small * large).sqrt(), large]))


@pytest.mark.parametrize("learned", [False, True])
def test_output_of_the_wrong_shape(learned):
    process, x_t = DiffusionProcess(LINEAR, 5), torch.zeros(2, 3, 4, 4)
    output = torch.zeros(2, 3 if learned else 6, 4, 4)
    with pytest.raises(UsageError, match=r"returned \(2, . 4, 4\)|returned \(2, \d, 4, 4\)"):
        process.p_mean_variance(
            output,
            x_t,
            torch.zeros(2, dtype=torch.int64),
            prediction="v",
            learned_variance=learned,
            clip_denoised=True,
        )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (LINEAR.float(), "must be float64"),
        (LINEAR[None], "must have the shape"),
        (LINEAR[:0], "must have the shape"),
        (LINEAR.flip(0), "strictly decrease"),
        (torch.tensor([1.0, 0.5], dtype=torch.float64), "within"),
        (torch.tensor([0.5, 0.0], dtype=torch.float64), "within"),
        (torch.tensor([0.5, float("nan")], dtype=torch.float64), "within"),
    ],
)
def test_unusable_tables(table, words):
    with pytest.raises(UsageError, match=words):
        DiffusionProcess(table)


def test_unknown_prediction():
    with pytest.raises(UsageError, match="'noise'; choose epsilon, x0, v"):
        DiffusionProcess(LINEAR, 5).x0_coefficients(torch.tensor([0]), "noise", torch.zeros(1, 1, 1, 1))
