"""Select the cells of a study for a question, by the pattern of their schedules and by columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NONE = "none"
DEFAULTS = {"dose": "plain"}
"""Values of cells whose study does not set the option."""

_TOLERANCE = 1e-6

Weights = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Condition:
    """One side of a comparison.

    :param pattern: the pattern of the schedule (:func:`pattern_of`): ``itc``, ``shift:cap,itc``, ``blend:cap,itc``,
        ...
    :param perturbed: False for clean prompts, True for perturbed ones.
    :param columns: values that the cell must have, by column; options count as columns.
    """

    pattern: str
    perturbed: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)

    def holds(self, cell: Mapping[str, Any], patterns: Mapping[str, str]) -> bool:
        """Return whether a cell is on this side. ``patterns``: the pattern of each schedule by name."""
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
    """Return the pattern as one word: ITC, SHIFT, BLEND."""
    return pattern.partition(":")[0].upper()


def pattern_of(weights: Weights) -> str:
    """Return the pattern of a schedule from its weights at every step.

    ``NAME``: a single active objective. ``shift:A,B``: the weight moves from A to B. ``blend:A,B`` (in sorted order):
    several objectives with constant weights. Empty: anything else. The pattern does not depend on the plugin or name
    of the schedule.
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
    """Return the pattern of every schedule of a study by name, at its largest number of steps. A single step shows no
    change."""
    schedules = sorted(config["schedules"], key=lambda schedule: schedule.get("steps", 0))
    return {schedule["name"]: pattern_of(schedule["weights"]) for schedule in schedules}
