"""The survey's figure and tables as HTML, for its own page and for a run's report."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

from guidelens.errors import GuidelensError
from guidelens.words import plural
from markupsafe import Markup

from .drawing import AXES, figure
from .statistics import Power, SurveyResults
from .statistics import results as results_of
from .store import SurveyFile, find_surveys
from .wording import conclusion


def study_sections(directory: str | Path) -> list[tuple[str, Markup]]:
    """Return a title and HTML below it for each survey in the directory of a study or a comparison.

    One line reports a survey without answers, an unreadable survey or a missing library. Files are only read, and a
    server may use them meanwhile. The HTML has headings of level 3 and no ids.
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
    """Return the figure and all tables as HTML without a heading, for a page of any style.

    :param title: the heading above the fragment, to distinguish several surveys on one page.
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
    axis = AXES[results.design]
    return {
        "results": results,
        "figure": figure(results),
        "axis": axis,
        "number": number,
        "foresight": foresight,
        "conclusion": conclusion,
    }


def foresight(power: Power) -> str:
    """Return the difference that a study of this size can find, and the number of raters that other differences
    need."""
    enough = [f"{raters} for {effect}" for effect, raters in power.raters.items() if raters is not None]
    never = [effect for effect, raters in power.raters.items() if raters is None]
    parts = [
        f"A study of this size finds a difference of {number(power.detectable)} with a probability of 80 %.",
        f"Raters needed, with as many prompts: {', '.join(enough)}." if enough else "",
        f"For {', '.join(never)} more prompts are needed; more raters do not suffice." if never else "",
    ]
    return " ".join(filter(None, parts))


def number(value: float | None, digits: int = 2) -> str:
    """Format a number, or a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def environment() -> Any:
    """Return the templates of all pages."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("guidelens_survey"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.globals["plural"] = plural
    return found
