"""The survey's figure as SVG or PNG. It has a dot with an interval per question and condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

from guidelens.colours import COLOURS, palette
from guidelens.svg import element, number, short
from markupsafe import Markup

from .design import FORCED_CHOICE, PAIRWISE, RATING, RATINGS
from .statistics import Interval, SurveyResults

_INK, _SOFT, _FAINT, _PAPER = "#1b1c1f", "#50545b", "#dcdde0", "#ffffff"
_ROW, _HEAD, _TOP, _PLOT, _RIGHT, _AXIS = 24.0, 30.0, 8.0, 380.0, 24.0, 44.0
_RADIUS, _LETTER = 5.0, 7.0
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
class Dot:
    """A filled circle around (x, y), with a tooltip."""

    x: float
    y: float
    radius: float
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


Shape = Box | Dot | Line | Text


def figure(results: SurveyResults) -> Markup:
    """Return the figure as SVG: a dot per question and condition with its 95 % interval, and a dashed line at
    chance."""
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
            pen.rectangle((x, y, right, bottom), shape.fill)
        elif isinstance(shape, Dot):
            radius = shape.radius * scale
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), shape.fill)
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
    """Return the figure's width, height and shapes, from back to front.

    Each question is a block: its name, and below it a row per condition. All blocks share the axis at the bottom.
    """
    conditions, questions = results.conditions, results.questions
    left = 16 + _LETTER * max(map(len, [*conditions, ""]))
    low, high = _range(results)
    foot = _TOP + len(questions) * (_HEAD + _ROW * len(conditions))
    width, height = left + _PLOT + _RIGHT, foot + _AXIS

    def place(value: float) -> float:
        return left + _PLOT * (min(high, max(low, value)) - low) / (high - low)

    shapes: list[Shape] = [Box(0, 0, width, height, _PAPER)]
    for i in range(5):
        value = low + (high - low) * i / 4
        shapes.append(Line(place(value), _TOP, down=foot - _TOP, stroke=_FAINT))
        shapes.append(Text(place(value), foot + 16, short(value), "middle", _SOFT))
    shapes.append(Text(left + _PLOT / 2, foot + 34, AXES[results.design], "middle", _SOFT))
    if results.chance is not None:
        shapes.append(Line(place(results.chance), _TOP, down=foot - _TOP, dashed=True))
        shapes.append(Text(place(results.chance) + 4, _TOP + 10, "chance", "start", _SOFT))
    colours = palette(conditions)
    top = _TOP
    for question in questions:
        shapes.append(Text(8, top + 20, question.name))
        for row, name in enumerate(conditions):
            y = top + _HEAD + _ROW * (row + 0.5)
            colour = COLOURS[colours[name]].light
            shapes.append(Text(left - 8, y + 4, name, "end", colour))
            shapes += _mark(question.means[name], y, place, colour, name)
        top += _HEAD + _ROW * len(conditions)
    return width, height, shapes


def _range(results: SurveyResults) -> tuple[float, float]:
    """Return the ends of the axis: those of the scale for ratings, otherwise 0 and the largest end that is needed."""
    if results.design == RATING:
        return 1.0, float(RATINGS)
    values = [
        v for q in results.questions for i in q.means.values() for v in (i.value, i.high) if math.isfinite(v)
    ]
    top = max([*values, results.chance or 0.0])
    return 0.0, min(1.0, max(0.2, math.ceil(top * 5) / 5))


def _mark(
    found: Interval, y: float, place: Callable[[float], float], colour: str, name: str
) -> Iterator[Shape]:
    """Yield a dot at the estimate, and the line of its interval with the end marks."""
    if not math.isfinite(found.value):
        return
    if math.isfinite(found.low):
        start, end = place(found.low), place(found.high)
        yield Line(start, y, across=end - start, stroke=colour, width=2)
        for x in (start, end):
            yield Line(x, y - 4, down=8, stroke=colour, width=2)
    title = f"{name}: {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    yield Dot(place(found.value), y, _RADIUS, colour, title)


def _label(results: SurveyResults) -> str:
    said = [
        f"{question.name}: "
        + ", ".join(f"{name} {i.value:.2f}" for name, i in question.means.items() if math.isfinite(i.value))
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
    if isinstance(shape, Dot):
        return element("circle", *title, cx=shape.x, cy=shape.y, r=shape.radius, fill=shape.fill)
    return element(
        "rect", *title, x=shape.x, y=shape.y, width=shape.width, height=shape.height, fill=shape.fill
    )


def _strokes(line: Line) -> Iterator[tuple[float, float]]:
    """Yield start and end of each dash of a line, 4 on and 3 off as in the SVG. A solid line is one dash."""
    length = line.across or line.down
    if not line.dashed:
        yield 0.0, length
        return
    for start in range(0, math.ceil(length), 7):
        yield float(start), min(length, start + 4.0)
