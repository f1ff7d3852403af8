"""The statistics of claims against known answers: scipy's tests, exact counts, planted effects, coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from guidelens.claims.statistics import (
    cluster_error,
    holm,
    paired,
    pairs_needed,
    prompts_needed,
    sign_flip,
    smallest_p,
)
from scipy import stats


def names(n: int, seeds: int = 1) -> list[str]:
    return [f"p{i}" for i in range(n) for _ in range(seeds)]


def drawn(rng: np.random.Generator, prompts: int, seeds: int, mean: float, between: float) -> list[float]:
    """Differences of some prompts, whose means vary by ``between``; a seed adds a deviation of 1."""
    centres = mean + between * rng.standard_normal(prompts)
    return (centres[:, None] + rng.standard_normal((prompts, seeds))).ravel().tolist()


def test_the_test_is_the_exact_enumeration() -> None:
    values = [0.5, 1.25, -0.75, 2.0, 0.25, 1.5]
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in itertools.product((1, -1), repeat=6)
    ]
    share = sum(total >= sum(values) - 1e-12 for total in sums) / len(sums)
    assert sign_flip(values, names(6)) == pytest.approx(2 * share)


def test_on_ranks_the_test_is_wilcoxons() -> None:
    """Flipping the signs of signed ranks is Wilcoxon's signed-rank test."""
    ranks = [1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    expected = stats.wilcoxon(ranks, method="exact").pvalue
    assert sign_flip(ranks, names(10)) == pytest.approx(expected)


def test_on_normal_differences_the_test_is_close_to_students() -> None:
    values = drawn(np.random.default_rng(1), 60, 1, 0.3, 0.0)
    assert sign_flip(values, names(60)) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.012)


def test_seeds_of_a_prompt_flip_together() -> None:
    """Five prompts with twenty seeds each are five, not a hundred."""
    values = [1.0] * 100
    assert sign_flip(values, names(5, 20)) == pytest.approx(2 / 2**5)
    assert smallest_p(5) == 2 / 2**5


def test_the_test_keeps_its_level_where_prompts_differ() -> None:
    """With no effect and prompts that differ, no more than about 5 % come out; by pairs a third would."""
    rng = np.random.default_rng(2)
    by_prompt, by_pair = [], []
    for _ in range(200):
        values = drawn(rng, 12, 4, 0.0, 1.0)
        by_prompt.append(sign_flip(values, names(12, 4), resamples=499) <= 0.05)
        by_pair.append(stats.ttest_1samp(values, 0).pvalue <= 0.05)
    assert np.mean(by_prompt) < 0.09
    assert np.mean(by_pair) > 0.15


def test_a_planted_effect_is_found_and_the_interval_covers_it() -> None:
    values = drawn(np.random.default_rng(3), 40, 2, 0.8, 0.3)
    found = paired(values, names(40, 2))
    assert found.p < 0.01
    assert found.estimate.low < 0.8 < found.estimate.high
    assert found.estimate.low > 0
    assert found.effect == pytest.approx(np.mean(values) / np.std(values, ddof=1))


def test_intervals_cover_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    hits = [
        estimate.low <= 0.5 <= estimate.high
        for _ in range(120)
        for estimate in [paired(drawn(rng, 14, 3, 0.5, 0.7), names(14, 3)).estimate]
    ]
    assert 0.88 <= np.mean(hits) <= 0.995


def test_the_error_of_one_seed_a_prompt_is_the_usual_one() -> None:
    values = drawn(np.random.default_rng(5), 25, 1, 0.2, 0.0)
    assert cluster_error(values, names(25)) == pytest.approx(stats.sem(values))


def test_copies_of_a_picture_bring_no_certainty() -> None:
    values = drawn(np.random.default_rng(6), 15, 1, 0.4, 0.5)
    copied = [v for v in values for _ in range(4)]
    assert cluster_error(copied, names(15, 4)) == pytest.approx(cluster_error(values, names(15)))


def test_the_pairs_needed_have_the_power_promised() -> None:
    """Drawn anew with that many, about 80 % are significant."""
    rng = np.random.default_rng(7)
    sample = rng.standard_normal(400)
    sample = 0.35 + (sample - sample.mean()) / sample.std(ddof=1)  # d_z of 0.35 exactly
    needed = math.ceil(pairs_needed(sample.tolist(), names(400)))
    assert needed == pytest.approx(((1.96 + 0.8416) / 0.35) ** 2, abs=2)
    found = [stats.ttest_1samp(0.35 + rng.standard_normal(needed), 0).pvalue <= 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_a_stricter_level_needs_more_pairs_and_never_fewer_than_the_test_can_use() -> None:
    values = drawn(np.random.default_rng(8), 30, 1, 0.4, 0.0)
    assert pairs_needed(values, names(30), alpha=0.05 / 20) > pairs_needed(values, names(30))
    clear = [1.0, 1.001, 0.999, 1.0]
    assert pairs_needed(clear, names(4)) == prompts_needed(0.05) == 6
    assert smallest_p(6) <= 0.05 < smallest_p(5)


def test_no_difference_needs_no_number() -> None:
    assert math.isnan(pairs_needed([0.5, -0.5, 1 / 3, -1 / 3], names(4)))
    assert math.isnan(pairs_needed([0.1, 0.2, -0.3], names(3)))  # 0 but for rounding
    none = paired([0.0] * 6, names(6))
    assert none.p == 1.0
    assert math.isnan(none.effect)


def test_too_little_to_test() -> None:
    assert sign_flip([1.0, 2.0], ["a", "a"]) == 1.0
    assert math.isnan(sign_flip([], []))


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06 ties with it, and 0.04 x 1 is raised to it."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)
    assert holm([]) == []
