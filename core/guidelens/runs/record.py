"""The two records of a run: ``config.json``, its resolved configuration, and the rows of ``results.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.prompts import fact_values, facts_of
from guidelens.runs.config import FORMAT, Cell, RunSettings, differences
from guidelens.runs.notes import Note
from guidelens.runs.provenance import versions
from guidelens.runs.scoring import NamedMetric, Scores, check_columns
from guidelens.runs.store import image_name
from guidelens.runs.telemetry import summary
from guidelens.schedules import NamedSchedule

if TYPE_CHECKING:
    from guidelens.engine import Result


@dataclass(frozen=True)
class ComparisonRequest:
    """A request to :func:`guidelens.compare` with every name resolved."""

    settings: RunSettings
    prompts: tuple[Prompt, ...]
    schedules: tuple[NamedSchedule, ...]
    seeds: tuple[int, ...]
    metrics: tuple[NamedMetric, ...]
    device: str
    batch_size: int
    plugin_versions: Mapping[str, str]
    command: str = ""
    """The command line of the request; empty for a call from Python."""
    plugins: list[str] | None = None
    """Requests that load the same plugins again; None if a model is an object, which has no name."""
    perturbed: tuple[dict[str, Any], ...] = ()
    """The origin of each perturbed prompt: ``text``, ``reference``, ``clean``, ``perturbation``, ``edits``."""
    notes: tuple[Note, ...] = ()
    """What the reader should know about prompts and settings."""


def merged_config(request: ComparisonRequest, old: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the run's configuration with the prompts, schedules, seeds and metrics of ``request`` added.

    :raises UsageError: the run has other settings. The message names the first difference.
    """
    settings = request.settings.as_dict()
    schedules: list[dict[str, Any]] = [
        {"name": s.name, "weights": s.table(request.settings.steps).by_objective} for s in request.schedules
    ]
    old = old or {}
    if old:
        same = {
            kind: settings[kind]
            for kind in ("generator", "guidance")
            if old["settings"][kind]["fingerprint"] == settings[kind]["fingerprint"]
        }
        _refuse_difference({**old["settings"], **same}, settings, "")
        known = {s["name"]: s["weights"] for s in old["schedules"]}
        for schedule in schedules:
            if schedule["name"] in known:
                where = f"schedule {schedule['name']}: weights of "
                _refuse_difference(known[schedule["name"]], schedule["weights"], where)
    prompts = [
        {"text": p.text, "category": p.category, "reference": p.reference, "facts": fact_values(p.facts)}
        for p in request.prompts
    ]
    metrics = [metric.as_dict() for metric in request.metrics]
    metrics = list({metric["name"]: metric for metric in (*old.get("metrics", []), *metrics)}.values())
    check_columns(metrics)
    return {
        "guidelens_format": FORMAT,
        "settings": settings,
        "schedules": _union(old.get("schedules", []), schedules, ("name",)),
        "prompts": _union(old.get("prompts", []), prompts, ("text", "reference")),
        "perturbed": _union(old.get("perturbed", []), request.perturbed, ("text", "reference")),
        "notes": _union(
            old.get("notes", []),
            [{"prompt": note.prompt, "note": note.text} for note in request.notes],
            ("prompt", "note"),
        ),
        "seeds": [*old.get("seeds", []), *(s for s in request.seeds if s not in old.get("seeds", []))],
        "metrics": metrics,
        "device": request.device,
        "batch_size": request.batch_size,
        "commands": [*old.get("commands", []), *_new(request.command, old.get("commands", []))],
        "plugins": request.plugins,
        "versions": old.get("versions") or versions(request.plugin_versions),
        "batches": [list(batch) for batch in old.get("batches", [])],
    }


def make_row(
    key: str,
    cell: Cell,
    settings: RunSettings,
    result: Result,
    scores: Scores,
    telemetry: str,
    sha256: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the row of a finished cell.

    :param telemetry: the file with its steps.
    :param sha256: of the picture (``image``) and of that file (``telemetry``).
    :param provenance: where it was computed, see :func:`guidelens.runs.provenance.provenance`.
    """
    return {
        "key": key,
        "prompt": cell.prompt.text,
        "category": cell.prompt.category,
        "reference": cell.prompt.reference,
        "facts": fact_values(cell.prompt.facts),
        "schedule": cell.schedule.name,
        "seed": cell.seed,
        "generator": settings.generator.name,
        "guidance": settings.guidance.name,
        "steps": settings.steps,
        "sampler": settings.sampling.sampler,
        "scale": settings.sampling.scale,
        "image": image_name(key),
        "metrics": scores.values,
        "metric_errors": scores.errors,
        "scored": list(scores.scorers),
        "scorers": scores.scorers,
        **({"questions": scores.questions} if scores.questions else {}),
        **summary(result),
        "nonfinite_steps": int(result.nonfinite_steps),
        "seconds": round(float(result.seconds), 3),
        "telemetry": telemetry,
        "sha256": dict(sha256),
        **provenance,
    }


def rescored(row: Mapping[str, Any], scores: Scores, metrics: Sequence[NamedMetric]) -> dict[str, Any]:
    """Return ``row`` with the scores of ``metrics`` in place of those that it has of them."""
    names = {metric.name for metric in metrics}
    columns = {column for metric in metrics for column in metric.columns}
    errors = {name: reason for name, reason in row["metric_errors"].items() if name not in names}
    failed = names - scores.scorers.keys()
    scored = [name for name in row["scored"] if name not in failed]
    known = {name: version for name, version in row.get("scorers", {}).items() if name not in names}
    asked = {name: listed for name, listed in row.get("questions", {}).items() if name not in names}
    asked |= scores.questions
    return {
        **{name: value for name, value in row.items() if name != "questions"},
        **({"questions": asked} if asked else {}),
        "metrics": {**{c: v for c, v in row["metrics"].items() if c not in columns}, **scores.values},
        "metric_errors": {**errors, **scores.errors},
        "scored": [*scored, *(name for name in scores.scorers if name not in scored)],
        "scorers": {**known, **scores.scorers},
    }


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a row of results."""
    return Prompt(row["prompt"], row["category"], row["reference"], facts_of(row.get("facts", ())))


def _refuse_difference(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    for name, before, after in differences(old, new):
        raise UsageError(
            f"--out holds a run with other settings: {where}{name} is {before!r} there and {after!r} here; "
            "choose another --out, or the same settings"
        )


def _union(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], by: Sequence[str]
) -> list[dict[str, Any]]:
    merged = {tuple(item[name] for name in by): item for item in old}
    for item in new:
        merged.setdefault(tuple(item[name] for name in by), item)
    return list(merged.values())


def _new(command: str, known: Sequence[str]) -> list[str]:
    return [command] if command and command not in known else []
