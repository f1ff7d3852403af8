"""Claims against the results of a study: estimates, tests corrected for their number, verdicts.

The rules, fixed:

1. A question takes its value within each unit, cells that share clean prompt, seed and everything else that the
   question does not compare. Units that lack a side are left out.
2. It is tested by flipping signs by prompt, two-sided, and corrected after Holm over all questions of the study
   that are not exploratory.
3. *supported*: the corrected p is at most 0.05 and the mean has the predicted sign; *contradicted*: at most 0.05 and
   the other sign; *undecided* otherwise. Undecided is not "no difference": the interval says what is left.
4. A claim is contradicted where one of its questions is, supported where all are (those that the study does not
   measure aside), undecided otherwise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from guidelens.plugins.spelling import suggestion
from guidelens.runs.config import canonical_json

from .conditions import NONE, schedule_roles
from .paper import CLAIMS
from .questions import COSINE, Claim, Question, Term
from .statistics import ALPHA, Paired, holm, paired, pairs_needed, prompts_needed

if TYPE_CHECKING:
    from guidelens.studies.results import StudyResults

logger = logging.getLogger(__name__)

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_MEASURED, EXPLORATORY = "not measured", "exploratory"

_UNIT = (
    *("pair", "clean", "generator", "guidance", "preset", "sampler"),
    *("eta", "scale", "objective_scales", "steps", "respacing"),
)

Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Unit:
    """One value: a prompt and seed under otherwise equal settings, with the cells it was taken from."""

    value: float
    prompt: str
    seed: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a study says to one question.

    :param needs: what it would take, where the study does not measure it.
    :param adjusted: p after Holm; NaN for an exploratory question.
    """

    question: Question
    verdict: str
    units: tuple[Unit, ...] = ()
    result: Paired | None = None
    adjusted: float = math.nan
    needs: str = ""
    column: str = ""

    @property
    def prompts(self) -> int:
        """How many prompts the units are of."""
        return len({unit.prompt for unit in self.units})

    @property
    def note(self) -> str:
        """Say where no outcome whatever could have decided the question."""
        least = prompts_needed(ALPHA)
        if self.result is None or self.prompts >= least:
            return ""
        return f"{self.prompts} prompts: no test can come out with fewer than {least}"


@dataclass(frozen=True)
class Verdict:
    """What a study says to one claim."""

    claim: Claim
    verdict: str
    answers: tuple[Answer, ...]


def evaluate(study: StudyResults, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """Ask a study, finished or not, every question of the claims.

    Where its grids say which claims (``F1``) or questions (``F1.size``) they speak to, each is asked of these
    alone; of all grids otherwise. What they name that nobody asks is logged as a warning.
    """
    _warn_of_unknown(study.config.get("grids", []), claims)
    roles = schedule_roles(study.config)
    columns = [column for metric in study.config["metrics"] for column in metric["columns"]]
    asked = [
        (claim, _ask(question, _cells_for(study, claim, question), roles, columns))
        for claim in claims
        for question in claim.questions
    ]
    adjusted = holm([_tested(answer) for _, answer in asked])
    alpha = ALPHA / max(1, sum(map(math.isfinite, adjusted)))
    found: dict[str, list[Answer]] = {}
    for (claim, answer), p in zip(asked, adjusted, strict=True):
        found.setdefault(claim.id, []).append(_judged(answer, p, alpha))
    return [Verdict(claim, overall(found[claim.id]), tuple(found[claim.id])) for claim in claims]


def _warn_of_unknown(grids: Iterable[Mapping[str, Any]], claims: Sequence[Claim]) -> None:
    """A misspelt name would leave a question unasked for want of cells that are there."""
    names = {*(claim.id for claim in claims), *(q.id for claim in claims for q in claim.questions)}
    for grid in grids:
        for name in grid.get("claims", ()):
            if name not in names:
                near = suggestion(name, sorted(names))
                logger.warning(
                    "the grid %r speaks to %r, which nothing asked is called%s", grid["name"], name, near
                )


def _tested(answer: Answer) -> float:
    """Return p where the question is one of those that a verdict is drawn from, else NaN."""
    return math.nan if answer.result is None or answer.question.exploratory else answer.result.p


def overall(answers: Iterable[Answer]) -> str:
    """Return the verdict of a claim from those of its questions (rule 4)."""
    verdicts = {answer.verdict for answer in answers} - {NOT_MEASURED, EXPLORATORY}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if verdicts == {SUPPORTED}:
        return SUPPORTED
    return UNDECIDED if verdicts else NOT_MEASURED


def _judged(answer: Answer, adjusted: float, alpha: float) -> Answer:
    if answer.result is None:
        return answer
    values, prompts = [u.value for u in answer.units], [u.prompt for u in answer.units]
    result = replace(answer.result, needed=pairs_needed(values, prompts, alpha=alpha))
    verdict = EXPLORATORY
    if not answer.question.exploratory:
        verdict = UNDECIDED
        if adjusted <= ALPHA:
            agrees = result.estimate.mean * answer.question.direction > 0
            verdict = SUPPORTED if agrees else CONTRADICTED
    return replace(answer, verdict=verdict, result=result, adjusted=adjusted)


def _cells_for(study: StudyResults, claim: Claim, question: Question) -> list[Cell]:
    """Return the finished cells that speak to a question, each once."""
    names = {claim.id, question.id}
    speaking = {grid["name"] for grid in study.config.get("grids", []) if names & set(grid.get("claims", ()))}
    stated = any(grid.get("claims") for grid in study.config.get("grids", []))
    if stated and not speaking:
        return []
    cells = [c for c in study.cells if c["status"] == "done" and (not stated or c["grid"] in speaking)]
    # The grid is no setting: what two grids share is one picture. Options tell conditions of one picture apart.
    return list({(c["key"], canonical_json(c["options"])): c for c in cells}.values())


def _ask(
    question: Question, cells: Sequence[Cell], roles: Mapping[str, str], columns: Sequence[str]
) -> Answer:
    if question.over == "steps":
        at = sorted({c["steps"] for c in cells if any(t.condition.holds(c, roles) for t in question.terms)})
        if len(at) < 2:
            return _unmeasured(question, f"needs {_sides(question.terms)} at two numbers of steps or more")
        question = question.at(at)
    resolved = [_column(term, columns) for term in question.terms]
    for term, column in zip(question.terms, resolved, strict=True):
        if not any(term.condition.holds(cell, roles) for cell in cells):
            return _unmeasured(question, f"needs cells of {term.condition}")
        if column is None:
            return _unmeasured(question, f"needs a metric with the column {' or '.join(term.column)}")
    names = [column for column in resolved if column is not None]
    units = _units(question, names, cells, roles)
    if not units:
        pairs = f"pairs of {_sides(question.terms)} in which {' and '.join(dict.fromkeys(names))} apply"
        return _unmeasured(question, f"needs {pairs}")
    result = paired([u.value for u in units], [u.prompt for u in units])
    return Answer(question, UNDECIDED, tuple(units), result, column=" and ".join(dict.fromkeys(names)))


def _unmeasured(question: Question, needs: str) -> Answer:
    return Answer(question, NOT_MEASURED, needs=needs)


def _sides(terms: Iterable[Term]) -> str:
    return " and ".join(dict.fromkeys(str(term.condition) for term in terms))


def _column(term: Term, columns: Sequence[str]) -> str | None:
    """Return the first of the term's columns that the study has, whether or not it applies to some cell."""
    for column in term.column:
        if column.startswith(COSINE) or column in columns:
            return column
    return None


def _units(
    question: Question, columns: Sequence[str], cells: Sequence[Cell], roles: Mapping[str, str]
) -> list[Unit]:
    """Take the question's value in every unit that has all its sides; equal sides (two typos, say) are averaged."""
    fixed = {name for term in question.terms for name in term.condition.columns}
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_unit_id(cell, fixed), []).append(cell)
    units = []
    for members in groups.values():
        found = _value(question.terms, columns, members, roles)
        if found is not None:
            value, keys = found
            # What is meant is drawn at random; all its wordings, forms and seeds are one cluster.
            prompt = members[0]["reference"] or members[0]["clean"]
            units.append(Unit(value, prompt, members[0]["seed"], keys))
    return units


def _unit_id(cell: Cell, fixed: set[str]) -> str:
    options = {name: value for name, value in cell["options"].items() if name not in fixed}
    return canonical_json([*(cell[name] for name in _UNIT if name not in fixed), options])


def _value(
    terms: Sequence[Term], columns: Sequence[str], cells: Sequence[Cell], roles: Mapping[str, str]
) -> tuple[float, tuple[str, ...]] | None:
    sides = [
        [
            (cell, value)
            for cell in cells
            if term.condition.holds(cell, roles) and (value := term.value(cell, column)) is not None
        ]
        for term, column in zip(terms, columns, strict=True)
    ]
    # A perturbation that one side lacks is none to charge the other with.
    forms = [
        {c["perturbation"] for c, _ in s} for s, t in zip(sides, terms, strict=True) if t.condition.perturbed
    ]
    shared = {NONE}.union(set.intersection(*forms) if forms else ())
    total, keys = 0.0, []
    for term, side in zip(terms, sides, strict=True):
        present = [(cell["key"], value) for cell, value in side if cell["perturbation"] in shared]
        if not present:
            return None
        total += term.factor * math.fsum(value for _, value in present) / len(present)
        keys += [key for key, _ in present]
    return total, tuple(dict.fromkeys(keys))
