"""Questions of a claim: weighted sums over conditions, computed for each prompt and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .conditions import Condition

Kind = Literal["role", "column", "cosine", "conflict", "opposed"]


@dataclass(frozen=True)
class Measure:
    """A value of a cell. Made by :func:`role`, :func:`column`, :func:`cosine`, :func:`conflict` and :func:`opposed`."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return self.name if self.kind in ("role", "column") else f"{self.kind} {self.name}"


def role(name: str) -> Measure:
    """Return the measure of the first metric column that declares this role; higher is better."""
    return Measure("role", name)


def column(name: str) -> Measure:
    """Return the measure of the column with exactly this name; higher is better."""
    return Measure("column", name)


def cosine(first: str, second: str) -> Measure:
    """Return the measure "mean over the steps of the cosine between the gradients of two objectives"."""
    return Measure("cosine", "|".join(sorted((first, second))))


def conflict(first: str, second: str) -> Measure:
    """Return the measure "share of the steps at which this cosine is negative"."""
    return Measure("conflict", "|".join(sorted((first, second))))


def opposed(first: str, second: str) -> Measure:
    """Return the measure that is 1 for a picture with negative mean cosine, else 0. Its mean is the share of such
    pictures."""
    return Measure("opposed", "|".join(sorted((first, second))))


@dataclass(frozen=True)
class Term:
    """A term of a sum: ``factor`` times ``measure`` of the cell under ``condition``.

    :param steps: ``fewest`` or ``most``: the smallest or largest number of steps of the study under the conditions of
        the question; empty: any.
    """

    factor: float
    condition: Condition
    measure: Measure
    steps: Literal["", "fewest", "most"] = ""


@dataclass(frozen=True)
class Question:
    """A number, and the claim's prediction whether it is above or below ``against``.

    :param id: the claim's id, a point, and a name: ``F1.scene``.
    :param direction: 1 if the claim predicts more than ``against``, -1 if less.
    :param against: the value to compare with.
    :param exploratory: only show the number with its interval, without a verdict.
    """

    id: str
    text: str
    terms: tuple[Term, ...]
    direction: int = 1
    against: float = 0.0
    exploratory: bool = False

    @property
    def part(self) -> str:
        """The name without the claim's id."""
        return self.id.partition(".")[2] or self.id

    @property
    def over_steps(self) -> bool:
        """Whether it compares numbers of steps."""
        return any(term.steps for term in self.terms)

    def at(self, steps: Sequence[int]) -> Question:
        """Return the question with ``fewest`` and ``most`` replaced by numbers of steps."""
        numbers = {"fewest": min(steps), "most": max(steps)}
        terms = tuple(
            replace(term, steps="", condition=_with_steps(term.condition, numbers[term.steps]))
            if term.steps
            else term
            for term in self.terms
        )
        return replace(self, terms=terms)


def _with_steps(condition: Condition, steps: int) -> Condition:
    return replace(condition, columns={**condition.columns, "steps": steps})


@dataclass(frozen=True)
class Claim:
    """A claim. It is supported if every question, except exploratory ones, was measured and came out as predicted.

    :param id: its unique name in study files.
    :param questions: every comparison that the claim implies.
    :param source: its origin, such as ``Kong & Kwak (2023)``. The claims of a source are reported together.
    :param caveat: what the questions do not cover.
    """

    id: str
    text: str
    questions: tuple[Question, ...]
    source: str = ""
    caveat: str = ""


def difference(high: Condition, low: Condition, measure: Measure) -> tuple[Term, ...]:
    """Return the terms of ``high - low`` for one measure."""
    return (Term(1.0, high, measure), Term(-1.0, low, measure))
