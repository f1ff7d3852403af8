"""Means and intervals against hand computation, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from guidelens.stats import estimate, expanded_level, paired_differences, summarise
from scipy import stats


def test_mean_is_over_pictures() -> None:
    result = estimate([0.0, 1.0, 1.0, 0.5], ["a", "a", "a", "b"])
    assert result.mean == pytest.approx(0.625)
    assert (result.n, result.clusters) == (4, 2)


def test_two_prompts_give_the_interval_between_their_means() -> None:
    # Resamples of two clusters have the means 0.2, 0.5 and 0.8; the expanded 95 % interval reaches both ends.
    result = estimate([0.1, 0.3, 0.7, 0.9], ["a", "a", "b", "b"])
    assert (result.low, result.high) == pytest.approx((0.2, 0.8))


def test_expanded_level_by_hand() -> None:
    # k = 4: t = 3.18245, times sqrt(4/3) = 3.67477, and 2 Phi(-3.67477) = 0.000238.
    assert expanded_level(0.95, 4) == pytest.approx(1 - 0.000238, abs=2e-6)
    assert expanded_level(0.95, 100_000) == pytest.approx(0.95, abs=1e-4)


def test_one_picture_a_prompt_agrees_with_the_t_interval() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 60)
    result = estimate(list(values), [str(i) for i in range(60)])
    low, high = stats.t.interval(0.95, 59, values.mean(), stats.sem(values))
    assert result.low == pytest.approx(low, abs=0.002)
    assert result.high == pytest.approx(high, abs=0.002)


def test_one_prompt_resamples_its_seeds_as_scipy_does() -> None:
    values = list(np.random.default_rng(2).normal(size=20))
    result = estimate(values, ["a"] * 20)
    reference = stats.bootstrap(
        (np.array(values),),
        np.mean,
        confidence_level=expanded_level(0.95, 20),
        method="percentile",
        n_resamples=20_000,
        random_state=np.random.default_rng(5),
    ).confidence_interval
    assert result.low == pytest.approx(reference.low, abs=0.05)
    assert result.high == pytest.approx(reference.high, abs=0.05)


def test_intervals_are_scipys() -> None:
    """The same resamples as scipy's bootstrap with the same seed, of prompts with different numbers of pictures."""
    rng = np.random.default_rng(3)
    names = [str(i) for i in range(7) for _ in range(1 + i % 3)]
    values = list(rng.normal(size=len(names)))
    sums, counts = (
        np.array([sum(weigh(v) for v, n in zip(values, names, strict=True) if n == str(i)) for i in range(7)])
        for weigh in (float, lambda _: 1.0)
    )
    reference = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        confidence_level=expanded_level(0.95, 7),
        n_resamples=9999,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    result = estimate(values, names)
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    quantile = stats.t.ppf(0.975, 6) * (7 / 6) ** 0.5
    assert expanded_level(0.95, 7) == pytest.approx(1 - 2 * stats.norm.sf(quantile), abs=1e-15)


def test_pictures_of_a_prompt_do_not_count_as_independent() -> None:
    # Twenty copies of each prompt's value carry no more information than one.
    values = [0.1, 0.4, 0.5, 0.9, 0.7]
    once = estimate(values, list("abcde"))
    copied = estimate([v for v in values for _ in range(20)], [p for p in "abcde" for _ in range(20)])
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize("prompts", [4, 12])
def test_interval_covers_the_truth_about_as_often_as_it_says(prompts: int) -> None:
    rng = np.random.default_rng(prompts)
    covered = 0
    for _ in range(150):
        values = rng.normal(0, 1, (prompts, 1)) + rng.normal(0, 0.5, (prompts, 3))
        names = [str(i) for i in range(prompts) for _ in range(3)]
        result = estimate(values.ravel().tolist(), names, resamples=999)
        covered += result.low <= 0 <= result.high
    assert 0.85 <= covered / 150 <= 0.995


def test_no_interval_without_spread() -> None:
    for result in (estimate([0.4], ["a"]), estimate([1.0, 1.0, 1.0], ["a", "a", "b"])):
        assert not result.has_interval
    empty = estimate([], [])
    assert math.isnan(empty.mean)
    assert empty.n == 0


def test_same_values_same_interval() -> None:
    values, prompts = [0.1, 0.5, 0.2, 0.9, 0.3, 0.8], ["a", "b", "c", "d", "e", "f"]
    assert estimate(values, prompts) == estimate(values, prompts)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate([0.1, math.nan], ["a", "b"])
    with pytest.raises(ValueError, match="1 values for 2 prompts"):
        estimate([0.1], ["a", "b"])


def _row(schedule: str, prompt: str, seed: int, **metrics: float) -> dict[str, object]:
    return {"schedule": schedule, "prompt": prompt, "seed": seed, "metrics": metrics}


def test_columns_that_do_not_apply_are_left_out_of_n() -> None:
    rows = [
        _row("itc", "a", 0, x=1.0, y=0.0),
        _row("itc", "a", 1, x=0.0),
        _row("itc", "b", 0),
        _row("cap", "a", 0, x=0.5),
    ]
    table = summarise(rows)
    assert (table["itc"]["x"].n, table["itc"]["y"].n, table["cap"]["x"].n, table["cap"]["y"].n) == (
        2,
        1,
        1,
        0,
    )
    assert list(table) == ["itc", "cap"]


def test_differences_are_paired_by_prompt_and_seed() -> None:
    rows = [_row("itc", p, s, x=base) for p, s, base in [("a", 0, 0.0), ("a", 1, 1.0), ("b", 0, 0.5)]]
    rows += [_row("cap", p, s, x=base) for p, s, base in [("a", 0, 0.25), ("a", 1, 1.25), ("b", 1, 9.0)]]
    differences = paired_differences(rows, "x", "itc")
    assert set(differences) == {"cap"}
    assert differences["cap"].mean == pytest.approx(0.25)
    assert differences["cap"].n == 2


def test_forms_of_a_prompt_do_not_count_as_prompts() -> None:
    """A prompt and its typos are one cluster: copies of its scores narrow no interval."""
    rng = np.random.default_rng(3)
    rows = []
    for p in "abcde":
        value = float(rng.random())
        rows += [_row(s, p, 0, x=value + shift) for s, shift in (("itc", 0.0), ("cap", value / 2))]
    forms = [
        {**row, "prompt": f"{row['prompt']}{n}", "reference": row["prompt"]} for row in rows for n in range(9)
    ]
    for table in (summarise, lambda them: {"cap": {"x": paired_differences(them, "x", "itc")["cap"]}}):
        once, both = table(rows)["cap"]["x"], table(rows + forms)["cap"]["x"]
        assert both.clusters == once.clusters == 5
        assert (both.low, both.high) == pytest.approx((once.low, once.high))
