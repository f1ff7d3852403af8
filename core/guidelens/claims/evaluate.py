"""Evaluate claims on the results of a study: estimates, corrected tests, verdicts.

The rules are fixed:

1. A question has one value per pair: cells with the same clean prompt, seed and everything else that the question
does not compare. Pairs without one of the sides are left out.
2. A two-sided sign-flip test by prompt gives its p. Holm's correction covers all questions that the study plans to
answer, answered or not, except exploratory ones.
3. *supported*: the corrected p is at most 0.05 and the mean is on the predicted side; *contradicted*: at most 0.05
and on the other side; *undecided* otherwise. Undecided does not mean "no difference": the interval shows the possible
values.
4. A claim is *contradicted* if one of its questions is; *supported* if all were measured and are supported;
*supported in part* if all measured ones are supported; *undecided* otherwise.
5. Every verdict of an unfinished study is *interim*: it may change, and looking at it several times makes false
positives more likely.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from guidelens.plugins.spelling import suggestion

from .asking import Asked, Evidence, Pair, ask
from .questions import Claim, Question
from .statistics import ALPHA, Paired, holm, paired, pairs_needed, smallest_p

if TYPE_CHECKING:
    from guidelens.studies.results import CellRecord

logger = logging.getLogger(__name__)

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
IN_PART = "supported in part"
NOT_MEASURED, EXPLORATORY = "not measured", "exploratory"

_ORDER = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_MEASURED)


class Study(Protocol):
    """Anything that claims can be evaluated on: the results of a study, or its planned cells."""

    @property
    def config(self) -> dict[str, Any]:
        """Grids, schedules with their weights, metrics with the declarations of their columns."""
        ...

    @property
    def cells(self) -> Sequence[CellRecord]:
        """A row per grid and cell, with its ``status``."""
        ...


@dataclass(frozen=True)
class Answer:
    """The answer of a study to one question.

    :param planned: whether the study draws what the question needs.
    :param needs: what is missing, if it is not measured.
    :param result: the mean, as the question measures it, and the test of its difference from ``against``.
    :param adjusted: p after Holm; NaN for an exploratory question.
    :param possible: number of prompts that can have all sides.
    :param least: the smallest corrected p that the study can give, for any outcome.
    """

    question: Question
    verdict: str
    planned: bool = False
    pairs: tuple[Pair, ...] = ()
    result: Paired | None = None
    adjusted: float = math.nan
    needs: str = ""
    column: str = ""
    possible: int = 0
    least: float = math.nan

    @property
    def tested(self) -> bool:
        """Whether the correction counts this question."""
        return self.planned and not self.question.exploratory

    @property
    def prompts(self) -> int:
        """The number of prompts of the pairs."""
        return len({pair.prompt for pair in self.pairs})

    @property
    def note(self) -> str:
        """Return why no outcome can decide the question, or an empty text."""
        if not self.least > ALPHA:
            return ""
        return f"no outcome can decide it: with {self.possible} prompts the corrected p is {self.least:.2g} or more"


@dataclass(frozen=True)
class Verdict:
    """The verdict of a study on one claim.

    :param interim: whether the study is unfinished.
    """

    claim: Claim
    verdict: str
    answers: tuple[Answer, ...]
    interim: bool = False

    @property
    def headline(self) -> str:
        """The verdict, whether it rests on a part of the claim, and whether it is interim."""
        parts = self.parts
        partly = NOT_MEASURED in parts and self.verdict in (CONTRADICTED, UNDECIDED)
        found = [
            self.verdict,
            *(["measured in part"] if partly else []),
            *(["interim"] if self.interim else []),
        ]
        return ", ".join(found)

    @property
    def parts(self) -> dict[str, list[str]]:
        """The names of the questions by their verdict."""
        found: dict[str, list[str]] = {}
        for verdict in _ORDER:
            names = [
                answer.question.part
                for answer in self.answers
                if answer.verdict == verdict and not answer.question.exploratory
            ]
            if names:
                found[verdict] = names
        return found

    @property
    def of_which_parts(self) -> str:
        """The parts as one line: ``supported: scene; not measured: detail, others``."""
        return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in self.parts.items())


def evaluate(study: Study, claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """Evaluate claims on a study, finished or not. If its grids list claims or questions, all claims of the listed
    sources are evaluated, each on the grids that list it. Otherwise all claims are evaluated on all grids. Unknown
    names in these lists are logged as warnings.

    :param claims: None: all claims of the installed plugins.
    """
    if claims is None:
        from guidelens.plugins import PluginManager

        claims = PluginManager.load().claims()
    _warn_of_unknown(study.config.get("grids", []), claims)
    chosen = _of_named_sources(study.config.get("grids", []), claims)
    evidence = Evidence.of(study.config, study.cells)
    interim = any(cell["status"] != "done" for cell in study.cells)
    asked = [
        (i, _answer(question, ask(claim, question, evidence), interim))
        for i, claim in enumerate(chosen)
        for question in claim.questions
    ]
    answers = _corrected([answer for _, answer in asked])
    found: list[list[Answer]] = [[] for _ in chosen]
    for (i, _), answer in zip(asked, answers, strict=True):
        found[i].append(answer)
    return [
        Verdict(claim, overall(theirs), tuple(theirs), interim)
        for claim, theirs in zip(chosen, found, strict=True)
    ]


def undecidable(study: Study, claims: Sequence[Claim]) -> dict[str, str]:
    """Return the questions that no outcome of a study can decide, with reasons; empty if its grids list no claims."""
    if not any(grid.get("claims") for grid in study.config.get("grids", [])):
        return {}
    answers = [answer for verdict in evaluate(study, claims) for answer in verdict.answers]
    return {answer.question.id: answer.note for answer in answers if answer.note}


def overall(answers: Iterable[Answer]) -> str:
    """Return the verdict of a claim from the verdicts of its questions (rule 4)."""
    verdicts = {answer.verdict for answer in answers if not answer.question.exploratory}
    measured = verdicts - {NOT_MEASURED}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if measured == {SUPPORTED}:
        return SUPPORTED if measured == verdicts else IN_PART
    return UNDECIDED if measured else NOT_MEASURED


def _warn_of_unknown(grids: Iterable[Mapping[str, Any]], claims: Sequence[Claim]) -> None:
    """Warn about unknown names. With a misspelt name, a question would miss cells that exist."""
    names = {*(claim.id for claim in claims), *(q.id for claim in claims for q in claim.questions)}
    for grid in grids:
        for name in grid.get("claims", ()):
            if name not in names:
                near = suggestion(name, sorted(names))
                logger.warning(
                    "the grid %r names the claim %r, which no plugin registers%s", grid["name"], name, near
                )


def _of_named_sources(grids: Iterable[Mapping[str, Any]], claims: Sequence[Claim]) -> list[Claim]:
    """Return all claims of the sources that the grids list; all claims if the grids list none."""
    named = {name for grid in grids for name in grid.get("claims", ())}
    sources = {claim.source for claim in claims if named & {claim.id, *(q.id for q in claim.questions)}}
    return [claim for claim in claims if claim.source in sources] if sources else list(claims)


def _answer(question: Question, asked: Asked, interim: bool) -> Answer:
    """Estimate the answer of a question, before any correction."""
    if asked.needs:
        return Answer(question, NOT_MEASURED, needs=asked.needs)
    if not asked.pairs:
        needs = (
            "its pictures are not drawn yet" if interim else f"needs pictures in which {asked.source} applies"
        )
        return Answer(question, NOT_MEASURED, True, needs=needs, column=asked.source, possible=asked.possible)
    prompts = [pair.prompt for pair in asked.pairs]
    values = [pair.value for pair in asked.pairs]
    result = paired([value - question.against for value in values], prompts)
    shift = question.against
    estimate = replace(
        result.estimate,
        mean=result.estimate.mean + shift,
        low=result.estimate.low + shift,
        high=result.estimate.high + shift,
    )
    verdict = EXPLORATORY if question.exploratory else UNDECIDED
    possible = asked.possible if interim else len(set(prompts))
    return Answer(
        question,
        verdict,
        True,
        asked.pairs,
        replace(result, estimate=estimate),
        column=asked.source,
        possible=possible,
    )


def _corrected(answers: Sequence[Answer]) -> list[Answer]:
    """Correct the p of every planned question and set its verdict (rules 2 and 3)."""
    tested = [answer.tested for answer in answers]
    adjusted = holm(
        [_p(answer) if counts else math.nan for answer, counts in zip(answers, tested, strict=True)]
    )
    least = holm(
        [
            smallest_p(answer.possible) if counts else math.nan
            for answer, counts in zip(answers, tested, strict=True)
        ]
    )
    alpha = ALPHA / max(1, sum(tested))
    return [
        _judged(replace(answer, least=best), p, alpha)
        for answer, p, best in zip(answers, adjusted, least, strict=True)
    ]


def _p(answer: Answer) -> float:
    """Return p of an answer. It is 1 if nothing is drawn yet: the question counts, but is undecided."""
    return 1.0 if answer.result is None else answer.result.p


def _judged(answer: Answer, adjusted: float, alpha: float) -> Answer:
    if answer.result is None:
        return answer
    question = answer.question
    values = [pair.value - question.against for pair in answer.pairs]
    needed = pairs_needed(values, [pair.prompt for pair in answer.pairs], alpha=alpha)
    result = replace(answer.result, needed=needed)
    verdict = answer.verdict
    if not question.exploratory and adjusted <= ALPHA:
        agrees = (result.estimate.mean - question.against) * question.direction > 0
        verdict = SUPPORTED if agrees else CONTRADICTED
    return replace(answer, verdict=verdict, result=result, adjusted=adjusted)
