"""What a claim asks of a study: a weighted sum over conditions, taken within each prompt and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .conditions import Condition

Cell = Mapping[str, Any]

ALIGNMENT = ("alignment", "clip_score")
FIDELITY = ("fidelity",)
COSINE = "cosine:"
"""What a column is called that is no metric's: the mean cosine of two objectives, ``cosine:a|b``."""


@dataclass(frozen=True)
class Term:
    """One summand: ``factor`` times ``column`` of the cell under ``condition``.

    :param column: names of columns of metrics, of which the first that the study has is meant; or
        ``("cosine:a|b",)``, the mean cosine between the gradients of two objectives.
    """

    factor: float
    condition: Condition
    column: tuple[str, ...]

    def value(self, cell: Cell, column: str) -> float | None:
        """Return the cell's value, or None where it has none."""
        of_steps = column.startswith(COSINE)
        found = (cell["cosines"] if of_steps else cell["metrics"]) or {}
        value = found.get(column.removeprefix(COSINE) if of_steps else column)
        return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Question:
    """A number whose sign a claim predicts.

    :param direction: the sign that the claim predicts, 1 or -1.
    :param over: None, or ``steps``: the terms are then taken at every number of steps, with factors that give the
        slope per doubling of the steps (least squares over their logarithm).
    :param exploratory: it is shown with its interval, but no verdict is drawn from it.
    """

    id: str
    text: str
    terms: tuple[Term, ...]
    direction: int = 1
    over: str | None = None
    exploratory: bool = False

    def at(self, steps: Sequence[int]) -> Question:
        """Return the question with its terms spelled out at these numbers of steps."""
        if self.over is None:
            return self
        factors = slope_factors(steps)
        terms = tuple(
            replace(
                term,
                factor=term.factor * factor,
                condition=replace(term.condition, columns={**term.condition.columns, "steps": n}),
            )
            for term in self.terms
            for n, factor in factors.items()
        )
        return replace(self, terms=terms, over=None)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: supported where all its questions are."""

    id: str
    text: str
    questions: tuple[Question, ...]
    caveat: str = ""


def slope_factors(steps: Sequence[int]) -> dict[int, float]:
    """Return the factors that turn values at numbers of steps into a least-squares slope per doubling.

    sum_i f_i y_i with f_i = (x_i - mean x) / sum (x - mean x)^2, x = log2 steps. Empty for fewer than two.
    """
    distinct = sorted(set(steps))
    if len(distinct) < 2:
        return {}
    logs = [math.log2(n) for n in distinct]
    centre = math.fsum(logs) / len(logs)
    spread = math.fsum((x - centre) ** 2 for x in logs)
    return {n: (x - centre) / spread for n, x in zip(distinct, logs, strict=True)}


def difference(high: Condition, low: Condition, column: tuple[str, ...]) -> tuple[Term, ...]:
    """Return the terms of ``high - low`` in a column."""
    return (Term(1.0, high, column), Term(-1.0, low, column))


def interaction(
    high: Condition, low: Condition, more: tuple[str, ...], less: tuple[str, ...]
) -> tuple[Term, ...]:
    """Return the terms of ``(more - less) under high - (more - less) under low``, two columns of a picture."""
    return (
        Term(1.0, high, more),
        Term(-1.0, high, less),
        Term(-1.0, low, more),
        Term(1.0, low, less),
    )
