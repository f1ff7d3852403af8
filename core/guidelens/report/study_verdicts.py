"""The verdicts of a study for its page: a forest plot of all questions, and a pair of pictures per claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_low

from markupsafe import Markup

from guidelens.claims.asking import Pair
from guidelens.claims.evaluate import CONTRADICTED, SUPPORTED, Answer, Verdict
from guidelens.report.charts import interval_mark
from guidelens.stats import Estimate

EXAMPLES = 3
"""Prompts and seeds shown at each end of a question's values."""


@dataclass(frozen=True)
class AnswerView:
    """A question of the page. ``mark`` is its row in the forest plot."""

    answer: Answer
    mark: Markup
    examples: list[tuple[str, list[Pair]]]


@dataclass(frozen=True)
class VerdictView:
    """A claim of the page.

    :param pair: its pictures and their question; None if nothing differs.
    """

    verdict: Verdict
    answers: list[AnswerView]
    pair: tuple[Answer, Pair] | None

    @property
    def measured(self) -> list[AnswerView]:
        """The questions with a result."""
        return [view for view in self.answers if view.answer.result is not None]

    @property
    def unmeasured(self) -> list[AnswerView]:
        """The questions without a result."""
        return [view for view in self.answers if view.answer.result is None]


@dataclass(frozen=True)
class Forest:
    """The forest plot: all questions that decide a claim, on an axis from ``-edge`` against it to ``edge`` for it."""

    verdicts: list[VerdictView]
    edge: float

    @property
    def unmeasured(self) -> int:
        """The number of questions without a result."""
        return sum(len(view.unmeasured) for view in self.verdicts)


def forest(verdicts: Sequence[Verdict]) -> Forest:
    """Return the forest plot of verdicts. Differences that agree with a claim are on the right."""
    found = [
        toward(answer) for verdict in verdicts for answer in verdict.answers if answer.result is not None
    ]
    sizes = [abs(v) for e in found for v in (e.mean, e.low, e.high) if math.isfinite(v)]
    edge = math.ceil(10 * max(sizes, default=1.0)) / 10 or 0.1
    views = [
        VerdictView(
            verdict, [_answer_view(answer, edge) for answer in verdict.answers], typical_pair(verdict)
        )
        for verdict in verdicts
    ]
    return Forest(views, edge)


def toward(answer: Answer) -> Estimate:
    """Return the difference of an answer from its reference value, positive if it agrees with the claim.

    :raises ValueError: it has no result.
    """
    if answer.result is None:
        raise ValueError(f"{answer.question.id} was not measured")
    estimate, question = answer.result.estimate, answer.question
    mean, low, high = (
        question.direction * (value - question.against)
        for value in (estimate.mean, estimate.low, estimate.high)
    )
    return replace(estimate, mean=mean, low=min(low, high), high=max(low, high))


def typical_pair(verdict: Verdict) -> tuple[Answer, Pair] | None:
    """Choose the pictures beside a claim: the median of the pairs that differ in the direction of the mean.

    They are of the first question that is decided, else of the first that was measured, among those whose pairs have
    two pictures or more; the first pair with that value, in the order of the study.
    """
    for answer in sorted(verdict.answers, key=lambda each: each.verdict not in (SUPPORTED, CONTRADICTED)):
        if answer.result is None or all(len(pair.keys) < 2 for pair in answer.pairs):
            continue
        sign = answer.result.estimate.mean - answer.question.against
        values = [p.value for p in answer.pairs if (p.value - answer.question.against) * sign > 0]
        if values:
            middle = median_low(values)
            return answer, next(pair for pair in answer.pairs if pair.value == middle)
    return None


def examples(answer: Answer) -> list[tuple[str, list[Pair]]]:
    """Return the prompts and seeds with the strongest evidence for and against the claim."""
    sign, zero = answer.question.direction, answer.question.against
    ranked = sorted(answer.pairs, key=lambda pair: -sign * pair.value)
    speaking = [p for p in ranked if sign * (p.value - zero) > 0][:EXAMPLES]
    against = [p for p in reversed(ranked) if sign * (p.value - zero) < 0][:EXAMPLES]
    return [
        (title, pairs) for title, pairs in (("most for it", speaking), ("most against it", against)) if pairs
    ]


def p_text(p: float) -> str:
    """Write a p value."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def effect_text(value: float) -> str:
    """Write an effect size."""
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def count_text(value: float) -> str:
    """Write how many pairs would decide."""
    if not math.isfinite(value):
        return "–"
    return f"{math.ceil(value)}" if value < 100_000 else "> 100 000"


def _answer_view(answer: Answer, edge: float) -> AnswerView:
    if answer.result is None:
        return AnswerView(answer, Markup(""), [])
    return AnswerView(answer, interval_mark(toward(answer), (-edge, edge)), examples(answer))
