"""Figures of pictures: prompts in rows and schedules in columns, or other conditions that a study varies."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guidelens.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from guidelens.studies.results import CellRecord, StudyResults

_LINE = 0.11  # inches: the height of a line of a label
_LABEL_SHARE = 0.2
_GAP = 0.03
_HEADER = 0.2  # inches


@dataclass(frozen=True)
class Shown:
    """The pictures to show.

    :param prompts: texts; empty: the first ``rows``.
    :param schedules: names, in this order; empty: all.
    :param seed: None: the smallest.
    """

    prompts: Sequence[str]
    schedules: Sequence[str]
    rows: int
    seed: int | None


def draw_paper(
    figure_class: type[Figure],
    study: StudyResults,
    cells: Sequence[CellRecord],
    width: float,
    shown: Shown,
) -> Figure:
    """Arrange pictures as the paper does, depending on what the study varies.

    If it varies the number of steps: schedules in rows, steps in columns (Figures 2 and 6). If it varies perturbations:
    schedules in rows, clean and perturbed prompts in columns (Figure 5). Otherwise: prompts in rows, schedules in
    columns (Figures 1, 3 and 7).
    """
    varied = _varied(cells)
    if varied == "schedule":
        return draw_grid(figure_class, study, cells, width, shown)
    cells = _of_the_grid_with_most(cells, varied)
    chosen = _chosen(cells, shown.prompts, 1, "clean")
    cells = _of_one_seed([cell for cell in cells if cell["clean"] == chosen[0]], shown.seed)
    down = _named(cells, "schedule", shown.schedules)
    across = sorted({cell[varied] for cell in cells}, key=lambda value: (value != "none", value))
    found = {(cell["schedule"], cell[varied]): cell for cell in reversed(cells)}
    titles = [_title(varied, value, cells) for value in across]
    return _table(
        figure_class,
        study,
        width,
        down,
        titles,
        lambda i, j: found.get((down[i], across[j])),
        chosen[0] if varied == "steps" else "",
    )


def draw_grid(
    figure_class: type[Figure],
    study: StudyResults,
    cells: Sequence[CellRecord],
    width: float,
    shown: Shown,
) -> Figure:
    """Arrange prompts in rows and schedules in columns, all with one seed."""
    clean = [cell for cell in cells if cell["perturbation"] == "none"] or list(cells)
    most = max(cell["steps"] for cell in clean)
    cells = _of_one_seed([cell for cell in clean if cell["steps"] == most], shown.seed)
    cells = _of_the_grid_with_most(cells, "schedule")
    down = _chosen(cells, shown.prompts, shown.rows, "prompt")
    across = _named(cells, "schedule", shown.schedules)
    found = {(cell["prompt"], cell["schedule"]): cell for cell in reversed(cells)}
    return _table(figure_class, study, width, down, across, lambda i, j: found.get((down[i], across[j])))


def _varied(cells: Sequence[CellRecord]) -> str:
    for name in ("steps", "perturbation"):
        grids = dict.fromkeys(cell["grid"] for cell in cells)
        if any(len({cell[name] for cell in cells if cell["grid"] == grid}) > 1 for grid in grids):
            return name
    return "schedule"


def _of_the_grid_with_most(cells: Sequence[CellRecord], name: str) -> list[CellRecord]:
    """Return the cells of the grid in which ``name`` has the most values; the first grid if several are equal."""
    grids = list(dict.fromkeys(cell["grid"] for cell in cells))
    chosen = max(grids, key=lambda grid: len({cell[name] for cell in cells if cell["grid"] == grid}))
    return [cell for cell in cells if cell["grid"] == chosen]


def _of_one_seed(cells: Sequence[CellRecord], seed: int | None) -> list[CellRecord]:
    seeds = sorted({cell["seed"] for cell in cells})
    if seed is not None and seed not in seeds:
        raise UsageError(
            f"no picture has the seed {seed}; choose {', '.join(map(str, seeds))}", setting="seed"
        )
    wanted = seeds[0] if seed is None else seed
    return [cell for cell in cells if cell["seed"] == wanted]


def _chosen(cells: Sequence[CellRecord], wanted: Sequence[str], count: int, name: str) -> list[str]:
    there = list(dict.fromkeys(cell[name] for cell in cells))
    for text in wanted:
        if text not in there:
            raise UsageError(f"no picture here has the prompt {text!r}", setting="prompt")
    return list(wanted) or there[:count]


def _named(cells: Sequence[CellRecord], name: str, wanted: Sequence[str]) -> list[str]:
    there = list(dict.fromkeys(str(cell[name]) for cell in cells))
    return [value for value in wanted if value in there] or there


def _title(varied: str, value: Any, cells: Sequence[CellRecord]) -> str:
    if varied == "steps":
        return f"{value} steps"
    return str(next(cell["prompt"] for cell in cells if cell["perturbation"] == value))


def _table(
    figure_class: type[Figure],
    study: StudyResults,
    width: float,
    down: Sequence[str],
    across: Sequence[str],
    cell_at: Callable[[int, int], CellRecord | None],
    title: str = "",
) -> Figure:
    """Draw pictures in rows and columns with their labels. The place of a missing picture stays empty."""
    label = min(width * _LABEL_SHARE, 0.1 + 0.062 * max(map(len, down)))
    side = (width - label) / len(across)
    letters = max(6, int(side / 0.062))
    headers = [textwrap.wrap(name, letters) or [""] for name in across]
    header = _HEADER + 0.13 * (max(map(len, headers)) - 1) + (0.2 if title else 0)
    height = header + side * len(down)
    figure = figure_class(figsize=(width, height))
    if title:
        figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontstyle="italic")
    for j, lines in enumerate(headers):
        x = (label + (j + 0.5) * side) / width
        figure.text(x, 1 - (header - 0.04) / height, "\n".join(lines), ha="center", va="bottom", fontsize=7)
    for i, name in enumerate(down):
        y = 1 - (header + (i + 0.5) * side) / height
        lines = textwrap.wrap(
            name, max(8, int(label / 0.058)), max_lines=max(1, int(side / _LINE)), placeholder=" …"
        )
        figure.text(0, y, "\n".join(lines), ha="left", va="center", fontsize=6.5)
        for j in range(len(across)):
            cell = cell_at(i, j)
            left, bottom = (label + j * side) / width, 1 - (header + (i + 1) * side) / height
            gap = _GAP * side
            place = (
                left + gap / width,
                bottom + gap / height,
                (side - 2 * gap) / width,
                (side - 2 * gap) / height,
            )
            axes = figure.add_axes(place)
            axes.set_axis_off()
            if cell is not None:
                axes.imshow(study.image(cell["key"]), interpolation="nearest")
    return figure
