"""Small line charts and interval marks as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from guidelens.runs.stats import Estimate

WIDTH, HEIGHT = 220.0, 76.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 4.0, 5.0, 13.0
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
    """Return a chart of values over steps. ``label`` is what a screen reader says, ``bounds`` the range of
    the y axis.
    """
    low, high = bounds or value_range([line.values for line in lines])
    steps = max((len(line.values) for line in lines), default=0)
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">'
        f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{right:g}"/>'
    ]
    if low < 0 < high:
        zero = bottom - (bottom - _TOP) * (0 - low) / (high - low)
        parts.append(f'<path class="axis" d="M{_LEFT:g} {zero:.1f}H{right:g}"/>')
    for line in lines:
        path = _path(line.values, steps, low, high)
        if path:
            parts.append(f'<path class="line c{line.colour}" d="{path}"/>')
    parts.append(
        f'<text class="end" x="{_LEFT - 3:g}" y="{_TOP + 6:g}">{short(high)}</text>'
        f'<text class="end" x="{_LEFT - 3:g}" y="{bottom:g}">{short(low)}</text>'
        f'<text x="{_LEFT:g}" y="{HEIGHT - 2:g}">step 1</text>'
        f'<text class="end" x="{right:g}" y="{HEIGHT - 2:g}">{steps}</text></svg>'
    )
    return Markup("".join(parts))


def interval_mark(estimate: Estimate, bounds: tuple[float, float]) -> Markup:
    """Return a dot with its interval on a common scale; decoration, the numbers stand beside it."""
    low, high = bounds
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * min(1.0, max(0.0, (value - low) / span)), 1)

    bar = ""
    if estimate.has_interval:
        bar = f'<path class="whisker" d="M{place(estimate.low):g} 6H{place(estimate.high):g}"/>'
    return Markup(
        '<svg class="mark" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="rail" d="M4 6H96"/>{bar}'
        f'<path class="dot" d="M{place(estimate.mean):g} 1V11"/></svg>'
    )


def short(value: float) -> str:
    """Write a number in at most five characters or so."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e4 or 0 < size < 1e-3:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    if 0 < size < 0.1:
        return f"{value:.2g}"
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def _path(values: Values, steps: int, low: float, high: float) -> str:
    """Return path data with a gap at each missing value; long series are thinned to :data:`MAX_POINTS`."""
    stride = max(1, math.ceil(steps / MAX_POINTS))
    chosen = [i for i in range(len(values)) if i % stride == 0 or i == len(values) - 1]
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    commands, pen_down = [], False
    for i in chosen:
        value = values[i]
        if value is None:
            pen_down = False
            continue
        x = _LEFT + across * i / max(steps - 1, 1)
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        y = _TOP + down * (1 - share)
        # A value between two gaps is drawn as a dot: a zero-length segment with round caps.
        alone = not pen_down and (i == chosen[-1] or values[min(i + stride, len(values) - 1)] is None)
        commands.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}{'h0' if alone else ''}")
        pen_down = True
    return "".join(commands)
