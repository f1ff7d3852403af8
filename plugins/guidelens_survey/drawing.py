"""The survey's figure, as SVG or PNG: bars per question and condition, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from guidelens.colours import COLOURS, palette
from guidelens.svg import element, number, short
from markupsafe import Markup

from .design import FORCED_CHOICE, PAIRWISE, RATING, RATINGS
from .statistics import Interval, SurveyResults

_INK, _SOFT, _FAINT, _PAPER = "#1b1c1f", "#50545b", "#dcdde0", "#ffffff"
_BAR, _GAP, _LEFT, _TOP, _PLOT, _BOTTOM = 34.0, 30.0, 54.0, 26.0, 210.0, 44.0
_FONT = 12

AXES = {
    PAIRWISE: "share of comparisons won",
    FORCED_CHOICE: "share of choices",
    RATING: "mean rating",
}


@dataclass(frozen=True)
class Box:
    """A filled rectangle with a tooltip."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A line along an axis: from (x, y), ``across`` to the right or ``down``."""

    x: float
    y: float
    across: float = 0.0
    down: float = 0.0
    stroke: str = _INK
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    """Text on a baseline. (x, y) is its ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    fill: str = _INK


Shape = Box | Line | Text


def figure(results: SurveyResults) -> Markup:
    """Return the figure as SVG: a group of bars per question, a bar per condition, 95 % intervals, chance dashed."""
    width, height, shapes = draw(results)
    return element(
        "svg",
        *map(_svg, shapes),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=_label(results),
        style="max-width: 100%; height: auto",
        font_family="system-ui, sans-serif",
        font_size=_FONT,
    )


def figure_png(results: SurveyResults, scale: int = 4) -> bytes:
    """Return the figure as PNG, ``scale`` pixels for each of the SVG's. Its font has Latin letters only."""
    from PIL import Image, ImageDraw, ImageFont

    width, height, shapes = draw(results)
    picture = Image.new("RGB", (round(width * scale), round(height * scale)), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT * scale)
    for shape in shapes:
        x, y = shape.x * scale, shape.y * scale
        if isinstance(shape, Box):
            right, bottom = x + shape.width * scale - 1, y + shape.height * scale - 1
            if right >= x and bottom >= y:  # a share of nothing has no bar
                pen.rectangle((x, y, right, bottom), shape.fill)
        elif isinstance(shape, Text):
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
            pen.text((x, y), shape.text, shape.fill, font, anchor)
        else:
            for start, end in _strokes(shape):
                a, b = (
                    (x + part * scale, y) if shape.across else (x, y + part * scale) for part in (start, end)
                )
                pen.line((a, b), shape.stroke, max(1, round(shape.width * scale)))
    buffer = BytesIO()
    picture.save(buffer, "PNG", dpi=(96 * scale, 96 * scale), optimize=True)
    return buffer.getvalue()


def draw(results: SurveyResults) -> tuple[float, float, list[Shape]]:
    """Return the figure's width, height and shapes, from back to front."""
    conditions, questions = results.conditions, results.questions
    group = len(conditions) * _BAR + _GAP
    width = max(_LEFT + len(questions) * group + 10, 320.0)
    legend, legend_height = _legend(conditions, width)
    colours = palette(conditions)
    height = _TOP + _PLOT + _BOTTOM + legend_height
    low, high = _range(results)
    shapes: list[Shape] = [Box(0, 0, width, height, _PAPER), Text(8, 15, AXES[results.design])]
    for i in range(5):
        value = low + (high - low) * i / 4
        y = _y(value, low, high)
        shapes.append(Line(_LEFT, y, across=width - 8 - _LEFT, stroke=_FAINT))
        shapes.append(Text(_LEFT - 6, y + 4, short(value), "end", _SOFT))
    for q, question in enumerate(questions):
        left = _LEFT + q * group + _GAP / 2
        for c, name in enumerate(conditions):
            colour = COLOURS[colours[name]].light
            shapes += _bar(question.means[name], left + c * _BAR, low, high, colour, name)
        shapes.append(Text(left + len(conditions) * _BAR / 2, _TOP + _PLOT + 18, question.name, "middle"))
    if results.chance is not None:
        y = _y(results.chance, low, high)
        shapes.append(Line(_LEFT, y, across=width - 8 - _LEFT, dashed=True))
    return width, height, shapes + legend


def _y(value: float, low: float, high: float) -> float:
    return _TOP + _PLOT * (1 - (min(high, max(low, value)) - low) / (high - low))


def _range(results: SurveyResults) -> tuple[float, float]:
    if results.design == RATING:
        return 1.0, float(RATINGS)
    values = [
        v for q in results.questions for i in q.means.values() for v in (i.value, i.high) if math.isfinite(v)
    ]
    top = max([*values, results.chance or 0.0])
    return 0.0, min(1.0, max(0.2, math.ceil(top * 5) / 5))


def _bar(found: Interval, left: float, low: float, high: float, colour: str, name: str) -> Iterator[Shape]:
    if not math.isfinite(found.value):
        return
    top, middle = _y(found.value, low, high), left + _BAR / 2
    title = f"{name}: {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    yield Box(left + 3, top, _BAR - 6, _TOP + _PLOT - top, colour, title)
    if math.isfinite(found.low):
        a, b = _y(found.high, low, high), _y(found.low, low, high)
        yield Line(middle, a, down=b - a, width=1.5)
        for end in (a, b):
            yield Line(middle - 5, end, across=10, width=1.5)


def _legend(conditions: list[str], width: float) -> tuple[list[Shape], float]:
    shapes: list[Shape] = []
    x, y, top = 0.0, 0.0, _TOP + _PLOT + _BOTTOM - 8
    colours = palette(conditions)
    for name in conditions:
        length = 24 + 7.0 * len(name)
        if x > 0 and x + length > width - _LEFT:
            x, y = 0.0, y + 18
        shapes.append(Box(_LEFT + x, top + y - 9, 11, 11, COLOURS[colours[name]].light))
        shapes.append(Text(_LEFT + x + 16, top + y + 1, name))
        x += length + 8
    return shapes, y + 10


def _label(results: SurveyResults) -> str:
    said = [
        f"{question.name}: " + ", ".join(f"{name} {i.value:.2f}" for name, i in question.means.items())
        for question in results.questions
    ]
    return f"{AXES[results.design]}; {'; '.join(said)}"


def _svg(shape: Shape) -> Markup:
    if isinstance(shape, Text):
        anchor = "" if shape.anchor == "start" else shape.anchor
        return element("text", shape.text, x=shape.x, y=shape.y, text_anchor=anchor, fill=shape.fill)
    if isinstance(shape, Line):
        to = f"h{number(shape.across)}" if shape.across else f"v{number(shape.down)}"
        return element(
            "path",
            d=f"M{number(shape.x)} {number(shape.y)}{to}",
            stroke=shape.stroke,
            stroke_width=shape.width,
            stroke_dasharray="4 3" if shape.dashed else "",
        )
    title = [element("title", shape.title)] if shape.title else []
    return element(
        "rect", *title, x=shape.x, y=shape.y, width=shape.width, height=shape.height, fill=shape.fill
    )


def _strokes(line: Line) -> Iterator[tuple[float, float]]:
    """Yield start and end of a line's dashes, 4 on and 3 off as in the SVG, or the whole of it."""
    length = line.across or line.down
    if not line.dashed:
        yield 0.0, length
        return
    for start in range(0, math.ceil(length), 7):
        yield float(start), min(length, start + 4.0)
