"""Schedules as tables: the weight of each objective at each step, computed once and passed on.

Importing this module does not load torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .contracts import Schedule
from .errors import UsageError
from .guarding import weights_at
from .sampling import progress_of

if TYPE_CHECKING:
    from torch import Tensor

    from .plugins import PluginManager

ScheduleSpec = str | Schedule | Sequence[str | Schedule] | Mapping[str, Schedule]
"""The forms in which schedules are given: one or several names or objects, or a mapping from names to objects."""


@dataclass(frozen=True, eq=False)
class ScheduleTable:
    """The weights w_k of a schedule at each of N steps, (N, K) float64. The table is itself a schedule.

    :param name: the name of the schedule.
    :param objectives: the K objectives that the schedule names, sorted. An objective may have weight 0 at all steps.
    """

    name: str
    objectives: tuple[str, ...]
    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return self.name

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weights of the step nearest to ``progress``."""
        row = self.values[round(progress * (len(self) - 1))].tolist()
        return dict(zip(self.objectives, row, strict=True))

    @cached_property
    def by_objective(self) -> dict[str, list[float]]:
        """The weights, as JSON values, of each objective that is used at some step."""
        columns = zip(self.objectives, self.values.T.tolist(), strict=True)
        return {name: weights for name, weights in columns if any(weights)}


def tabulate(schedule: Schedule, steps: int, name: str = "") -> ScheduleTable:
    """Return the table of ``schedule`` over ``steps`` steps. A table of that length is returned unchanged.

    :param name: the name of the schedule; empty: its ``repr``.
    :raises UsageError: for a weight that is not a finite number.
    :raises ComponentError: if the schedule raises, or does not return a mapping.
    """
    import torch

    name = name or repr(schedule)
    if isinstance(schedule, ScheduleTable) and len(schedule) == steps:
        return schedule
    rows = [_weights(schedule, progress_of(step, steps), name) for step in range(steps)]
    named = tuple(sorted({objective for row in rows for objective in row}))
    values = [[row.get(objective, 0.0) for objective in named] for row in rows]
    return ScheduleTable(name, named, torch.tensor(values, dtype=torch.float64).reshape(steps, len(named)))


def _weights(schedule: Schedule, progress: float, name: str) -> dict[str, float]:
    weights = {objective: float(weight) for objective, weight in weights_at(schedule, progress).items()}
    for objective, weight in weights.items():
        if not math.isfinite(weight):
            raise UsageError(
                f"schedule {name!r}: the weight of {objective!r} at progress {progress:g} must be a finite "
                f"number, got {weight}",
                setting="schedule",
            )
    return weights


@dataclass(frozen=True)
class NamedSchedule:
    """A schedule, and its name in rows, tables and pages."""

    name: str
    schedule: Schedule

    def table(self, steps: int) -> ScheduleTable:
        """Return the table of the schedule over ``steps`` steps; see :func:`tabulate`."""
        return tabulate(self.schedule, steps, self.name)

    def tabulated(self, steps: int) -> NamedSchedule:
        """Return the same schedule as a table, so that its weights are not computed again."""
        return NamedSchedule(self.name, self.table(steps))


def read_schedules(given: ScheduleSpec, plugins: Callable[[], PluginManager]) -> list[NamedSchedule]:
    """Return schedules, given in any form, with their names. A repeated name counts once.

    :param plugins: returns the plugins that offer schedules. It is called only if a schedule is given by name.
    :raises UsageError: for an unknown name, or an object that is not a schedule.
    """
    if isinstance(given, Mapping):
        return [NamedSchedule(name, _checked(schedule)) for name, schedule in given.items()]
    single = isinstance(given, str) or hasattr(given, "weights") or not isinstance(given, Sequence)
    items = [given] if single else list(given)  # type: ignore[arg-type]
    found: dict[object, NamedSchedule] = {}
    for item in items:
        if isinstance(item, str):
            component = plugins().resolve("schedule", item)
            if component.spec not in found:
                found[component.spec] = NamedSchedule(component.spec, component.build())
        else:
            found[id(item)] = NamedSchedule(object_name(item), _checked(item))
    return list(found.values())


def one_schedule(schedules: Sequence[NamedSchedule]) -> NamedSchedule:
    """Return the only schedule.

    :raises UsageError: if there are several.
    """
    if len(schedules) != 1:
        names = ", ".join(schedule.name for schedule in schedules)
        raise UsageError(f"one schedule is drawn at a time, got {names}", setting="schedule")
    return schedules[0]


def object_name(component: object) -> str:
    """Return an object's own name (``name``), or else its class."""
    name = getattr(component, "name", None)
    return name if isinstance(name, str) and name else type(component).__name__


def _checked(schedule: object) -> Schedule:
    if not isinstance(schedule, Schedule):
        raise UsageError(
            f"{schedule!r} is not a schedule: give a name, or an object with weights(progress)",
            setting="schedules",
        )
    return schedule
