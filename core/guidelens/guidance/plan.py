"""The plan of guidance: the weights of every sample at every step, computed and checked before sampling starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..contracts import GuidanceModel, Schedule, TextBatch
from ..errors import UsageError, concerning
from ..schedules import tabulate

RowGroup = tuple[tuple[str, ...], tuple[int, ...]]


def resolve_scales(model: GuidanceModel | None, given: Mapping[str, float]) -> dict[str, float]:
    """Return c_k for every objective of ``model``: the given scale, else the model's default, else 1.

    :raises UsageError: if ``given`` names an objective that the model does not have.
    """
    known = model.objectives if model is not None else frozenset()
    with concerning("objective_scales"):
        for name in given:
            check_objective(name, known, "the objective scales")
    defaults = getattr(model, "default_scales", {})
    return {
        name: check_finite(f"the scale of {name!r}", given.get(name, defaults.get(name, 1.0)))
        for name in known
    }


def check_objective(name: str, known: frozenset[str], where: str) -> None:
    """Check that ``name`` is an objective of the guidance model.

    :raises UsageError: if it is not. The message lists the objectives.
    """
    if name not in known:
        choices = f"it has {', '.join(sorted(known))}" if known else "there is none"
        raise UsageError(f"{where} names the objective {name!r}, unknown to the guidance model; {choices}")


def check_request(
    who: str, known: Collection[str], images: Tensor, text: TextBatch, objectives: Collection[str]
) -> None:
    """Check the arguments of :meth:`~guidelens.contracts.GuidanceModel.losses`. Its implementations may call this.

    :param who: the model's name in the message.
    :param known: the model's objectives.
    :raises UsageError: the model does not have a requested objective.
    :raises ValueError: images and prompts differ in number.
    """
    unknown = sorted(set(objectives) - set(known))
    if unknown:
        raise UsageError(f"{who} has no objective {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if images.shape[0] != len(text):
        raise ValueError(f"{images.shape[0]} images but {len(text)} prompts")


@dataclass(frozen=True, eq=False)
class GuidancePlan:
    """The weights of every sample at every step, computed before sampling starts.

    :param objectives: the names of the K objectives that some sample uses at some step, sorted.
    :param weights: w_k(p), (N, B, K) float64 on the CPU; 0 at every step for an unguided sample.
    :param scales: s, (B,) float64.
    """

    objectives: tuple[str, ...]
    weights: Tensor
    scales: Tensor

    def select(self, rows: Sequence[int]) -> GuidancePlan:
        """Return the plan of the samples at ``rows``, with only the objectives that they use."""
        weights = self.weights[:, list(rows)]
        used = [k for k in range(len(self.objectives)) if bool((weights[:, :, k] != 0).any())]
        names = tuple(self.objectives[k] for k in used)
        return GuidancePlan(names, weights[:, :, used], self.scales[list(rows)])

    @cached_property
    def _active(self) -> list[list[tuple[str, ...]]]:
        """The active objectives of every sample at every step."""
        return [
            [tuple(name for name, on in zip(self.objectives, row, strict=True) if on) for row in step]
            for step in (self.weights != 0).tolist()
        ]

    def groups(self, step: int, rows: range | None = None) -> list[RowGroup]:
        """Return (objectives, samples) for each distinct set of objectives that is active at ``step``.

        :param rows: restricts the groups to these samples, numbered from the first of them; None: all samples.
        """
        groups: dict[tuple[str, ...], list[int]] = {}
        active = self._active[step] if rows is None else self._active[step][rows.start : rows.stop]
        for row, names in enumerate(active):
            if names:
                groups.setdefault(names, []).append(row)
        return [(names, tuple(members)) for names, members in groups.items()]

    def used_by(self, row: int) -> tuple[str, ...]:
        """Return the objectives that the sample at ``row`` uses at some step."""
        used = (self.weights[:, row] != 0).any(dim=0).tolist()
        return tuple(name for name, on in zip(self.objectives, used, strict=True) if on)


def plan_guidance(
    schedules: Sequence[Schedule | None],
    scales: Sequence[float],
    guided: Sequence[bool],
    known: frozenset[str],
) -> GuidancePlan:
    """Return the plan of the samples. Each distinct schedule is tabulated once.

    :param schedules: one per sample; None for an unguided sample.
    :param scales: s of each sample; a sample with s = 0 is unguided.
    :param guided: whether each of the N steps is guided.
    :raises UsageError: for an objective that is not ``known``, or a weight that is not finite.
    """
    steps = len(guided)
    tables = {id(each): tabulate(each, steps) for each in schedules if each is not None}
    names = tuple(sorted({name for table in tables.values() for name in table.objectives}))
    for table in tables.values():
        for name in table.objectives:
            check_objective(name, known, f"the schedule {table!r}")
    weights = torch.zeros(steps, len(schedules), len(names), dtype=torch.float64)
    for row, (schedule, scale) in enumerate(zip(schedules, scales, strict=True)):
        if schedule is not None and scale != 0:
            table = tables[id(schedule)]
            weights[:, row, [names.index(name) for name in table.objectives]] = table.values
    weights[~torch.tensor(list(guided), dtype=torch.bool)] = 0
    plan = GuidancePlan(names, weights, torch.tensor(list(scales), dtype=torch.float64))
    return plan.select(range(len(schedules)))


def check_finite(what: str, value: float) -> float:
    """Return ``value`` as a float.

    :raises UsageError: if it is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{what} must be a finite number, got {value!r}")
    return float(value)
