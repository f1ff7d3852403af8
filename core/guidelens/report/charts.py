"""Small line charts and interval marks as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from guidelens.stats import Estimate
from guidelens.svg import Frame, chart, element, number, text

MAX_POINTS = 120

Values = Sequence[float | None]


@dataclass(frozen=True)
class Line:
    """A line of a chart: values over steps, None if missing. ``colour`` is the number of a colour of the page."""

    values: Values
    colour: int = 0


def value_range(lines: Sequence[Values]) -> tuple[float, float]:
    """Return the smallest and largest value of all lines. They always differ."""
    present = [v for values in lines for v in values if v is not None]
    if not present:
        return 0.0, 1.0
    low, high = min(present), max(present)
    if high - low < 1e-9 * max(1.0, abs(high)):
        pad = 0.5 * abs(high) or 0.5
        return low - pad, high + pad
    return low, high


def line_chart(lines: Sequence[Line], label: str, bounds: tuple[float, float] | None = None) -> Markup:
    """Return a chart of values over steps.

    :param label: text for screen readers.
    :param bounds: the range of the y axis.
    """
    low, high = bounds or value_range([line.values for line in lines])
    steps = max((len(line.values) for line in lines), default=0)
    frame = Frame(220.0, 76.0, 34.0, 4.0, 5.0, 13.0, low, high)
    kinds = dash_kinds([line.values for line in lines], high - low)
    drawn = [
        (f"line c{line.colour}{kind}", _path(line.values, steps, frame))
        for line, kind in zip(lines, kinds, strict=True)
    ]
    return chart(
        frame.width,
        frame.height,
        label,
        *frame.axes(),
        *(element("path", class_=kind, d=path) for kind, path in drawn if path),
        text(frame.left, frame.height - 2, "step 1"),
        text(frame.end, frame.height - 2, str(steps), "end"),
    )


def dash_kinds(lines: Sequence[Values], span: float) -> list[str]:
    """Return a class for each line: `` over1`` or `` over2`` (dashed) if it covers one or more earlier lines. A line
    covers another if they differ by less than 2 % of ``span`` at a quarter of the steps or more.
    """
    kinds: list[str] = []
    for i, values in enumerate(lines):
        covered = sum(_coincide(values, other, span) for other in lines[:i])
        kinds.append(f" over{min(covered, 2)}" if covered else "")
    return kinds


def _coincide(one: Values, other: Values, span: float) -> bool:
    both = [(a, b) for a, b in zip(one, other, strict=False) if a is not None and b is not None]
    near = sum(abs(a - b) <= 0.02 * span for a, b in both)
    return bool(both) and near >= len(both) / 4


def interval_mark(estimate: Estimate, bounds: tuple[float, float], colour: int | None = None) -> Markup:
    """Return a dot with its interval on a common scale, and a tick at 0. It is decorative, because the numbers are
    printed beside it.

    :param colour: the number of its colour; None: the page's accent colour.
    """
    low, high = bounds
    span = (high - low) or 1.0

    def place(value: float) -> str:
        return number(4 + 92 * min(1.0, max(0.0, (value - low) / span)))

    shade = "" if colour is None else f" line c{colour}"
    paths = [("rail", "M4 6H96M4 3V9M96 3V9")]
    if low < 0 < high:
        paths.append(("rail zero", f"M{place(0)} 0V12"))
    if estimate.has_interval:
        paths.append((f"whisker{shade}", f"M{place(estimate.low)} 6H{place(estimate.high)}"))
    paths.append((f"dot{shade}", f"M{place(estimate.mean)} 1V11"))
    parts = [element("path", class_=kind, d=path) for kind, path in paths]
    return element(
        "svg", *parts, class_="mark", viewBox="0 0 100 12", preserveAspectRatio="none", aria_hidden="true"
    )


def _path(values: Values, steps: int, frame: Frame) -> str:
    """Return path data with a gap at each missing value. Long series are thinned to :data:`MAX_POINTS`."""
    stride = max(1, math.ceil(steps / MAX_POINTS))
    chosen = [i for i in range(len(values)) if i % stride == 0 or i == len(values) - 1]
    commands, pen_down = [], False
    for i in chosen:
        value = values[i]
        if value is None:
            pen_down = False
            continue
        # A value between two gaps is drawn as a dot: a zero-length segment with round caps.
        alone = not pen_down and (i == chosen[-1] or values[min(i + stride, len(values) - 1)] is None)
        place = f"{number(frame.x(i / max(steps - 1, 1)))} {number(frame.y(value))}"
        commands.append(f"{'L' if pen_down else 'M'}{place}{'h0' if alone else ''}")
        pen_down = True
    return "".join(commands)
