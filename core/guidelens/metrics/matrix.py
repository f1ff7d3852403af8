"""Compare the scores of guides by judges: how much higher does a model score the pictures that it guided itself?

Guidance by an objective followed by measurement with it measures only the optimiser. The matrix shows the score of
every judge beside the scores of judges that took no part in the guidance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from guidelens.errors import UsageError
from guidelens.stats import Estimate, estimate

from .judge import AT, FACTS, PROBABILITY

if TYPE_CHECKING:
    from guidelens.studies.results import CellRecord, StudyResults

Own = Literal["objective", "model", ""]
"""Whether a judge took part in the guidance: same objective and model, same model, or neither."""

_PAIRED_BY = (
    *("prompt", "reference", "seed", "generator", "preset"),
    *("sampler", "eta", "steps", "respacing", "scale", "perturbation"),
)


@dataclass(frozen=True)
class Entry:
    """The score of a guide's pictures by a judge.

    :param score: in standard units: 0 is the mean over all guides for the same prompt and noise, 1 is one standard
        deviation of the pictures of one prompt and noise.
    :param inflation: ``score`` minus the mean score by judges that took no part in the guidance; None without such
        judges.
    """

    score: Estimate
    inflation: Estimate | None
    own: Own


@dataclass(frozen=True)
class Guide:
    """A schedule of a guidance model: one row of the matrix."""

    schedule: str
    guidance: str
    objectives: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """``schedule@model``."""
        return f"{self.schedule}{AT}{self.guidance}"


@dataclass
class Matrix:
    """The scores of every guide by every judge, over ``pictures`` pairs of prompt and noise.

    :param left_out: judges without scores for all pictures, or with constant scores.
    """

    guides: list[Guide]
    judges: list[str]
    entries: dict[tuple[str, str], Entry] = field(repr=False)
    pairs: int = 0
    prompts: int = 0
    left_out: list[str] = field(default_factory=list)
    inflation: dict[Own, Estimate] = field(default_factory=dict)
    """The mean inflation over all entries with this ``own``: the guide's objective, or its model."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rows = [
            {
                "guide": guide.name,
                "judge": judge,
                "own": entry.own,
                "score": _values(entry.score),
                "inflation": None if entry.inflation is None else _values(entry.inflation),
            }
            for guide in self.guides
            for judge in self.judges
            for entry in (self.entries[guide.name, judge],)
        ]
        return {
            "pairs": self.pairs,
            "prompts": self.prompts,
            "left_out": self.left_out,
            "inflation": {own: _values(found) for own, found in self.inflation.items()},
            "entries": rows,
        }


def judge_matrix(
    study: StudyResults, *, grid: str | None = None, judges: Sequence[str] | None = None
) -> Matrix:
    """Compare the scores of the guides of a study or comparison by its judges. A guide is a schedule of a guidance
    model. A pair of prompt and noise counts if all guides have drawn it under the same conditions and all its scores
    exist. Guides are compared within each pair. Intervals resample prompts (:func:`guidelens.stats.estimate`).

    :param grid: only cells of this grid.
    :param judges: columns of metrics; None: all columns of judges (``itm@MODEL``), and the first column of each other
        metric.
    :raises UsageError: fewer than two guides or judges, or no pair that all have drawn.
    """
    cells = [cell for cell in study.cells if grid in (None, cell["grid"])]
    if not cells:
        grids = ", ".join(dict.fromkeys(cell["grid"] for cell in study.cells))
        raise UsageError(f"{study.directory} has no grid {grid!r}; it has {grids}")
    names = _judges(study.config, cells) if judges is None else list(dict.fromkeys(judges))
    guides = _guides(study.config, cells)
    if len(guides) < 2:
        raise UsageError(
            f"a matrix needs at least two guides (schedules or models); here is {guides[0].name}"
        )
    units, names, left_out = _units(cells, guides, names)
    if len(names) < 2:
        raise UsageError(
            f"a matrix needs at least two judges; here {', '.join(names) or 'is none'}: add metrics that ask a "
            "guidance model to the study (docs/metrics.md) and run it again; pictures stay"
        )
    return _matrix(guides, names, units, left_out)


def _judges(config: Mapping[str, Any], cells: Sequence[CellRecord]) -> list[str]:
    scored = {column for cell in cells for column in cell["metrics"]}
    found: list[str] = []
    for metric in config["metrics"]:
        columns = [column for column in metric["columns"] if column["name"] in scored]
        judging = [column for column in columns if column["role"] == "judgement"]
        found += [column["name"] for column in judging or columns[:1]]
    return found


def _guides(config: Mapping[str, Any], cells: Sequence[CellRecord]) -> list[Guide]:
    active: dict[str, frozenset[str]] = {s["name"]: frozenset(s["weights"]) for s in config["schedules"]}
    named = dict.fromkeys((cell["schedule"], cell["guidance"]) for cell in cells)
    return [Guide(schedule, guidance, active.get(schedule, frozenset())) for schedule, guidance in named]


ScoresByGuide = dict[str, dict[str, float]]
"""Guide -> judge -> score, for one prompt and noise under the same conditions."""


def _units(
    cells: Sequence[CellRecord], guides: Sequence[Guide], names: Sequence[str]
) -> tuple[list[tuple[str, ScoresByGuide]], list[str], list[str]]:
    """Return (prompt, scores) of the complete pairs, the judges with all scores there, and the other judges."""
    found = _drawn(cells)
    complete = [
        (next(iter(unit.values())), {guide: cell["metrics"] for guide, cell in unit.items()})
        for unit in found
        if len(unit) == len(guides)
    ]
    if not complete:
        raise UsageError(
            f"no prompt and noise has pictures of all {len(guides)} guides under the same conditions: finish the "
            "study, or choose one of its grids"
        )
    there = [n for n in names if any(n in scores for _, unit in complete for scores in unit.values())]
    missing = [name for name in names if name not in there]
    scored = [
        (cell["reference"] or cell["clean"], unit)
        for cell, unit in complete
        if all(n in scores for scores in unit.values() for n in there)
    ]
    if not scored:
        raise UsageError(f"no picture has a score of all of {', '.join(there)}; choose fewer judges")
    return scored, there, missing


def _drawn(cells: Sequence[CellRecord]) -> list[dict[str, CellRecord]]:
    """Return the finished cells of each prompt and noise under the same conditions, by guide, each picture once.

    :raises UsageError: a guide has several, which differ for example in an objective's scale.
    """
    found: dict[str, dict[str, CellRecord]] = {}
    for cell in cells:
        if cell["status"] == "done":
            stated = [*(cell[name] for name in _PAIRED_BY), cell["options"]]
            unit = found.setdefault(json.dumps(stated, sort_keys=True, default=str), {})
            guide = f"{cell['schedule']}{AT}{cell['guidance']}"
            if unit.setdefault(guide, cell)["key"] != cell["key"]:
                raise UsageError(
                    f"{guide} has several pictures of one prompt and noise, of other objective scales, say: choose one "
                    "of the study's grids"
                )
    return list({tuple(cell["key"] for cell in unit.values()): unit for unit in found.values()}.values())


def _matrix(
    guides: list[Guide], judges: list[str], units: list[tuple[str, ScoresByGuide]], left_out: list[str]
) -> Matrix:
    prompts = [prompt for prompt, _ in units]
    scaled: dict[str, dict[str, list[float]]] = {}
    for judge in judges:
        table = _standard_units([[unit[guide.name][judge] for guide in guides] for _, unit in units])
        if table is not None:
            scaled[judge] = dict(zip((g.name for g in guides), table, strict=True))
    left_out = [*left_out, *(judge for judge in judges if judge not in scaled)]
    judges = list(scaled)
    entries: dict[tuple[str, str], Entry] = {}
    pooled: dict[Own, list[list[float]]] = {"objective": [], "model": []}
    for guide in guides:
        own = {judge: _own(guide, judge) for judge in judges}
        for judge in judges:
            values = scaled[judge][guide.name]
            others = [scaled[other][guide.name] for other in judges if other != judge and not own[other]]
            inflation = None
            if others:
                gaps = [
                    value - math.fsum(column) / len(column)
                    for value, column in zip(values, zip(*others, strict=True), strict=True)
                ]
                inflation = estimate(gaps, prompts)
                if own[judge]:
                    pooled[own[judge]].append(gaps)
            entries[guide.name, judge] = Entry(estimate(values, prompts), inflation, own[judge])
    means: dict[Own, Estimate] = {
        kind: estimate([math.fsum(row) / len(row) for row in zip(*columns, strict=True)], prompts)
        for kind, columns in pooled.items()
        if columns
    }
    return Matrix(guides, judges, entries, len(units), len(set(prompts)), left_out, means)


def _standard_units(rows: Sequence[Sequence[float]]) -> list[list[float]] | None:
    """Centre each row (one pair) and divide by the standard deviation within rows. Return one column per guide, or
    None if all rows are constant.
    """
    centred = [[value - math.fsum(row) / len(row) for value in row] for row in rows]
    freedom = len(rows) * (len(rows[0]) - 1)
    deviation = math.sqrt(math.fsum(value**2 for row in centred for value in row) / freedom)
    if deviation <= 1e-12 * max(1.0, max(abs(value) for row in rows for value in row)):
        return None
    return [[value / deviation for value in column] for column in zip(*centred, strict=True)]


def _own(guide: Guide, judge: str) -> Own:
    objective, at, model = judge.partition(AT)
    if not at or model != guide.guidance:
        return ""
    name = objective.removeprefix(PROBABILITY).removesuffix(FACTS)
    return "objective" if name in guide.objectives else "model"


def _values(found: Estimate) -> dict[str, float | int | None]:
    return {
        "mean": found.mean,
        "low": found.low if found.has_interval else None,
        "high": found.high if found.has_interval else None,
        "n": found.n,
        "prompts": found.clusters,
    }
