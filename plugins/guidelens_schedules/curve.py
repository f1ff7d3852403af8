"""A schedule drawn as curves: the weight of each objective is piecewise linear in progress.

A curve is written as points ``weight@progress`` joined by ``/``: ``0@0/1@0.5/1@1`` rises to 1 until half of the
sampling steps are done, and stays there. A file holds the same as JSON: ``{"itc": [[0, 0], [0.5, 1]]}``, pairs of
progress and weight.
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
"""Points that one curve may have."""


class Curve:
    """Objectives weighed by curves over progress, straight between points.

    w_k(t) is interpolated linearly between the two points around t, and constant before the first point and after
    the last. Two points at the same progress make a jump: from there on, the second one counts.

    :param points: (progress, weight) of each curve, by objective; progress in [0, 1] and never decreasing.
    :raises UsageError: for points that are not finite, out of order or out of range, or weights that are all 0.
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
    :raises UsageError: for both or neither, or what is not a curve.
    """
    if file is None:
        return Curve({name: parse_points(name, text) for name, text in curves.items()})
    if curves:
        raise UsageError(f"curve: give file={file} or curves by objective, not both")
    return Curve(_read_file(file))


def parse_points(name: str, text: str) -> list[Point]:
    """Read points as they are spelled: ``0@0/1@0.5``.

    :raises UsageError: naming the part that is not a point.
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
    """Write points as :func:`parse_points` reads them."""
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
    after = bisect_right(curve, progress, key=lambda point: point[0])
    if after in (0, len(curve)):
        return curve[max(after - 1, 0)][1]
    (left, start), (right, end) = curve[after - 1], curve[after]
    share = (progress - left) / (right - left)
    return (1 - share) * start + share * end
