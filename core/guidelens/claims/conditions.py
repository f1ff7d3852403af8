"""Which cells of a study a question means: by what their schedules do, and by their columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NONE = "none"
DEFAULTS = {"dose": "plain"}
"""What a cell has whose study does not state the option."""

_TOLERANCE = 1e-6

Weights = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Condition:
    """One side of a comparison.

    :param pattern: what the schedule does (:func:`pattern_of`): ``itc``, ``shift:cap,itc``, ``blend:cap,itc``, ...
    :param perturbed: False for clean prompts, True for perturbed ones.
    :param columns: values that the cell must have, by column; options count as columns.
    """

    pattern: str
    perturbed: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)

    def holds(self, cell: Mapping[str, Any], patterns: Mapping[str, str]) -> bool:
        """Say whether a cell is on this side. ``patterns`` is what each schedule does, by name."""
        if patterns.get(cell["schedule"]) != self.pattern:
            return False
        if (cell["perturbation"] != NONE) != self.perturbed:
            return False
        values = {**DEFAULTS, **cell["options"], **cell}
        return all(values.get(name) == value for name, value in self.columns.items())

    def __str__(self) -> str:
        rest = [f"{name} {value}" for name, value in self.columns.items()]
        return ", ".join(
            [pattern_label(self.pattern), *(["perturbed prompts"] if self.perturbed else []), *rest]
        )


def pattern_label(pattern: str) -> str:
    """Write what a schedule does in one word: ITC, SHIFT, BLEND."""
    return pattern.partition(":")[0].upper()


def pattern_of(weights: Weights) -> str:
    """Return what a schedule does, from its weights at every step.

    ``NAME`` where one objective alone is active; ``shift:A,B`` where A gives way to B; ``blend:A,B`` (in sorted
    order) where several are active at constant weights; empty for anything else. A schedule is known by
    what it does, whichever plugin it comes from.
    """
    active = {
        name: [0.0 if w is None else w for w in values] for name, values in weights.items() if any(values)
    }
    if len(active) == 1:
        return next(iter(active))
    if not active:
        return ""
    if all(math.isclose(max(v), min(v), abs_tol=_TOLERANCE) for v in active.values()):
        return f"blend:{','.join(sorted(active))}"
    if len(active) == 2:
        first, second = sorted(active, key=lambda name: active[name][0], reverse=True)
        if _falls(active[first]) and _falls(active[second][::-1]):
            return f"shift:{first},{second}"
    return ""


def _falls(values: Sequence[float]) -> bool:
    return all(a >= b - _TOLERANCE for a, b in pairwise(values)) and values[0] > values[-1]


def schedule_patterns(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what every schedule of a study does, by name: over the most steps, since one step shows no change."""
    schedules = sorted(config["schedules"], key=lambda schedule: schedule.get("steps", 0))
    return {schedule["name"]: pattern_of(schedule["weights"]) for schedule in schedules}
