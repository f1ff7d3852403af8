"""The values of a question in a study: one per prompt and seed, from cells that differ only in what it compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guidelens.runs.config import canonical_json

from .conditions import NONE, schedule_patterns
from .questions import Claim, Measure, Question, Term

if TYPE_CHECKING:
    from guidelens.studies.results import CellRecord

_SHARED = (
    *("pair", "clean", "generator", "guidance", "preset", "sampler"),
    *("eta", "scale", "objective_scales", "steps", "respacing"),
)


@dataclass(frozen=True)
class Pair:
    """One value for a prompt and a seed under otherwise equal settings, with the keys of its cells."""

    value: float
    prompt: str
    seed: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class MeasureSource:
    """The entry of a cell from which a measure is read.

    :param table: ``metrics``, ``cosines`` or ``conflicts``.
    :param sign: -1 if smaller values of the column are better.
    :param negative: the value is 1 if the entry is negative, else 0.
    """

    table: str
    name: str
    sign: float = 1.0
    negative: bool = False

    def value(self, cell: CellRecord) -> float | None:
        """Return the cell's value (higher is better), or None if it has none."""
        value = (cell.get(self.table) or {}).get(self.name)
        if value is None or not math.isfinite(value):
            return None
        return float(value < 0) if self.negative else self.sign * float(value)

    def __str__(self) -> str:
        if self.negative:
            return f"negative {self.table.removesuffix('s')} {self.name}"
        return self.name if self.table == "metrics" else f"{self.table.removesuffix('s')} {self.name}"


@dataclass(frozen=True)
class Evidence:
    """The cells of a study, drawn or planned, with what questions need to know about them."""

    grids: Sequence[Mapping[str, Any]]
    columns: Sequence[Mapping[str, Any]]
    patterns: Mapping[str, str]
    cells: Sequence[CellRecord]

    @classmethod
    def of(cls, config: Mapping[str, Any], cells: Sequence[CellRecord]) -> Evidence:
        """Read grids, declarations of metrics and patterns of schedules from a study's configuration."""
        columns = [column for metric in config["metrics"] for column in metric["columns"]]
        return cls(config.get("grids", []), columns, schedule_patterns(config), cells)

    def speaking(self, claim: Claim, question: Question) -> list[CellRecord]:
        """Return the cells for a question, each once. Grids may list their claims (``F1``) or questions
        (``F1.scene``). If some do, only the grids that list this question count; otherwise all grids.
        """
        names = {claim.id, question.id}
        speaking = {grid["name"] for grid in self.grids if names & set(grid.get("claims", ()))}
        stated = any(grid.get("claims") for grid in self.grids)
        cells = [cell for cell in self.cells if not stated or cell["grid"] in speaking]
        # The grid is not a setting: a cell in two grids is one picture. Options distinguish conditions of one picture.
        return list({(cell["key"], canonical_json(cell["options"])): cell for cell in cells}.values())

    def reading(self, measure: Measure) -> MeasureSource | None:
        """Return the source of a measure, or None if no metric of the study has it."""
        if measure.kind in ("cosine", "conflict"):
            return MeasureSource(f"{measure.kind}s", measure.name)
        if measure.kind == "opposed":
            return MeasureSource("cosines", measure.name, negative=True)
        key = "role" if measure.kind == "role" else "name"
        for column in self.columns:
            if column.get(key) == measure.name:
                return MeasureSource(
                    "metrics", column["name"], 1.0 if column.get("higher_is_better", True) else -1.0
                )
        return None


@dataclass(frozen=True)
class Asked:
    """The values of a study for a question.

    :param needs: what the study lacks; empty if it measures the question.
    :param possible: number of prompts that have all sides once everything is drawn.
    :param pairs: the values so far.
    :param source: the columns of the values.
    """

    needs: str = ""
    possible: int = 0
    pairs: tuple[Pair, ...] = ()
    source: str = ""


def ask(claim: Claim, question: Question, evidence: Evidence) -> Asked:
    """Collect the values of a study, finished or not, for one question."""
    cells = evidence.speaking(claim, question)
    patterns = evidence.patterns
    if question.over_steps:
        at = {
            cell["steps"] for cell in cells if any(t.condition.holds(cell, patterns) for t in question.terms)
        }
        if len(at) < 2:
            return Asked(needs=f"needs {_sides(question.terms)} at two numbers of steps or more")
        question = question.at(sorted(at))
    readings = []
    for term in question.terms:
        if not any(term.condition.holds(cell, patterns) for cell in cells):
            return Asked(needs=f"needs cells of {term.condition}")
        found = evidence.reading(term.measure)
        if found is None:
            kind = "with the role" if term.measure.kind == "role" else "called"
            return Asked(needs=f"needs a metric with a column {kind} {term.measure.name}")
        readings.append(found)
    source = " and ".join(dict.fromkeys(map(str, readings)))
    planned = _pairs(question, [lambda cell: 0.0] * len(readings), cells, patterns)
    if not planned:
        return Asked(needs=f"needs pairs of {_sides(question.terms)}")
    done = [cell for cell in cells if cell["status"] == "done"]
    pairs = _pairs(question, [reading.value for reading in readings], done, patterns)
    return Asked("", len({pair.prompt for pair in planned}), tuple(pairs), source)


def _sides(terms: Iterable[Term]) -> str:
    return " and ".join(dict.fromkeys(str(term.condition) for term in terms))


def _pairs(
    question: Question,
    read: Sequence[Callable[[CellRecord], float | None]],
    cells: Sequence[CellRecord],
    patterns: Mapping[str, str],
) -> list[Pair]:
    """Compute the question's value wherever all its sides exist. Equal sides (for example two typos) are averaged."""
    fixed = {name for term in question.terms for name in term.condition.columns}
    groups: dict[str, list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(_shared_settings(cell, fixed), []).append(cell)
    pairs = []
    for members in groups.values():
        found = _value(question.terms, read, members, patterns)
        if found is not None:
            value, keys = found
            # Meanings are the random sample. All wordings, forms and seeds of a meaning are one cluster.
            prompt = members[0]["reference"] or members[0]["clean"]
            pairs.append(Pair(value, prompt, members[0]["seed"], keys))
    return pairs


def _shared_settings(cell: CellRecord, fixed: set[str]) -> str:
    options = {name: value for name, value in cell["options"].items() if name not in fixed}
    return canonical_json([*(cell[name] for name in _SHARED if name not in fixed), options])


def _value(
    terms: Sequence[Term],
    read: Sequence[Callable[[CellRecord], float | None]],
    cells: Sequence[CellRecord],
    patterns: Mapping[str, str],
) -> tuple[float, tuple[str, ...]] | None:
    sides = [
        [
            (cell, value)
            for cell in cells
            if term.condition.holds(cell, patterns) and (value := value_of(cell)) is not None
        ]
        for term, value_of in zip(terms, read, strict=True)
    ]
    # A perturbation counts only if both sides have it.
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
