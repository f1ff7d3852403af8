"""The charts of a study's page: scores by schedule, over steps, over edits; gradient cosines over progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from guidelens.colours import NEUTRAL, colour_number
from guidelens.report.curves import Curve, band_chart, interval_chart
from guidelens.stats import Estimate, estimate

if TYPE_CHECKING:
    from guidelens.runs.telemetry import Telemetry
    from guidelens.studies.results import CellRecord, StudyResults

MAIN_ROLES = ("alignment", "realism")
"""Roles of the columns that are drawn over steps and edits."""

PROGRESS_POINTS = 21


@dataclass(frozen=True)
class Panel:
    """A chart with its heading, its schedules, and its numbers by schedule and place."""

    grid: str
    title: str
    svg: Markup
    schedules: list[tuple[str, int]]
    places: list[str]
    rows: list[list[Estimate | None]]


def panels(
    study: StudyResults, telemetry: Mapping[str, Telemetry], palette: Mapping[str, int]
) -> list[Panel]:
    """Return the charts of every grid: over steps or edits if the grid varies them, else by column."""
    main = _main_columns(study)
    found: list[Panel] = []
    for grid in dict.fromkeys(cell["grid"] for cell in study.cells):
        cells = [c for c in study.cells if c["grid"] == grid and c["status"] == "done"]
        if len({c["steps"] for c in cells}) > 1:
            found += _over_steps(grid, cells, main, palette)
        elif len({c["edits"] for c in cells}) > 1:
            found += _over(grid, cells, main, palette, lambda c: int(c["edits"]), "edits of the prompt", "")
        elif cells:
            found += _differences(grid, cells, palette)
            found += _by_column(grid, cells, palette)
        found += _cosines(grid, cells, telemetry, palette)
    return found


def _over_steps(
    grid: str, cells: Sequence[CellRecord], main: Sequence[str], palette: Mapping[str, int]
) -> list[Panel]:
    doses = dict.fromkeys(c["options"].get("dose", "plain") for c in cells)
    return [
        panel
        for dose in doses
        for panel in _over(
            grid,
            [c for c in cells if c["options"].get("dose", "plain") == dose],
            main,
            palette,
            lambda c: int(c["steps"]),
            "steps",
            {"plain": ", constant scale", "matched": ", equal dose"}[dose],
        )
    ]


def _over(
    grid: str,
    cells: Sequence[CellRecord],
    main: Sequence[str],
    palette: Mapping[str, int],
    place: Callable[[CellRecord], int],
    axis: str,
    note: str,
) -> list[Panel]:
    places = sorted({place(c) for c in cells})
    schedules = list(dict.fromkeys(c["schedule"] for c in cells))
    result = []
    there = dict.fromkeys(name for c in cells for name in c["metrics"])
    for column in [name for name in main if name in there] or list(there)[:2]:
        curves = [
            Curve(
                name,
                palette[name],
                [
                    _mean([c for c in cells if c["schedule"] == name and place(c) == x], column)
                    for x in places
                ],
            )
            for name in schedules
        ]
        title = f"{column} over {axis}{note}"
        result.append(_panel(grid, title, curves, [str(x) for x in places], axis))
    return result


def _differences(grid: str, cells: Sequence[CellRecord], palette: Mapping[str, int]) -> list[Panel]:
    """Draw the paired difference of every schedule to a base schedule, by column. The base is the unguided schedule
    if there is one, else the first. A pair has the same prompt, seed and settings.
    """
    names = list(dict.fromkeys(c["schedule"] for c in cells))
    base = next((name for name in names if colour_number(name) == NEUTRAL), names[0])
    by_side: dict[str, dict[tuple[str, ...], CellRecord]] = {name: {} for name in names}
    for c in cells:
        by_side[c["schedule"]][c["pair"], c["settings"], c["prompt"]] = c
    columns = list(dict.fromkeys(name for c in cells for name in c["metrics"]))
    others = [name for name in names if name != base]
    found = {name: [_difference(by_side[name], by_side[base], c) for c in columns] for name in others}
    ends = [abs(v) for row in found.values() for e in row if e is not None for v in (e.mean, e.low, e.high)]
    edge = max((v for v in ends if math.isfinite(v)), default=0.0) or 1.0
    result = []
    for start in range(0, len(columns) if others else 0, 4):
        part = slice(start, start + 4)
        curves = [Curve(name, palette[name], row[part]) for name, row in found.items()]
        spelled = [column.replace("_", " ") for column in columns[part]]
        title = f"difference to {base}: {', '.join(spelled)}"
        result.append(_panel(grid, title, curves, spelled, "", (-edge, edge)))
    return result


def _difference(
    cells: Mapping[tuple[str, ...], CellRecord], base: Mapping[tuple[str, ...], CellRecord], column: str
) -> Estimate | None:
    """Estimate the mean of cell - base over all pairs with the column; None without such pairs."""
    both = [
        (cells[key], base[key])
        for key in cells
        if key in base and column in cells[key]["metrics"] and column in base[key]["metrics"]
    ]
    if not both:
        return None
    values = [one["metrics"][column] - other["metrics"][column] for one, other in both]
    return estimate(values, [one["clean"] for one, _ in both], resamples=1999)


def _by_column(grid: str, cells: Sequence[CellRecord], palette: Mapping[str, int]) -> list[Panel]:
    columns = list(dict.fromkeys(name for c in cells for name in c["metrics"]))
    schedules = list(dict.fromkeys(c["schedule"] for c in cells))
    result = []
    for start in range(0, len(columns), 4):
        part = columns[start : start + 4]
        curves = [
            Curve(
                name,
                palette[name],
                [_mean([c for c in cells if c["schedule"] == name], column) for column in part],
            )
            for name in schedules
        ]
        title = ", ".join(column.replace("_", " ") for column in part)
        result.append(_panel(grid, title, curves, [column.replace("_", " ") for column in part], ""))
    return result


def _panel(
    grid: str,
    title: str,
    curves: Sequence[Curve],
    places: list[str],
    axis: str,
    bounds: tuple[float, float] | None = None,
) -> Panel:
    svg = interval_chart(curves, places, title, axis, bounds)
    rows = [list(curve.points) for curve in curves]
    return Panel(grid, title, svg, [(c.name, c.colour) for c in curves], places, rows)


def _cosines(
    grid: str, cells: Sequence[CellRecord], telemetry: Mapping[str, Telemetry], palette: Mapping[str, int]
) -> list[Panel]:
    pairs = dict.fromkeys(pair for c in cells for pair in c["cosines"] or {})
    result = []
    for pair in pairs:
        curves = []
        for name in dict.fromkeys(c["schedule"] for c in cells if pair in (c["cosines"] or {})):
            mine = [c for c in cells if c["schedule"] == name and c["key"] in telemetry]
            points = [cosine_at(mine, telemetry, pair, i) for i in range(PROGRESS_POINTS)]
            curves.append(Curve(name, palette[name], points))
        title = f"cosine of the gradients of {' and '.join(pair.split('|'))} over progress"
        svg = band_chart(curves, title, "progress", (-1.0, 1.0))
        told = {"first step": 0, "halfway": (PROGRESS_POINTS - 1) // 2, "last step": PROGRESS_POINTS - 1}
        rows = [[curve.points[i] for i in told.values()] for curve in curves]
        result.append(Panel(grid, title, svg, [(c.name, c.colour) for c in curves], list(told), rows))
    return result


def cosine_at(
    cells: Sequence[CellRecord], telemetry: Mapping[str, Telemetry], pair: str, place: int
) -> Estimate:
    """Estimate the cosine of a pair of objectives at one of :data:`PROGRESS_POINTS` places from first to last step."""
    values, prompts = [], []
    for cell in cells:
        series = telemetry[cell["key"]].cosines.get(pair)
        if series is None:
            continue
        value = float(series[round(place * (len(series) - 1) / (PROGRESS_POINTS - 1))])
        if math.isfinite(value):
            values.append(value)
            prompts.append(cell["clean"])
    return estimate(values, prompts, resamples=999)


def _main_columns(study: StudyResults) -> list[str]:
    """Return the columns that have one of :data:`MAIN_ROLES`, in the order of the roles."""
    declared = [column for metric in study.config["metrics"] for column in metric["columns"]]
    return [column["name"] for role in MAIN_ROLES for column in declared if column.get("role") == role]


def _mean(cells: Sequence[CellRecord], column: str) -> Estimate | None:
    having = [c for c in cells if column in c["metrics"]]
    if not having:
        return None
    return estimate([c["metrics"][column] for c in having], [c["clean"] for c in having], resamples=1999)
