"""The layouts of figures: pictures arranged as in the paper, a plain grid, a forest plot of questions, curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from guidelens.claims.evaluate import Verdict
from guidelens.errors import UsageError

from .curves import draw_curves
from .forest import draw_forest
from .pictures import Shown, draw_grid, draw_paper
from .style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from guidelens.studies.results import StudyResults


def draw(
    layout: str,
    study: StudyResults,
    verdicts: Callable[[], Sequence[Verdict]],
    *,
    width: float,
    prompts: Sequence[str] = (),
    schedules: Sequence[str] = (),
    grid: str = "",
    rows: int = 4,
    seed: int | None = None,
) -> Figure:
    """Draw a figure.

    :param layout: ``paper``, ``grid``, ``forest`` or ``curves``.
    :param verdicts: returns the study's verdicts. It is called only for ``forest``.
    :param width: the width in inches.
    :param prompts: the texts of the prompts to show; empty: the first ``rows``.
    :param schedules: the schedules to show, in this order; empty: all.
    :param grid: the grid of a study to show; empty: all.
    :param seed: the seed of the pictures; None: the smallest.
    :raises UsageError: if the study has nothing to show in this layout.
    :raises GuidelensError: if matplotlib is missing, or a picture cannot be read.
    """
    with styled() as figure_class:
        if layout == "forest":
            return draw_forest(figure_class, verdicts(), width)
        cells = [cell for cell in study.cells if cell["status"] == "done"]
        grids = list(dict.fromkeys(cell["grid"] for cell in cells))
        if grid and grid not in grids:
            raise UsageError(
                f"no finished picture is of the grid {grid!r}; choose {', '.join(grids)}", setting="grid"
            )
        cells = [cell for cell in cells if not grid or cell["grid"] == grid]
        cells = [cell for cell in cells if not schedules or cell["schedule"] in schedules]
        if not cells:
            raise UsageError(f"{study.directory} has no finished picture to show")
        if layout == "curves":
            return draw_curves(figure_class, study, cells, width)
        ways = {"paper": draw_paper, "grid": draw_grid}
        return ways[layout](figure_class, study, cells, width, Shown(prompts, schedules, rows, seed))
