"""Write inline SVG: elements, numbers, and the frame of a chart. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return an SVG element.

    :param children: Markup is inserted unchanged; other text is escaped.
    :param attributes: a trailing underscore in a name is dropped, and other underscores become hyphens (``class_``,
        ``stroke_width``). Floats are written by :func:`number`. An attribute with an empty value is left out.
    """
    given = {
        name.rstrip("_").replace("_", "-"): number(value) if isinstance(value, float) else str(value)
        for name, value in attributes.items()
    }
    written = "".join(f' {name}="{escape(value)}"' for name, value in given.items() if value)
    content = "".join(map(escape, children))
    return Markup(f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>")


def chart(width: float, height: float, label: str, *parts: str) -> Markup:
    """Return a chart for a page. Screen readers read ``label``."""
    box = f"0 0 {number(width)} {number(height)}"
    return element("svg", *parts, class_="chart", viewBox=box, role="img", aria_label=label)


def text(x: float, y: float, words: str, kind: str = "") -> Markup:
    """Return text at (x, y), which is its start, its middle (``mid``) or its end (``end``) on the baseline."""
    return element("text", words, class_=kind, x=x, y=y)


def number(value: float) -> str:
    """Write a coordinate, rounded to a tenth of a pixel."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def short(value: float) -> str:
    """Write a value in about five characters."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1e4 or 0 < size < 1e-3:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    if 0 < size < 0.1:
        return f"{value:.2g}"
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


@dataclass(frozen=True)
class Frame:
    """The plot area of a chart, with margins around it and values from ``low`` to ``high`` on the y axis."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    low: float = 0.0
    high: float = 1.0

    @property
    def end(self) -> float:
        """The x coordinate of the right edge."""
        return self.width - self.right

    @property
    def base(self) -> float:
        """The y coordinate of the x axis."""
        return self.height - self.bottom

    def x(self, share: float) -> float:
        """Return the x coordinate of a position between 0 (the left edge) and 1 (the right edge)."""
        return self.left + (self.end - self.left) * share

    def y(self, value: float) -> float:
        """Return the y coordinate of a value. Values outside the axis are placed at its ends."""
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.top + (self.base - self.top) * (1 - share)

    def axes(self) -> list[Markup]:
        """Return the axes, a line at zero if zero is in the range, and labels for the ends of the y axis."""
        corner = f"M{number(self.left)} {number(self.top)}V{number(self.base)}H{number(self.end)}"
        parts = [element("path", class_="axis", d=corner)]
        if self.low < 0 < self.high:
            zero = f"M{number(self.left)} {number(self.y(0))}H{number(self.end)}"
            parts.append(element("path", class_="axis", d=zero))
        return [
            *parts,
            text(self.left - 3, self.top + 6, short(self.high), "end"),
            text(self.left - 3, self.base, short(self.low), "end"),
        ]
