"""The pictures of a comparison's page: a row per prompt, a column per schedule, up to four seeds in each field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from guidelens.colours import NEUTRAL
from guidelens.report.charts import Line, line_chart
from guidelens.report.study_cells import cell_command, question_groups, redraw_command, request_words
from guidelens.svg import short

FIRST_SEEDS = 4
"""Number of pictures shown in a field, two by two. Those of further seeds are folded."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """A drawn chart and its heading."""

    title: str
    svg: Markup
    colour: int = NEUTRAL


@dataclass(frozen=True)
class CellView:
    """A picture of the page."""

    row: Row
    source: str
    scores: list[tuple[str, str]]
    charts: list[tuple[str, list[Chart]]]
    """Groups of charts for the details: losses, gradient norms, cosines."""
    redraw: str
    """The command that draws it again bit for bit; empty if a model was given as an object."""
    command: str
    """The command that draws it alone; empty if a model was given as an object."""
    questions: list[dict[str, Any]]
    """Groups of questions behind the scores."""


@dataclass(frozen=True)
class ColumnView:
    """The pictures of a schedule for a prompt."""

    schedule: str
    number: int
    mean: str
    cells: list[CellView]


@dataclass(frozen=True)
class FieldRow:
    """The pictures of one prompt in one run of the page, a column per schedule, and its losses."""

    label: str
    columns: list[ColumnView]
    charts: list[Chart]


@dataclass(frozen=True)
class PromptView:
    """The pictures of a prompt: one row, or one per value of a sweep."""

    number: int
    text: str
    category: str
    reference: str | None
    rows: list[FieldRow]
    hints: list[str] = field(default_factory=list)


def score_text(value: float) -> str:
    """Return a score with two decimals, or a dash if there is none."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def again(config: Mapping[str, Any], row: Row, directory: str = ".") -> tuple[str, str]:
    """Return the commands that draw a picture again and alone; empty if a model was given as an object.

    :param directory: directory of the picture's run, relative to the folder of the page.
    """
    if config["plugins"] is None:
        return "", ""
    words = request_words(config["plugins"])
    return redraw_command(row["key"], directory), cell_command(config["settings"], row, words)


def field_row(
    label: str,
    prompt: Mapping[str, Any],
    rows: Sequence[Row],
    config: Mapping[str, Any],
    colours: Mapping[str, int],
    sources: Callable[[Row], str],
    directory: str = ".",
) -> FieldRow:
    """Return a prompt's pictures in one run.

    :param label: its value in a sweep; empty: the page has one run.
    :param sources: returns the address of a row's picture.
    :param directory: directory of the run, relative to the folder of the page.
    """
    mine = [row for row in rows if (row["prompt"], row["reference"]) == (prompt["text"], prompt["reference"])]
    columns = []
    for i, schedule in enumerate(s["name"] for s in config["schedules"]):
        cells = [row for row in mine if row["schedule"] == schedule]
        if not cells:
            continue
        views = [
            CellView(
                r,
                sources(r),
                _scores(r),
                _cell_charts(r, colours),
                *again(config, r, directory),
                question_groups(r.get("questions", {})),
            )
            for r in cells
        ]
        columns.append(ColumnView(schedule, i, _first_mean(cells), views))
    return FieldRow(label, columns, _loss_charts(mine, colours))


def prompt_hints(prompt: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return the perturbation of a prompt and the notes of the text encoder about it."""
    text, reference = prompt["text"], prompt["reference"]
    forms = [f for f in config["perturbed"] if (f["text"], f["reference"]) == (text, reference)]
    notes = [note["note"] for note in config["notes"] if note["prompt"] == text]
    return [*(f"{form['perturbation']}, edit distance {form['edits']}" for form in forms), *notes]


def _first_mean(rows: Sequence[Row]) -> str:
    column = next((name for row in rows for name in row["metrics"]), None)
    if column is None:
        return ""
    values = [row["metrics"][column] for row in rows if column in row["metrics"]]
    return f"{column} {score_text(math.fsum(values) / len(values))}"


def _scores(row: Row) -> list[tuple[str, str]]:
    return [(name, score_text(value)) for name, value in row["metrics"].items()]


def _loss_charts(rows: Sequence[Row], colours: Mapping[str, int]) -> list[Chart]:
    """Draw the loss of each objective, with a line per schedule (mean over seeds) in the colour of the schedule."""
    charts = []
    for name in dict.fromkeys(name for row in rows for name in row["losses"]):
        schedules = dict.fromkeys(row["schedule"] for row in rows if name in row["losses"])
        lines = [
            Line(
                _mean_series([r["losses"][name] for r in rows if r["schedule"] == s and name in r["losses"]]),
                colours[s],
            )
            for s in schedules
        ]
        said = "; ".join(f"{s}{_ends([line])}" for s, line in zip(schedules, lines, strict=True))
        charts.append(
            Chart(f"{name} loss", line_chart(lines, f"{name} loss over steps: {said}"), colours[name])
        )
    return charts


def _mean_series(series: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the mean of several series at each step, None if none has a value."""
    means: list[float | None] = []
    for values in zip(*series, strict=True):
        present = [v for v in values if v is not None]
        means.append(math.fsum(present) / len(present) if present else None)
    return means


def _cell_charts(row: Row, colours: Mapping[str, int]) -> list[tuple[str, list[Chart]]]:
    groups = []
    for title, noun in (("losses", "loss"), ("gradient_norms", "gradient norm")):
        charts = [
            Chart(
                f"{name} {noun}",
                line_chart([line], f"{name} {noun} over steps{_ends([line])}"),
                colours[name],
            )
            for name in sorted(row[title])
            for line in [Line(row[title][name], colours[name])]
        ]
        groups.append((title.replace("_", " "), charts))
    cosines = [
        Chart(
            f"{title} cosine",
            line_chart([line], f"cosine of {title} over steps{_ends([line])}", (-1.0, 1.0)),
        )
        for title, values in ((pair.replace("|", ", "), values) for pair, values in row["cosines"].items())
        for line in [Line(values, NEUTRAL)]
    ]
    return [(title, charts) for title, charts in (*groups, ("gradient cosines", cosines)) if charts]


def _ends(lines: Sequence[Line]) -> str:
    """Return a text with the first and last values of the lines; empty if one is missing."""
    ends = [[v for v in line.values if v is not None] for line in lines]
    if not all(ends):
        return ""
    firsts, lasts = [values[0] for values in ends], [values[-1] for values in ends]
    return f": from {short(math.fsum(firsts) / len(firsts))} to {short(math.fsum(lasts) / len(lasts))}"


def weight_charts(config: Mapping[str, Any], colours: Mapping[str, int]) -> dict[str, Markup]:
    """Draw the weights of each schedule over steps, with a line per objective whose weight is not always 0."""
    charts = {}
    for schedule in config["schedules"]:
        weights = schedule["weights"]
        lines = [Line(weights[name], colours[name]) for name in sorted(weights)]
        values = [w for line in lines for w in line.values if w is not None]
        label = f"weights of {', '.join(weights) or 'no objective'} over steps in {schedule['name']}"
        charts[schedule["name"]] = line_chart(lines, label, (min([0.0, *values]), max([1.0, *values])))
    return charts
