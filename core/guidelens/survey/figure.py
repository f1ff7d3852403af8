"""The survey's figure and its section of a page: bars per question and condition, with intervals, as inline SVG."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from guidelens.errors import GuidelensError
from guidelens.report.charts import short

from .design import FORCED_CHOICE, PAIRWISE, RATING, RATINGS
from .statistics import Interval, SurveyResults
from .statistics import results as results_of
from .store import SurveyFile, find_surveys

_COLOURS = ("#1f66c1", "#b4540a", "#0f7b55", "#8a3fb0", "#a8324a", "#5c6b00", "#4a4f57", "#00727a")
_BAR, _GAP, _LEFT, _TOP, _PLOT, _BOTTOM = 34.0, 30.0, 54.0, 26.0, 210.0, 44.0

AXES = {
    PAIRWISE: "share of comparisons won",
    FORCED_CHOICE: "share of choices",
    RATING: "mean rating",
}


def figure(results: SurveyResults) -> Markup:
    """Return the figure as SVG: a group of bars per question, a bar per condition, 95 % intervals, chance dashed."""
    conditions, questions = results.conditions, results.questions
    group = len(conditions) * _BAR + _GAP
    width = _LEFT + len(questions) * group + 10
    legend, legend_height = _legend(conditions, max(width, 320.0))
    width = max(width, 320.0)
    height = _TOP + _PLOT + _BOTTOM + legend_height
    low, high = _range(results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(_label(results))}" '
        'style="max-width: 100%; height: auto" font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
        f'<text x="8" y="15" fill="#1b1c1f">{escape(AXES[results.design])}</text>'
    ]
    for i in range(5):
        value = low + (high - low) * i / 4
        y = _y(value, low, high)
        parts.append(
            f'<path d="M{_LEFT:g} {y:.1f}H{width - 8:g}" stroke="#dcdde0"/>'
            f'<text x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end" fill="#50545b">{short(value)}</text>'
        )
    for q, question in enumerate(questions):
        left = _LEFT + q * group + _GAP / 2
        for c, name in enumerate(conditions):
            parts.append(
                _bar(question.means[name], left + c * _BAR, low, high, _COLOURS[c % len(_COLOURS)], name)
            )
        middle, y = left + len(conditions) * _BAR / 2, _TOP + _PLOT + 18
        parts.append(
            f'<text x="{middle:.1f}" y="{y:g}" text-anchor="middle" fill="#1b1c1f">{escape(question.name)}</text>'
        )
    if results.chance is not None:
        y = _y(results.chance, low, high)
        parts.append(f'<path d="M{_LEFT:g} {y:.1f}H{width - 8:g}" stroke="#1b1c1f" stroke-dasharray="4 3"/>')
    parts.append(f'<g transform="translate({_LEFT:g} {_TOP + _PLOT + _BOTTOM - 8:g})">{legend}</g></svg>')
    return Markup("".join(parts))


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


def _bar(found: Interval, left: float, low: float, high: float, colour: str, name: str) -> str:
    if not math.isfinite(found.value):
        return ""
    top, middle = _y(found.value, low, high), left + _BAR / 2
    title = f"{name}: {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    parts = [
        f'<g><title>{escape(title)}</title><rect x="{left + 3:.1f}" y="{top:.1f}" width="{_BAR - 6:g}" '
        f'height="{_TOP + _PLOT - top:.1f}" fill="{colour}"/>'
    ]
    if math.isfinite(found.low):
        a, b = _y(found.low, low, high), _y(found.high, low, high)
        parts.append(
            f'<path d="M{middle:.1f} {a:.1f}V{b:.1f}M{middle - 5:.1f} {a:.1f}h10M{middle - 5:.1f} {b:.1f}h10" '
            'stroke="#1b1c1f" stroke-width="1.5" fill="none"/>'
        )
    return "".join([*parts, "</g>"])


def _legend(conditions: list[str], width: float) -> tuple[str, float]:
    parts, x, y = [], 0.0, 0.0
    for i, name in enumerate(conditions):
        length = 24 + 7.0 * len(name)
        if x > 0 and x + length > width - _LEFT:
            x, y = 0.0, y + 18
        parts.append(
            f'<rect x="{x:g}" y="{y - 9:g}" width="11" height="11" fill="{_COLOURS[i % len(_COLOURS)]}"/>'
            f'<text x="{x + 16:g}" y="{y + 1:g}" fill="#1b1c1f">{escape(name)}</text>'
        )
        x += length + 8
    return "".join(parts), y + 10


def _label(results: SurveyResults) -> str:
    said = [
        f"{question.name}: " + ", ".join(f"{name} {i.value:.2f}" for name, i in question.means.items())
        for question in results.questions
    ]
    return f"{AXES[results.design]}; {'; '.join(said)}"


def study_sections(directory: str | Path) -> list[tuple[str, Markup]]:
    """Return a title and HTML below it for each survey that lies in the directory of a study or a comparison.

    A survey without answers, one that cannot be read, or a missing library, is said in a line. Files are only read,
    also while a server uses them. The HTML has headings of level 3 and no ids.
    """
    paths = find_surveys(Path(directory))
    titles = [TITLE if len(paths) == 1 else f"{TITLE}: {path.name}" for path in paths]
    return [(title, _of_file(path, title)) for path, title in zip(paths, titles, strict=True)]


def _of_file(path: Path, title: str) -> Markup:
    try:
        survey = SurveyFile(path, read_only=True)
        try:
            return fragment(results_of(survey), title)
        finally:
            survey.close()
    except (GuidelensError, sqlite3.Error, LookupError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, GuidelensError) else f"{path}: {type(error).__name__}: {error}"
        return Markup('<p class="warning">A survey here cannot be read: {}</p>').format(why)


TITLE = "What people said"


def fragment(results: SurveyResults, title: str = TITLE) -> Markup:
    """Return the figure and all tables as HTML without a heading of its own, for a page of any style.

    :param title: what the heading above it says, to tell apart the parts of several surveys on one page.
    """
    return Markup(environment().get_template("fragment.html.j2").render(**_values(results), title=title))


def section(results: SurveyResults) -> Markup:
    """Return :func:`fragment` as an HTML section with its heading."""
    text = environment().get_template("section.html.j2").render(title=TITLE, fragment=fragment(results))
    return Markup(text)


def page(results: SurveyResults) -> str:
    """Return a self-contained page with :func:`section`."""
    text = environment().get_template("results.html.j2").render(**_values(results), section=section(results))
    return str(text)


def _values(results: SurveyResults) -> dict[str, Any]:
    return {"results": results, "figure": figure(results), "axis": AXES[results.design], "number": number}


def number(value: float | None, digits: int = 2) -> str:
    """Write a number, or a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def environment() -> Any:
    """Return the templates of pages that are files."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("guidelens.survey"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
