"""Claims against the results of a study: estimates, tests corrected for their number, verdicts.

The rules, fixed:

1. A question takes its value within each pair, cells that share clean prompt, seed and everything else that the
   question does not compare. Pairs that lack a side are left out.
2. It is tested by flipping signs by prompt, two-sided, and corrected after Holm over all questions that the study
   plans to answer and that are not exploratory, whether or not they are answered yet.
3. *supported*: the corrected p is at most 0.05 and the mean is on the predicted side; *contradicted*: at most 0.05
   and on the other side; *undecided* otherwise. Undecided is not "no difference": the interval says what is left.
4. A claim is *contradicted* where one of its questions is; *supported* where every one was measured and is
   supported; *supported in part* where those that were measured are; *undecided* otherwise.
5. Of a study that is not finished every verdict is *interim*: it may change, and a verdict that was looked at
   several times has had several chances to come out.
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
    """What questions are asked of: the results of a study, or the cells that one plans."""

    @property
    def config(self) -> dict[str, Any]:
        """Grids, schedules with their weights, metrics with what their columns declare."""
        ...

    @property
    def cells(self) -> Sequence[CellRecord]:
        """A row per grid and cell, with its ``status``."""
        ...


@dataclass(frozen=True)
class Answer:
    """What a study says to one question.

    :param planned: whether the study draws what the question needs.
    :param needs: what it would take, where it is not measured.
    :param result: the mean, as the question measures it, and the test of its difference from ``against``.
    :param adjusted: p after Holm; NaN for an exploratory question.
    :param possible: prompts that can have all sides.
    :param least: the smallest p after Holm that any outcome of the study can give it.
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
        """Whether it is one of those that the correction counts."""
        return self.planned and not self.question.exploratory

    @property
    def prompts(self) -> int:
        """How many prompts the pairs are of."""
        return len({pair.prompt for pair in self.pairs})

    @property
    def note(self) -> str:
        """Say where no outcome whatever can decide the question."""
        if not self.least > ALPHA:
            return ""
        return f"no outcome can decide it: with {self.possible} prompts the corrected p is {self.least:.2g} or more"


@dataclass(frozen=True)
class Verdict:
    """What a study says to one claim.

    :param interim: the study is not finished.
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
        """The names of the questions behind the verdict, by theirs."""
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
    """Ask a study, finished or not, every question of the claims.

    Where its grids say which claims or questions they speak to, the claims of the sources that they name are asked,
    each of these grids alone; all claims of all grids otherwise. What they name that nobody asks is logged as a
    warning.

    :param claims: None: those that the installed plugins register.
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
    """Return the questions that no outcome of a study can decide, and why; none where its grids name no claims."""
    if not any(grid.get("claims") for grid in study.config.get("grids", [])):
        return {}
    answers = [answer for verdict in evaluate(study, claims) for answer in verdict.answers]
    return {answer.question.id: answer.note for answer in answers if answer.note}


def overall(answers: Iterable[Answer]) -> str:
    """Return the verdict of a claim from those of its questions (rule 4)."""
    verdicts = {answer.verdict for answer in answers if not answer.question.exploratory}
    measured = verdicts - {NOT_MEASURED}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if measured == {SUPPORTED}:
        return SUPPORTED if measured == verdicts else IN_PART
    return UNDECIDED if measured else NOT_MEASURED


def _warn_of_unknown(grids: Iterable[Mapping[str, Any]], claims: Sequence[Claim]) -> None:
    """A misspelt name would leave a question unasked for want of cells that are there."""
    names = {*(claim.id for claim in claims), *(q.id for claim in claims for q in claim.questions)}
    for grid in grids:
        for name in grid.get("claims", ()):
            if name not in names:
                near = suggestion(name, sorted(names))
                logger.warning(
                    "the grid %r names the claim %r, which no plugin registers%s", grid["name"], name, near
                )


def _of_named_sources(grids: Iterable[Mapping[str, Any]], claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims of the sources of which the grids name a claim; all claims where they name none."""
    named = {name for grid in grids for name in grid.get("claims", ())}
    sources = {claim.source for claim in claims if named & {claim.id, *(q.id for q in claim.questions)}}
    return [claim for claim in claims if claim.source in sources] if sources else list(claims)


def _answer(question: Question, asked: Asked, interim: bool) -> Answer:
    """Describe what was asked, before any correction."""
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
    """Correct every planned question for all of them, and draw its verdict (rules 2 and 3)."""
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
    """Return p of an answer; 1 where nothing is drawn yet, so that it counts and decides nothing."""
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
