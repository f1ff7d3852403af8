"""What a claim asks of a study: a weighted sum over conditions, taken within each prompt and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .conditions import Condition

Kind = Literal["role", "column", "cosine", "conflict", "opposed"]


@dataclass(frozen=True)
class Measure:
    """What is read off a cell.

    Made by :func:`role`, :func:`column`, :func:`cosine`, :func:`conflict` and :func:`opposed`.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return self.name if self.kind in ("role", "column") else f"{self.kind} {self.name}"


def role(name: str) -> Measure:
    """Return the first column of the study's metrics that declares this role; better is more."""
    return Measure("role", name)


def column(name: str) -> Measure:
    """Return the column of this very name; better is more."""
    return Measure("column", name)


def cosine(first: str, second: str) -> Measure:
    """Return the mean over the steps of the cosine between the gradients of two objectives."""
    return Measure("cosine", "|".join(sorted((first, second))))


def conflict(first: str, second: str) -> Measure:
    """Return the share of the steps at which that cosine is negative."""
    return Measure("conflict", "|".join(sorted((first, second))))


def opposed(first: str, second: str) -> Measure:
    """Return 1 for a picture whose mean cosine is negative, else 0: its mean is the share of such pictures."""
    return Measure("opposed", "|".join(sorted((first, second))))


@dataclass(frozen=True)
class Term:
    """One summand: ``factor`` times ``measure`` of the cell under ``condition``.

    :param steps: ``fewest`` or ``most``: at the smallest or the largest number of steps that the study has under
        the conditions of the question; empty: at any.
    """

    factor: float
    condition: Condition
    measure: Measure
    steps: Literal["", "fewest", "most"] = ""


@dataclass(frozen=True)
class Question:
    """A number of which a claim predicts on which side of ``against`` it is.

    :param id: the claim's id, a point, and a name: ``F1.scene``.
    :param direction: 1 where the claim predicts more than ``against``, -1 where less.
    :param against: what the number is compared with.
    :param exploratory: it is shown with its interval, but no verdict is drawn from it.
    """

    id: str
    text: str
    terms: tuple[Term, ...]
    direction: int = 1
    against: float = 0.0
    exploratory: bool = False

    @property
    def part(self) -> str:
        """The name without that of the claim."""
        return self.id.partition(".")[2] or self.id

    @property
    def over_steps(self) -> bool:
        """Whether it compares numbers of steps."""
        return any(term.steps for term in self.terms)

    def at(self, steps: Sequence[int]) -> Question:
        """Return the question with ``fewest`` and ``most`` as the numbers of steps that they mean."""
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
    """A claim: supported where every question that is not exploratory was measured and came out as predicted.

    :param id: what study files call it; no other claim's.
    :param questions: every comparison that the claim implies.
    :param source: who claims it, such as ``Kong & Kwak (2023)``. The claims of a source are reported together.
    :param caveat: what the questions leave out.
    """

    id: str
    text: str
    questions: tuple[Question, ...]
    source: str = ""
    caveat: str = ""


def difference(high: Condition, low: Condition, measure: Measure) -> tuple[Term, ...]:
    """Return the terms of ``high - low`` in one measure."""
    return (Term(1.0, high, measure), Term(-1.0, low, measure))
