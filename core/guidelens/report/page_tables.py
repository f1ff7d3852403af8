"""The tables of a comparison's page: scores, paired differences to each schedule, and a headline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from guidelens.report.charts import interval_mark, value_range
from guidelens.stats import Estimate, paired_differences, summarise
from guidelens.svg import short

Row = Mapping[str, Any]
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Head:
    """The head of a column: its name, its meaning, and the range of its axis."""

    name: str
    meaning: str
    low: str
    high: str
    zero: float | None
    """The position of 0 in percent of the axis; None: at an end, or outside."""
    n: int | None
    """The number of pictures or pairs of every number in the column; None: they differ."""


@dataclass(frozen=True)
class Score:
    """A number of a table with its mark on the axis. ``estimate`` is None if there is none."""

    estimate: Estimate | None
    rail: Markup


@dataclass(frozen=True)
class Line:
    """The row of a schedule in a table."""

    schedule: str
    number: int
    scores: list[Score]


@dataclass(frozen=True)
class Differences:
    """The paired differences of all schedules to one of them."""

    against: str
    number: int
    lines: list[Line]


@dataclass(frozen=True)
class Headline:
    """The headline of a page: ``more`` scores higher than ``less`` in ``column``."""

    column: str
    more: str
    less: str
    estimate: Estimate
    compared: int
    """The number of differences from which it was chosen."""


@dataclass(frozen=True)
class Tables:
    """All tables of a page. Without scores they are empty."""

    heads: list[Head]
    lines: list[Line]
    difference_heads: list[Head]
    differences: list[Differences]
    headline: Headline | None
    default: int
    """The number of the schedule whose differences are shown first."""


def tables(
    rows: Sequence[Row],
    names: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    colours: Mapping[str, int],
) -> Tables:
    """Estimate every schedule's columns, and every paired difference of two schedules.

    :param names: the schedules in order. Those without pictures are left out.
    :param metrics: records of ``config.json`` with the meaning and range of columns.
    """
    estimates = summarise(rows)
    present = [name for name in names if name in estimates]
    columns = list(estimates[present[0]]) if present else []
    declared = {column["name"]: column for metric in metrics for column in metric["columns"]}
    bounds = {c: score_bounds([estimates[name][c] for name in present], declared.get(c, {})) for c in columns}
    numbers = {name: names.index(name) for name in present}
    found = _all_differences(rows, present, columns)
    by_column = {c: [e for (_, _, column), e in found.items() if column == c] for c in columns}
    wide = {c: _symmetric(by_column[c]) for c in columns}
    return Tables(
        heads=[_head(declared.get(c, {}), c, bounds[c], [estimates[s][c] for s in present]) for c in columns],
        lines=[
            Line(name, numbers[name], [_score(estimates[name][c], bounds[c], colours[name]) for c in columns])
            for name in present
        ],
        difference_heads=[_head(declared.get(c, {}), c, wide[c], by_column[c]) for c in columns],
        differences=[
            Differences(
                base,
                numbers[base],
                [
                    Line(
                        name,
                        numbers[name],
                        [_score(found.get((name, base, c)), wide[c], colours[name]) for c in columns],
                    )
                    for name in present
                    if name != base
                ],
            )
            for base in present
        ],
        headline=headline(found, declared),
        default=numbers[_default(present)] if present else 0,
    )


_UNGUIDED = ("none", "unguided")
"""Names of schedules that guide nothing."""


def headline(
    found: Mapping[tuple[str, str, str], Estimate], declared: Mapping[str, Mapping[str, Any]]
) -> Headline | None:
    """Choose the largest paired difference, relative to the range of its column.

    Only columns with a declared range count. Differences whose interval excludes 0 come first. Each pair of schedules
    counts once, in the order with a positive difference. The unguided pictures are left out where two schedules guide:
    that guidance does something is not news.

    :param found: differences by (schedule, base schedule, column).
    :returns: None if nothing was compared or nothing differs.
    """
    guided = {more for more, _, _ in found if more not in _UNGUIDED}
    if len(guided) > 1:
        found = {pair: estimate for pair, estimate in found.items() if guided.issuperset(pair[:2])}
    ranked = []
    for (more, less, column), estimate in found.items():
        about = declared.get(column, {})
        low, high = about.get("low"), about.get("high")
        if estimate.n and estimate.mean > 0 and low is not None and high is not None:
            clear = estimate.has_interval and estimate.low > 0
            ranked.append(((clear, estimate.mean / (high - low)), more, less, column, estimate))
    if not ranked:
        return None
    _, more, less, column, estimate = max(ranked, key=lambda item: item[0])
    return Headline(column, more, less, estimate, len(found) // 2)


def score_bounds(estimates: Sequence[Estimate], declared: Mapping[str, Any]) -> Bounds:
    """Return the declared range of a column; else [0, 1] if it contains all values; else the range of the values."""
    low, high = declared.get("low"), declared.get("high")
    if low is not None and high is not None:
        return float(low), float(high)
    values = [v for e in estimates for v in (e.mean, e.low, e.high) if math.isfinite(v)]
    if not values:
        return 0.0, 1.0
    return (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else value_range([values])


def _default(names: Sequence[str]) -> str:
    """Return the unguided schedule if there is one, else the first."""
    return next((name for name in names if name in _UNGUIDED), names[0])


def _all_differences(
    rows: Sequence[Row], names: Sequence[str], columns: Sequence[str]
) -> dict[tuple[str, str, str], Estimate]:
    """Return the mean of schedule - base for all (schedule, base, column). Each pair is estimated once."""
    found: dict[tuple[str, str, str], Estimate] = {}
    for i, base in enumerate(names):
        later = names[i + 1 :]
        mine = [row for row in rows if row["schedule"] == base or row["schedule"] in later]
        for column in columns:
            for name, estimate in paired_differences(mine, column, base).items():
                found[name, base, column] = estimate
                found[base, name, column] = replace(
                    estimate, mean=-estimate.mean, low=-estimate.high, high=-estimate.low
                )
    return found


def _symmetric(estimates: Sequence[Estimate]) -> Bounds:
    values = [abs(v) for e in estimates for v in (e.mean, e.low, e.high) if math.isfinite(v)]
    edge = max(values, default=0.0) or 1.0
    return -edge, edge


def _head(declared: Mapping[str, Any], column: str, bounds: Bounds, estimates: Sequence[Estimate]) -> Head:
    low, high = bounds
    zero = 100 * (0 - low) / (high - low) if low < 0 < high else None
    sizes = {estimate.n for estimate in estimates}
    n = sizes.pop() if len(sizes) == 1 else None
    return Head(column, declared.get("meaning", ""), _end(low), _end(high), zero, n)


def _end(value: float) -> str:
    words = f"{value:g}" if value == round(value, 1) else short(value)
    return words.replace("-", "\N{MINUS SIGN}")


def _score(estimate: Estimate | None, bounds: Bounds, colour: int) -> Score:
    if estimate is None or not estimate.n:
        return Score(None, Markup(""))
    return Score(estimate, interval_mark(estimate, bounds, colour))
