"""Charts of means with their intervals, as inline SVG: over categories, and over the progress of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from guidelens.report.charts import value_range
from guidelens.stats import Estimate
from guidelens.svg import Frame, chart, element, number, text

_SPREAD = 7.0
"""Pixels between the marks of two curves at the same place."""


@dataclass(frozen=True)
class Curve:
    """A curve: an estimate at each place of the x axis, None if missing."""

    name: str
    colour: int
    points: Sequence[Estimate | None]


def interval_chart(
    curves: Sequence[Curve],
    places: Sequence[str],
    title: str,
    axis: str,
    bounds: tuple[float, float] | None = None,
) -> Markup:
    """Draw means with whiskers at evenly spaced places. Points of a curve are joined if the places are ordered.

    :param places: the label of each place.
    :param title: text for screen readers.
    :param axis: the label of the x axis; empty: the places have no order.
    :param bounds: the ends of the y axis; None: [0, 1] if it contains everything, else the range of the data.
    """
    frame = _frame(*(bounds or _bounds(curves)))
    step = (frame.end - frame.left) / max(1, len(places))
    middles = [frame.left + step * (i + 0.5) for i in range(len(places))]
    parts = _zero(frame)
    parts += [text(x, frame.height - 14, words, "mid") for x, words in zip(middles, places, strict=True)]
    for i, curve in enumerate(curves):
        shift = (i - (len(curves) - 1) / 2) * min(_SPREAD, step / (len(curves) + 1))
        parts += _marks(curve, [x + shift for x in middles], frame, joined=bool(axis))
    return chart(frame.width, frame.height, title, *frame.axes(), _axis_name(frame, axis), *parts)


def _marks(curve: Curve, places: Sequence[float], frame: Frame, *, joined: bool) -> list[Markup]:
    """Draw a curve's points at the x ``places``, with whiskers, and a line through them."""
    parts, drawn = [], []
    for x, point in zip(map(number, places), curve.points, strict=True):
        if point is None or not point.n:
            continue
        drawn.append(f"{x} {number(frame.y(point.mean))}")
        if point.has_interval:
            whisker = f"M{x} {number(frame.y(point.high))}V{number(frame.y(point.low))}"
            parts.append(element("path", class_=f"line thin c{curve.colour}", d=whisker))
        parts.append(element("path", class_=f"line point c{curve.colour}", d=f"M{drawn[-1]}h0"))
    if joined and len(drawn) > 1:
        parts.append(element("path", class_=f"line c{curve.colour}", d=f"M{'L'.join(drawn)}"))
    return parts


def band_chart(
    curves: Sequence[Curve], title: str, axis: str, bounds: tuple[float, float] | None = None
) -> Markup:
    """Draw means with bands over progress, the points of each curve evenly spaced from 0 to 1."""
    frame = _frame(*(bounds or _bounds(curves)))
    parts = _zero(frame)
    for curve in curves:
        places = [
            (number(frame.x(i / max(1, len(curve.points) - 1))), point)
            for i, point in enumerate(curve.points)
            if point is not None and point.n
        ]
        known = [(x, point) for x, point in places if point.has_interval]
        if len(known) > 1:
            edge = [f"{x} {number(frame.y(p.high))}" for x, p in known]
            edge += [f"{x} {number(frame.y(p.low))}" for x, p in reversed(known)]
            parts.append(element("path", class_=f"band c{curve.colour}", d=f"M{'L'.join(edge)}Z"))
        line = "L".join(f"{x} {number(frame.y(point.mean))}" for x, point in places)
        if line:
            parts.append(element("path", class_=f"line c{curve.colour}", d=f"M{line}"))
    ends = [text(frame.left, frame.height - 14, "0"), text(frame.end, frame.height - 14, "1", "end")]
    return chart(frame.width, frame.height, title, *frame.axes(), *parts, *ends, _axis_name(frame, axis))


def _frame(low: float, high: float) -> Frame:
    return Frame(320.0, 170.0, 34.0, 6.0, 8.0, 26.0, low, high)


def _zero(frame: Frame) -> list[Markup]:
    """Return the label of 0 if it is inside the y axis."""
    return [text(frame.left - 3, frame.y(0) + 3, "0", "end")] if frame.low < 0 < frame.high else []


def _axis_name(frame: Frame, name: str) -> Markup:
    return text((frame.left + frame.width) / 2, frame.height - 3, name, "mid")


def _bounds(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return [0, 1] if it contains everything, else the range of the data."""
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
