"""Plot curves over the steps of a run as a self-contained SVG file with a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..colours import COLOURS, palette
from ..svg import Frame, element, number, text

_WIDTH, _HEIGHT = 640.0, 320.0


@dataclass(frozen=True)
class Curve:
    """Positive values over steps, optionally with intervals (low, high)."""

    name: str
    values: Sequence[float]
    bands: Sequence[tuple[float, float]] = field(default=())


def log_plot(curves: Sequence[Curve], title: str) -> str:
    """Return an SVG file. Values that are not positive and intervals that are not finite leave gaps."""
    shown = [v for c in curves for v in (*c.values, *(edge for band in c.bands for edge in band)) if _fits(v)]
    low, high = (math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))) if shown else (0, 1)
    frame = Frame(_WIDTH, _HEIGHT, 50, 150, 30, 30, low, max(high, low + 1))
    parts = [text(frame.left, 18, title), *_grid(frame)]
    colours = palette([curve.name for curve in curves])
    for place, curve in enumerate(curves):
        colour = COLOURS[colours[curve.name]].light
        parts += _band(frame, curve, colour)
        parts.append(_line(frame, curve, colour))
        where = {"x": frame.end + 10, "y": frame.top + 14 + 18 * place}
        parts.append(element("text", curve.name, fill=colour, **where))
    steps = max((len(curve.values) for curve in curves), default=0)
    parts.append(text(frame.left, frame.base + 18, "step 1 (noisiest)"))
    parts.append(text(frame.end - 20, frame.base + 18, f"step {steps}"))
    background = element("rect", width="100%", height="100%", fill="white")
    return str(
        element(
            "svg",
            background,
            *parts,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {number(_WIDTH)} {number(_HEIGHT)}",
            font_family="sans-serif",
            font_size="12",
        )
    )


def _fits(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _grid(frame: Frame) -> list[str]:
    parts: list[str] = []
    for power in range(int(frame.low), int(frame.high) + 1):
        y = number(frame.y(power))
        line = f"M{number(frame.left)} {y}H{number(frame.end)}"
        parts.append(element("path", d=line, stroke="#dddddd"))
        parts.append(text(6, frame.y(power) + 4, f"1e{power}"))
    return parts


def _points(frame: Frame, values: Sequence[float]) -> list[str]:
    last = max(1, len(values) - 1)
    return [
        f"{number(frame.x(k / last))} {number(frame.y(math.log10(value)))}" if _fits(value) else ""
        for k, value in enumerate(values)
    ]


def _line(frame: Frame, curve: Curve, colour: str) -> str:
    path, pen = "", "M"
    for point in _points(frame, curve.values):
        path, pen = (path + pen + point, "L") if point else (path, "M")
    return element("path", d=path, fill="none", stroke=colour, stroke_width="2")


def _band(frame: Frame, curve: Curve, colour: str) -> list[str]:
    if not curve.bands or not all(_fits(edge) for band in curve.bands for edge in band):
        return []
    upper = _points(frame, [high for _, high in curve.bands])
    lower = _points(frame, [low for low, _ in curve.bands])
    path = "M" + "L".join([*upper, *reversed(lower)]) + "Z"
    return [element("path", d=path, fill=colour, opacity="0.15")]
