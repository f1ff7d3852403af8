"""A schedule drawn as curves: the weight of each objective is piecewise linear in progress.

On the command line, a curve is a list of points ``weight@progress``, joined by ``/``. For example, ``0@0/1@0.5/1@1``
rises from 0 to 1 in the first half of the sampling steps, and stays at 1. In a JSON file, the order is reversed: points
are pairs of progress and weight, as in ``{"itc": [[0, 0], [0.5, 1]]}``.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guidelens.errors import UsageError
from guidelens.text import read_text

from .schedules import check_objective

Point = tuple[float, float]
"""Progress in [0, 1], and the weight there."""

MAX_POINTS = 1000
"""Largest number of points of a curve."""


class Curve:
    """A schedule whose weights are piecewise linear in progress.

    w_k(t) is interpolated linearly between the two points around t. It is constant before the first point and after
    the last. Two points at the same progress make a jump: from that progress on, the weight is that of the second.

    :param points: the points (progress, weight) of each objective. Progress is in [0, 1] and never decreases.
    :raises UsageError: if a point is not finite, out of order or out of range, or if all weights are 0.
    """

    def __init__(self, points: Mapping[str, Sequence[Point]]) -> None:
        if not points:
            raise UsageError("curve: there are no curves; write curve:itc=0@0/1@1 or curve:file=PATH")
        self._points = {name: _checked(name, curve) for name, curve in sorted(points.items())}
        if not any(weight for curve in self._points.values() for _, weight in curve):
            raise UsageError("curve: every weight is 0, so nothing would guide")

    @property
    def points(self) -> dict[str, tuple[Point, ...]]:
        """The points of each curve, by objective."""
        return dict(self._points)

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weight of each objective on its curve."""
        return {name: _at(curve, progress) for name, curve in self._points.items()}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return "curve:" + ",".join(f"{name}={format_points(curve)}" for name, curve in self._points.items())


def curve(file: Path | None = None, **curves: str) -> Curve:
    """Build the schedule from points on the command line, or from a file.

    :param file: a JSON file: {"itc": [[0, 1], [1, 0]]}, pairs of progress and weight.
    :param curves: points weight@progress by objective, joined by "/": itc=0@0/1@1,cap=1@0/0@1.
    :raises UsageError: if both or neither are given, or if a curve is not valid.
    """
    if file is None:
        return Curve({name: parse_points(name, text) for name, text in curves.items()})
    if curves:
        raise UsageError(f"curve: give file={file} or curves by objective, not both")
    return Curve(_read_file(file))


def parse_points(name: str, text: str) -> list[Point]:
    """Parse a curve such as ``0@0/1@0.5`` into points (progress, weight).

    :raises UsageError: if a part is not a point. The message names the part.
    """
    points = []
    for part in text.split("/"):
        weight, _, progress = part.partition("@")
        try:
            points.append((float(progress), float(weight)))
        except ValueError:
            raise UsageError(
                f"curve: {part!r} in the curve of {name!r} is not a point; write weight@progress, such as 1@0.5"
            ) from None
    return points


def format_points(points: Sequence[Point]) -> str:
    """Return the text that :func:`parse_points` reads, with 12 significant digits."""
    return "/".join(f"{weight:.12g}@{progress:.12g}" for progress, weight in points)


def _read_file(path: Path) -> dict[str, list[Point]]:
    where = f"the curves {path}"
    text = read_text(path, where)
    try:
        content: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(f"cannot read {where}: {error}") from None
    try:
        return {name: [(at, weight) for at, weight in curve] for name, curve in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise UsageError(
            f'cannot read {where}: write {{"itc": [[0, 1], [1, 0]]}}, pairs of progress and weight by objective'
        ) from None


def _checked(name: str, curve: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points of a curve as floats.

    :raises UsageError: see :class:`Curve`.
    """
    check_objective(name)
    if not 1 <= len(curve) <= MAX_POINTS:
        raise UsageError(f"curve: the curve of {name!r} has {len(curve)} points; give 1 to {MAX_POINTS:,}")
    for value in (value for point in curve for value in point):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"curve: the curve of {name!r} needs finite numbers, got {value!r}")
    places = [progress for progress, _ in curve]
    if places != sorted(places) or not 0 <= places[0] <= places[-1] <= 1:
        raise UsageError(
            f"curve: progress must go from 0 to 1 along the curve of {name!r}, got {', '.join(map(str, places))}"
        )
    return tuple((float(progress), float(weight)) for progress, weight in curve)


def _at(curve: Sequence[Point], progress: float) -> float:
    """Return the weight of a curve at a progress, by linear interpolation."""
    after = bisect_right(curve, progress, key=lambda point: point[0])
    if after in (0, len(curve)):
        return curve[max(after - 1, 0)][1]
    (left, start), (right, end) = curve[after - 1], curve[after]
    share = (progress - left) / (right - left)
    return (1 - share) * start + share * end
