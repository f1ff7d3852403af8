"""Curves of a study: scores by number of steps or by schedule, and gradient cosines over progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from guidelens.colours import COLOURS, palette
from guidelens.errors import GuidelensError, UsageError
from guidelens.stats import Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from guidelens.studies.results import CellRecord, StudyResults

_ROLES = ("alignment", "realism")
_MOST_COSINES = 200
"""The largest number of pictures whose telemetry is read."""


def draw_curves(
    figure_class: type[Figure], study: StudyResults, cells: Sequence[CellRecord], width: float
) -> Figure:
    """Draw a panel for each main column (alignment and realism), and one for each pair of objectives with a cosine.

    :raises UsageError: if the study has neither scores nor cosines.
    """
    clean = [cell for cell in cells if cell["perturbation"] == "none"]
    columns = _columns(study, clean)
    pairs = list(dict.fromkeys(pair for cell in clean for pair in cell["cosines"] or {}))
    count = len(columns) + len(pairs)
    if not count:
        raise UsageError(f"{study.directory} has no scores and no gradients of two objectives to draw")
    across = min(count, 3 if width > 4 else 1)
    down = -(-count // across)
    figure = figure_class(figsize=(width, down * (0.75 * width / across)), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    colours = palette(dict.fromkeys(cell["schedule"] for cell in cells))
    for axes, column in zip(panels, columns, strict=False):
        _scores(axes, clean, column, colours)
    for axes, pair in zip(panels[len(columns) :], pairs, strict=False):
        _cosines(axes, study, clean, pair, colours)
    for axes in panels[count:]:
        axes.set_axis_off()
    shown = [axes.get_legend_handles_labels() for axes in panels]
    marks = {
        label: handle for handles, labels in shown for handle, label in zip(handles, labels, strict=True)
    }
    figure.legend(
        marks.values(), marks.keys(), loc="outside lower center", ncols=min(5, len(marks)), frameon=False
    )
    return figure


def _columns(study: StudyResults, cells: Sequence[CellRecord]) -> list[str]:
    declared = [column for metric in study.config["metrics"] for column in metric["columns"]]
    main = [column["name"] for role in _ROLES for column in declared if column.get("role") == role]
    there = {name for cell in cells for name in cell["metrics"]}
    return [name for name in main if name in there] or sorted(there)[:2]


def _scores(axes: Any, cells: Sequence[CellRecord], column: str, colours: dict[str, int]) -> None:
    """Draw a column over the number of steps, if a grid varies it, otherwise by schedule."""
    grids = dict.fromkeys(cell["grid"] for cell in cells)
    over = next((g for g in grids if len({c["steps"] for c in cells if c["grid"] == g}) > 1), None)
    axes.set_title(column.replace("_", " "))
    if over is None:
        for place, name in enumerate(colours):
            found = _mean([cell for cell in cells if cell["schedule"] == name], column)
            _points(axes, [place], [found], name, colours)
        axes.set_xticks(range(len(colours)), list(colours), rotation=30, ha="right")
        return
    mine = [cell for cell in cells if cell["grid"] == over]
    steps = sorted({cell["steps"] for cell in mine})
    for name in colours:
        own = [cell for cell in mine if cell["schedule"] == name]
        if own:
            means = [_mean([cell for cell in own if cell["steps"] == n], column) for n in steps]
            _points(axes, steps, means, name, colours)
    axes.set_xlabel("steps")
    axes.set_xticks(steps)


def _points(
    axes: Any, places: Sequence[float], means: Sequence[Estimate], name: str, colours: dict[str, int]
) -> None:
    shown = [(x, m) for x, m in zip(places, means, strict=True) if m.n]
    if not shown:
        return
    xs, found = [x for x, _ in shown], [m for _, m in shown]
    low = [m.mean - m.low if m.has_interval else 0.0 for m in found]
    high = [m.high - m.mean if m.has_interval else 0.0 for m in found]
    colour = COLOURS[colours[name]].light
    axes.errorbar(
        xs,
        [m.mean for m in found],
        [low, high],
        color=colour,
        marker="o",
        markersize=3,
        elinewidth=0.7,
        label=name,
    )


def _mean(cells: Sequence[CellRecord], column: str) -> Estimate:
    having = [cell for cell in cells if column in cell["metrics"]]
    return estimate(
        [cell["metrics"][column] for cell in having], [cell["clean"] for cell in having], resamples=999
    )


def _cosines(
    axes: Any, study: StudyResults, cells: Sequence[CellRecord], pair: str, colours: dict[str, int]
) -> None:
    """Draw the mean cosine of a pair of objectives over progress, for each schedule that uses both."""
    import numpy as np

    for name in colours:
        mine = [cell for cell in cells if cell["schedule"] == name and pair in (cell["cosines"] or {})]
        series = []
        for cell in mine[:_MOST_COSINES]:
            try:
                values = study.telemetry(cell["key"]).cosines.get(pair)
            except GuidelensError:
                continue
            if values is not None and len(values) > 1:
                series.append(np.interp(np.linspace(0, 1, 21), np.linspace(0, 1, len(values)), values))
        if not series:
            continue
        stacked = np.stack(series)
        there = ~np.isnan(stacked)
        counts = there.sum(axis=0)
        means = np.where(counts > 0, np.where(there, stacked, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)
        axes.plot(np.linspace(0, 1, 21), means, color=COLOURS[colours[name]].light, label=name)
    axes.axhline(0, color="#9aa0a8", linewidth=0.6)
    axes.set_title(f"cosine of {' and '.join(pair.split('|'))}")
    axes.set_xlabel("progress")
