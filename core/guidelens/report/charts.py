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
    """One line of a chart: values over steps, None where there is none; ``colour`` numbers a colour of the
    page.
    """

    values: Values
    colour: int = 0


def value_range(lines: Sequence[Values]) -> tuple[float, float]:
    """Return the smallest and largest value of all lines, apart by more than nothing."""
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

    :param label: what a screen reader says.
    :param bounds: the range of the y axis.
    """
    low, high = bounds or value_range([line.values for line in lines])
    steps = max((len(line.values) for line in lines), default=0)
    frame = Frame(220.0, 76.0, 34.0, 4.0, 5.0, 13.0, low, high)
    drawn = [(line.colour, _path(line.values, steps, frame)) for line in lines]
    return chart(
        frame.width,
        frame.height,
        label,
        *frame.axes(),
        *(element("path", class_=f"line c{colour}", d=path) for colour, path in drawn if path),
        text(frame.left, frame.height - 2, "step 1"),
        text(frame.end, frame.height - 2, str(steps), "end"),
    )


def interval_mark(estimate: Estimate, bounds: tuple[float, float]) -> Markup:
    """Return a dot with its interval on a common scale; decoration, the numbers stand beside it."""
    low, high = bounds
    span = (high - low) or 1.0

    def place(value: float) -> str:
        return number(4 + 92 * min(1.0, max(0.0, (value - low) / span)))

    paths = [("rail", "M4 6H96")]
    if estimate.has_interval:
        paths.append(("whisker", f"M{place(estimate.low)} 6H{place(estimate.high)}"))
    paths.append(("dot", f"M{place(estimate.mean)} 1V11"))
    parts = [element("path", class_=kind, d=path) for kind, path in paths]
    return element(
        "svg", *parts, class_="mark", viewBox="0 0 100 12", preserveAspectRatio="none", aria_hidden="true"
    )


def _path(values: Values, steps: int, frame: Frame) -> str:
    """Return path data with a gap at each missing value; long series are thinned to :data:`MAX_POINTS`."""
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
