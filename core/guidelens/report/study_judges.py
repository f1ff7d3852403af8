"""The matrix of guides and judges for a study's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from guidelens.errors import UsageError
from guidelens.metrics.judge import AT
from guidelens.metrics.matrix import Entry, Matrix, Own, judge_matrix
from guidelens.stats import Estimate

if TYPE_CHECKING:
    from guidelens.studies.results import StudyResults

HEAT = 32
"""Share of the colour, in percent, for the largest score. Text on it is still readable."""

FEWEST = 6
"""Smallest number of prompts for conclusions from an interval. With fewer, no test of a claim can be significant."""

WORDS: dict[Own, str] = {
    "objective": "Judged by the objective that guided, pictures score",
    "model": "Judged by the other objectives of the model that guided, they score",
}


@dataclass(frozen=True)
class Name:
    """``objective@model``, or a column of a metric that asks no model."""

    objective: str
    model: str


@dataclass(frozen=True)
class Field:
    """A score, whether it is above or below the guides' mean, and its share of colour."""

    score: Estimate
    own: Own
    sign: str
    share: int


@dataclass(frozen=True)
class MatrixView:
    """A matrix of the page. ``grid`` is empty for the whole study."""

    grid: str
    judges: list[Name]
    rows: list[tuple[Name, list[Field]]]
    inflation: list[tuple[str, Estimate]]
    each: list[tuple[str, Estimate]]
    pairs: int
    prompts: int
    left_out: list[str]


def matrix_views(study: StudyResults) -> list[MatrixView]:
    """Return the matrix of the whole study, or the matrices of its grids if these have no common guides. Empty with
    fewer than two guides or judges, or without pictures that all guides have.
    """
    grids = list(dict.fromkeys(cell["grid"] for cell in study.cells))
    whole = _matrix(study, None)
    if whole is not None:
        return [_view("", whole)]
    found = [(grid, _matrix(study, grid)) for grid in grids] if len(grids) > 1 else []
    return [_view(grid, matrix) for grid, matrix in found if matrix is not None]


def breakable(text: str) -> Markup:
    """Allow line breaks after the signs in a model's spelling and in a column's name."""
    broken = str(escape(text))
    for sign in (":", ",", "=", "_"):
        broken = broken.replace(sign, f"{sign}<wbr>")
    return Markup(broken)


def inflated(found: Estimate) -> str:
    """Return the meaning of an inflation and its interval, as the end of a sentence."""
    if not found.has_interval or found.clusters < FEWEST:
        return f" (fewer than {FEWEST} prompts: too few to conclude)" if found.clusters < FEWEST else ""
    if found.low > 0:
        return ": the judge thinks more of what it guided than others do"
    if found.high < 0:
        return ": the judge thinks less of what it guided than others do"
    return ": undecided, 0 lies within the interval"


def _matrix(study: StudyResults, grid: str | None) -> Matrix | None:
    try:
        matrix = judge_matrix(study, grid=grid)
    except UsageError:
        return None
    return matrix if len(matrix.judges) > 1 else None


def _view(grid: str, matrix: Matrix) -> MatrixView:
    top = max(abs(entry.score.mean) for entry in matrix.entries.values()) or 1.0
    rows = [
        (_name(guide.name), [_field(matrix.entries[guide.name, judge], top) for judge in matrix.judges])
        for guide in matrix.guides
    ]
    return MatrixView(
        grid=grid,
        judges=[_name(judge) for judge in matrix.judges],
        rows=rows,
        inflation=[(WORDS[own], matrix.inflation[own]) for own in WORDS if own in matrix.inflation],
        each=list(_each(matrix)),
        pairs=matrix.pairs,
        prompts=matrix.prompts,
        left_out=matrix.left_out,
    )


def _each(matrix: Matrix) -> Sequence[tuple[str, Estimate]]:
    return [
        (f"{guide} by {judge}", entry.inflation)
        for (guide, judge), entry in matrix.entries.items()
        if entry.own == "objective" and entry.inflation is not None
    ]


def _field(entry: Entry, top: float) -> Field:
    mean = entry.score.mean
    return Field(entry.score, entry.own, "up" if mean >= 0 else "down", round(HEAT * abs(mean) / top))


def _name(spelled: str) -> Name:
    objective, _, model = spelled.partition(AT)
    return Name(objective, model)
