"""Charts of means with their intervals, as inline SVG: over categories, and over the progress of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from guidelens.report.charts import short, value_range
from guidelens.runs.stats import Estimate

WIDTH, HEIGHT = 320.0, 170.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 6.0, 8.0, 26.0
_SPREAD = 7.0
"""Pixels between the marks of two curves at the same place."""


@dataclass(frozen=True)
class Curve:
    """A curve: an estimate at each place of the x axis, None where there is none."""

    name: str
    colour: int
    points: Sequence[Estimate | None]


def interval_chart(curves: Sequence[Curve], places: Sequence[str], title: str, axis: str) -> Markup:
    """Draw means with whiskers at evenly spaced places; points of one curve are joined where places are ordered.

    :param places: what stands below each place.
    :param title: what a screen reader says.
    :param axis: what the places are; empty: they have no order, and nothing is joined.
    """
    low, high = _bounds(curves)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(places))
    parts = [_frame(low, high, title)]
    for i, text in enumerate(places):
        x = _LEFT + step * (i + 0.5)
        parts.append(f'<text class="mid" x="{x:.1f}" y="{HEIGHT - 14:g}">{escape(text)}</text>')
    parts.append(f'<text class="mid" x="{(_LEFT + WIDTH) / 2:g}" y="{HEIGHT - 3:g}">{escape(axis)}</text>')
    for number, curve in enumerate(curves):
        shift = (number - (len(curves) - 1) / 2) * min(_SPREAD, step / (len(curves) + 1))
        drawn = []
        for i, point in enumerate(curve.points):
            if point is None or not point.n:
                continue
            x, y = _LEFT + step * (i + 0.5) + shift, _y(point.mean, low, high)
            drawn.append(f"{x:.1f} {y:.1f}")
            if point.has_interval:
                top, bottom = _y(point.high, low, high), _y(point.low, low, high)
                parts.append(f'<path class="line thin c{curve.colour}" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
            parts.append(f'<path class="line point c{curve.colour}" d="M{x:.1f} {y:.1f}h0"/>')
        if axis and len(drawn) > 1:
            parts.append(f'<path class="line c{curve.colour}" d="M{"L".join(drawn)}"/>')
    return Markup("".join([*parts, "</svg>"]))


def band_chart(
    curves: Sequence[Curve], title: str, axis: str, bounds: tuple[float, float] | None = None
) -> Markup:
    """Draw means with bands over progress, the points of each curve evenly spaced from 0 to 1."""
    low, high = bounds or _bounds(curves)
    parts = [_frame(low, high, title)]
    if low < 0 < high:
        parts.append(f'<path class="axis" d="M{_LEFT:g} {_y(0, low, high):.1f}H{WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 3:g}" y="{_y(0, low, high) + 3:.1f}">0</text>')
    for curve in curves:
        places = [
            (_LEFT + (WIDTH - _LEFT - _RIGHT) * i / max(1, len(curve.points) - 1), point)
            for i, point in enumerate(curve.points)
            if point is not None and point.n
        ]
        known = [(x, point) for x, point in places if point.has_interval]
        if len(known) > 1:
            edge = [f"{x:.1f} {_y(p.high, low, high):.1f}" for x, p in known]
            edge += [f"{x:.1f} {_y(p.low, low, high):.1f}" for x, p in reversed(known)]
            parts.append(f'<path class="band c{curve.colour}" d="M{"L".join(edge)}Z"/>')
        line = "L".join(f"{x:.1f} {_y(point.mean, low, high):.1f}" for x, point in places)
        parts.append(f'<path class="line c{curve.colour}" d="M{line}"/>' if line else "")
    for share, place in ((0.0, ""), (1.0, "end")):
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * share
        parts.append(f'<text class="{place}" x="{x:g}" y="{HEIGHT - 14:g}">{share:g}</text>')
    parts.append(f'<text class="mid" x="{(_LEFT + WIDTH) / 2:g}" y="{HEIGHT - 3:g}">{escape(axis)}</text>')
    return Markup("".join([*parts, "</svg>"]))


def _frame(low: float, high: float, title: str) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(title)}">'
        f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{right:g}"/>'
        f'<text class="end" x="{_LEFT - 3:g}" y="{_TOP + 6:g}">{short(high)}</text>'
        f'<text class="end" x="{_LEFT - 3:g}" y="{bottom:g}">{short(low)}</text>'
    )


def _y(value: float, low: float, high: float) -> float:
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _bounds(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return [0, 1] where everything lies in it, else the range of it all."""
    values = [
        v
        for curve in curves
        for p in curve.points
        if p is not None and p.n
        for v in (p.mean, p.low, p.high)
        if math.isfinite(v)
    ]
    low, high = value_range([values])
    return (0.0, 1.0) if values and min(values) >= 0 and max(values) <= 1 else (low, high)
