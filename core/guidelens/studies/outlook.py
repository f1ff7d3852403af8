"""What a study would take, by its file alone: for a dry run where models or prompts are not on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from guidelens.sampling import NONE, Sampling, split_steps

from .file import Grid, Study


@dataclass(frozen=True)
class Outlook:
    """The size of a study before anything is loaded.

    :param grids: the largest possible number of cells, by grid; None where a prompt set or the schedules are not
        limited by the file. Exclusions and cells that grids share are not subtracted.
    :param steps: the largest possible number of sampling steps of a picture, of the grids that could be counted.
    :param seconds: of all these steps by the study's ``step_seconds``; None if the file does not give it.
    """

    grids: Mapping[str, int | None]
    steps: int
    seconds: float | None


def outlook(study: Study) -> Outlook:
    """Count the cells of a study from its file."""
    grids: dict[str, int | None] = {}
    steps = 0
    for grid in study.grids:
        each = _cells_of_condition(grid)
        per_cell = [_steps(study, preset, values) for preset, values in _conditions(grid)]
        grids[grid.name] = None if each is None else each * len(per_cell)
        steps += (each or 0) * sum(per_cell)
    seconds = None if study.step_seconds is None else steps * study.step_seconds
    return Outlook(grids, steps, seconds)


def _cells_of_condition(grid: Grid) -> int | None:
    """Return how many cells each combination of sampling options has; None if the file does not limit them."""
    counts = [1 if source.text else source.limit for source in grid.prompts]
    if not counts or None in counts or not grid.schedules:
        return None
    prompts = sum(count or 0 for count in counts) * len(dict.fromkeys((NONE, *grid.perturbations)))
    return prompts * len(grid.schedules) * len(grid.seeds) * len(grid.generator) * len(grid.guidance)


def _conditions(grid: Grid) -> list[tuple[str, dict[str, object]]]:
    combined = product(grid.presets, *grid.sampling.values())
    return [(preset, dict(zip(grid.sampling, values, strict=True))) for preset, *values in combined]


def _steps(study: Study, preset: str, values: Mapping[str, object]) -> int:
    given = {**values, "dtype": study.dtype}
    sampling = Sampling.of(given) if preset == NONE else Sampling.preset(preset, **given)
    return int(split_steps(sampling.steps)[0])
