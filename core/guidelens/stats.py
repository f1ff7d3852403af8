"""Means over cells, with intervals that account for prompts: pictures of one prompt are not independent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` pictures of ``clusters`` prompts, with its interval (NaN if there is none)."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval. False for a single picture, or if all values agree: the spread is unknown."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def estimate(
    values: Sequence[float],
    prompts: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate the mean of ``values`` over pictures, resampling whole prompts (a cluster bootstrap).

    A resample draws prompts with replacement, each with all its seeds. Its mean is taken over all its pictures
    (Davison & Hinkley 1997, section 3.8: resampling whole clusters only). If there is only one prompt, its seeds are
    resampled instead, and the interval applies to this prompt only.

    The percentiles are widened to the level Phi(-sqrt(k / (k - 1)) t_{k-1}), because the number of clusters k is small
    (the expanded percentile interval of Hesterberg 2015, section 5.3). A plain percentile interval of four prompts is
    only half as wide as it should be.

    If all units agree, or there is only one, resampling shows no spread. There is then no interval, rather than one of
    width zero. The resampling is seeded: the same values give the same interval.

    :raises ValueError: if the lengths differ or a value is not finite.
    """
    if len(values) != len(prompts):
        raise ValueError(f"{len(values)} values for {len(prompts)} prompts")
    if not all(math.isfinite(v) for v in values):
        raise ValueError("values must be finite: leave missing ones out")
    clusters: dict[str, list[float]] = {}
    for value, prompt in zip(values, prompts, strict=True):
        clusters.setdefault(prompt, []).append(float(value))
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    mean = math.fsum(values) / n
    units = list(clusters.values()) if len(clusters) > 1 else [[v] for v in values]
    if len(units) < 2 or len({math.fsum(unit) / len(unit) for unit in units}) == 1:
        return Estimate(mean, math.nan, math.nan, n, len(clusters))
    low, high = _interval(units, confidence, resamples)
    return Estimate(mean, min(low, mean), max(high, mean), n, len(clusters))


def _interval(units: Sequence[Sequence[float]], confidence: float, resamples: int) -> tuple[float, float]:
    # Not scipy.stats.bootstrap, which computes the same: importing scipy.stats takes ten times as long as this.
    import numpy as np

    sums = np.array([math.fsum(unit) for unit in units])
    counts = np.array([float(len(unit)) for unit in units])
    rng = np.random.default_rng(0)
    at_once = max(1, 4_000_000 // len(units))
    means = []
    for done in range(0, resamples, at_once):
        drawn = rng.integers(0, len(units), (min(at_once, resamples - done), len(units)))
        means.append(sums[drawn].sum(axis=-1) / counts[drawn].sum(axis=-1))
    tail = (1 - expanded_level(confidence, len(units))) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def expanded_level(confidence: float, clusters: int) -> float:
    """Return the level at which a percentile interval of ``clusters`` units covers about ``confidence``.

    The level is 1 - 2 Phi(-sqrt(k / (k - 1)) t), where t is the quantile of Student's distribution with k - 1 degrees
    of freedom.
    """
    from scipy import special

    quantile = special.stdtrit(clusters - 1, (1 + confidence) / 2) * math.sqrt(clusters / (clusters - 1))
    return float(1 - 2 * special.ndtr(-quantile))


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Estimate]]:
    """Return ``{schedule: {column: Estimate}}`` over result rows, both in order of appearance.

    A cell may have no score in a column, because the column does not apply or the metric failed. Such a cell is not
    counted in the column's n.
    """
    collected: dict[str, dict[str, tuple[list[float], list[str]]]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        scores = collected.setdefault(row["schedule"], {})
        for column, value in row["metrics"].items():
            columns[column] = None
            values, prompts = scores.setdefault(column, ([], []))
            values.append(value)
            prompts.append(_target(row))
    return {
        schedule: {column: estimate(*scores.get(column, ([], []))) for column in columns}
        for schedule, scores in collected.items()
    }


def paired_differences(rows: Iterable[Mapping[str, Any]], column: str, baseline: str) -> dict[str, Estimate]:
    """Return, per schedule, the mean difference to ``baseline`` in ``column``, over the pictures that both have.

    Cells with the same prompt and seed share all noise, so the difference is taken picture by picture. Its interval is
    usually much narrower than the intervals of the two schedules suggest.
    """
    scores: dict[str, dict[tuple[str, str, int], float]] = {}
    for row in rows:
        if column in row["metrics"]:
            cell = (_target(row), row["prompt"], row["seed"])
            scores.setdefault(row["schedule"], {})[cell] = row["metrics"][column]
    base = scores.pop(baseline, {})
    result = {}
    for schedule, cells in scores.items():
        shared = [cell for cell in cells if cell in base]
        result[schedule] = estimate([cells[c] - base[c] for c in shared], [target for target, _, _ in shared])
    return result


def _target(row: Mapping[str, Any]) -> str:
    """Return the text that a row's picture is scored against. A prompt and its perturbed forms are one cluster."""
    return str(row.get("reference") or row["prompt"])


def perturbation_effects(
    rows: Iterable[Mapping[str, Any]], perturbed: Iterable[Mapping[str, Any]], column: str
) -> dict[str, dict[str, Estimate]]:
    """Return, per schedule and perturbation, the mean change of ``column`` from the clean to the perturbed prompt.

    Both pictures are scored against the clean prompt and share all noise, so the change is taken picture by picture.

    :param perturbed: the origin of perturbed prompts, from ``config.json``.
    """
    scores: dict[tuple[str, str, str, int], float] = {
        (row["schedule"], row["prompt"], _target(row), row["seed"]): row["metrics"][column]
        for row in rows
        if column in row["metrics"]
    }
    changes: dict[str, dict[str, tuple[list[float], list[str]]]] = {}
    for form in perturbed:
        for (schedule, prompt, target, seed), score in scores.items():
            clean = scores.get((schedule, form["clean"], target, seed))
            if (prompt, target) == (form["text"], form["reference"]) and clean is not None:
                values, prompts = changes.setdefault(schedule, {}).setdefault(form["perturbation"], ([], []))
                values.append(score - clean)
                prompts.append(target)
    return {
        schedule: {spec: estimate(*found) for spec, found in specs.items()}
        for schedule, specs in changes.items()
    }
