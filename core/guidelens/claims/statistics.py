"""Paired differences over prompts and seeds: mean, interval, test, and the sample size that would decide.

Pictures of one prompt are not independent. So intervals resample prompts, and the test flips prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from guidelens.stats import Estimate, estimate

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 9999
"""Up to this number, all sign flips are enumerated. If there are more, this number is drawn at random."""


@dataclass(frozen=True)
class Paired:
    """Estimate and test of the mean of paired differences.

    :param estimate: the mean with a 95 % interval, prompts resampled with all their seeds.
    :param p: two-sided p of the sign-flip test; NaN without differences.
    :param effect: d_z, the mean divided by the standard deviation of the differences; NaN if all are equal.
    :param needed: number of pairs that detects a mean of this size with a power of 0.8; NaN for a mean of 0.
    """

    estimate: Estimate
    p: float
    effect: float
    needed: float


def paired(values: Sequence[float], prompts: Sequence[str], *, alpha: float = ALPHA) -> Paired:
    """Estimate and test paired differences, each with its prompt.

    :param alpha: significance level for ``needed``: the level of all questions divided by their number.
    :raises ValueError: the lengths differ or a value is not finite.
    """
    mean = estimate(values, prompts)
    deviation = _deviation(values)
    return Paired(
        estimate=mean,
        p=sign_flip(values, prompts),
        effect=mean.mean / deviation if deviation > 0 else math.nan,
        needed=pairs_needed(values, prompts, alpha=alpha),
    )


def sign_flip(values: Sequence[float], prompts: Sequence[str], *, resamples: int = RESAMPLES) -> float:
    """Return the two-sided p of "the differences of a prompt are as likely to be all of the other sign".

    The differences of one prompt are flipped together, so that its seeds do not count as independent. With k
    prompts p is a multiple of 2 / 2^k where all flips are enumerated (``resamples`` of them at most).
    """
    sums = _sums(values, prompts)
    if len(sums) < 2 or not any(sums):
        return 1.0 if sums else math.nan
    import numpy as np
    from scipy import stats

    result = stats.permutation_test(
        (np.array(sums),),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 1_000_000 // len(sums)),
        random_state=np.random.default_rng(0),
    )
    return float(result.pvalue)


def smallest_p(prompts: int) -> float:
    """Return the smallest p that :func:`sign_flip` can give for this number of prompts."""
    if prompts < 2:
        return 1.0
    flips = 2.0**prompts
    return 2 / flips if flips <= RESAMPLES else 2 / (RESAMPLES + 1)


def prompts_needed(alpha: float) -> int:
    """Return the smallest number of prompts for which :func:`sign_flip` can give a p of at most ``alpha``."""
    return max(2, math.ceil(math.log2(2 / alpha)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for multiple tests (Holm 1979). The order is kept, and NaN stays NaN.

    The smallest is multiplied by their number m, the next by m - 1, and so on; none is smaller than one before it.
    """
    order = sorted((i for i, p in enumerate(p_values) if math.isfinite(p)), key=lambda i: p_values[i])
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def pairs_needed(
    values: Sequence[float], prompts: Sequence[str], *, alpha: float = ALPHA, power: float = POWER
) -> float:
    """Return the number of pairs needed to detect a mean of this size, if the estimate is the true mean.

    n (SE (z_{1-alpha/2} + z_power) / mean)^2, with SE the standard error of the mean over prompts (clusters), for the
    current number of seeds per prompt. This is a normal approximation. The result is never below what the sign-flip
    test needs.
    """
    from scipy import stats

    n, sums = len(values), _sums(values, prompts)
    mean = math.fsum(values) / n if n else 0.0
    if len(sums) < 2 or abs(mean) <= 1e-9 * max(map(abs, values)):  # a mean of 0 up to rounding
        return math.nan
    least = prompts_needed(alpha) * n / len(sums)
    quantiles = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    return max(least, n * (cluster_error(values, prompts) * quantiles / mean) ** 2)


def cluster_error(values: Sequence[float], prompts: Sequence[str]) -> float:
    """Return the standard error of the mean when prompts, not pictures, are independent."""
    n = len(values)
    mean = math.fsum(values) / n
    residuals = _sums([v - mean for v in values], prompts)
    k = len(residuals)
    return math.sqrt(k / (k - 1) * math.fsum(r * r for r in residuals)) / n


def _sums(values: Sequence[float], prompts: Sequence[str]) -> list[float]:
    sums: dict[str, list[float]] = {}
    for value, prompt in zip(values, prompts, strict=True):
        sums.setdefault(prompt, []).append(value)
    return [math.fsum(group) for group in sums.values()]


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
