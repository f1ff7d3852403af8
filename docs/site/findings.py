"""The tables of docs/findings.md: recorded from finished studies in docs/findings.json, and written into the page.

    python docs/site/findings.py record runs/findings runs/replication runs/findings-things
    python docs/site/findings.py rounding runs/findings runs/findings-one-thread
    python docs/site/findings.py write

``record`` takes the verdicts and means of studies, ``rounding`` compares two runs of one study that differ in rounding
alone. Both write the page as well.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from guidelens import PluginManager, load_study
from guidelens.claims.evaluate import evaluate
from guidelens.claims.table import as_dicts
from guidelens.files import write_file
from guidelens.stats import estimate
from guidelens.studies.results import StudyResults

DOCS = Path(__file__).parents[1]
PAGE, RECORD = DOCS / "findings.md", DOCS / "findings.json"
BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

SHOWN = ("alignment", "realism", "detail_main", "recall_rest", "binding", "binding_shown", "relation")
"""Roles whose means are tabled."""

Record = dict[str, Any]


def record(directories: Iterable[Path], into: Record) -> Record:
    """Add finished studies to a record, by their names.

    :raises SystemExit: for a study that lacks pictures.
    """
    studies = dict(into.get("studies", {}))
    for directory in directories:
        study = load_study(directory)
        missing = sum(cell["status"] != "done" for cell in study.keys.values())
        if missing:
            raise SystemExit(f"{directory} lacks {missing} pictures; run guidelens study resume {directory}")
        studies[study.name] = {
            "world": study.cells[0]["generator"].partition(":")[0],
            "pictures": len(study.keys),
            "versions": study.config["versions"],
            "claims": [
                _short(verdict) for verdict in as_dicts(evaluate(study, PluginManager.load().claims()))
            ],
            "means": _means(study),
        }
    return {**into, "studies": studies}


def rounding(first: StudyResults, second: StudyResults) -> Record:
    """Say how much of a study changes with rounding: verdicts, scores, pixels of two runs of the same cells."""
    keys = [key for key in first.keys if key in second.keys]
    claims = PluginManager.load().claims()
    one, two = (_verdicts(evaluate(study, claims)) for study in (first, second))
    differences = [_largest_difference(first, second, key) for key in keys]
    return {
        "pictures": len(keys),
        "scores": sum(_differ(first.keys[key]["metrics"], second.keys[key]["metrics"]) for key in keys),
        "pixels": round(median(differences), 3),
        "questions": len(one),
        "changed": [f"{name}: {one[name]}, {two[name]}" for name in one if one[name] != two[name]],
    }


def _verdicts(verdicts: Iterable[Any]) -> dict[str, str]:
    return {a.question.id: a.verdict for v in verdicts for a in v.answers if not a.question.exploratory}


def _differ(one: Mapping[str, float], two: Mapping[str, float]) -> bool:
    """Whether some score changed by more than pixels that round differently can change it."""
    return any(abs(one[name] - two.get(name, 0.0)) > 0.01 for name in one)


def _largest_difference(first: StudyResults, second: StudyResults, key: str) -> float:
    """Return the largest difference of a pixel of a cell's two pictures, in [-1, 1]."""
    import numpy as np

    one, two = (np.asarray(study.image(key), dtype=np.float64) for study in (first, second))
    return float(np.abs(one - two).max()) / 127.5


def _short(verdict: Mapping[str, Any]) -> Record:
    """Return what the page shows of a verdict, its numbers rounded."""
    names = (
        "question",
        "text",
        "verdict",
        "exploratory",
        "against",
        "mean",
        "low",
        "high",
        "pairs",
        "adjusted_p",
    )
    questions = [{name: _rounded(question.get(name)) for name in names} for question in verdict["questions"]]
    return {**{name: verdict[name] for name in ("claim", "text", "verdict", "parts")}, "questions": questions}


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _means(study: StudyResults) -> list[Record]:
    """Return the mean of every role that is shown, by grid, schedule, steps, edits and dose."""
    roles: dict[str, str] = {}
    for metric in study.config["metrics"]:
        for column in metric["columns"]:
            roles.setdefault(column["role"], column["name"])
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in study.cells:
        dose = cell["options"].get("dose", "plain")
        place = (cell["grid"], cell["schedule"], cell["steps"], cell["edits"], dose)
        groups.setdefault(place, []).append(cell)
    found = []
    for place, cells in groups.items():
        scores = {}
        for role in SHOWN:
            values = [
                (c["metrics"][roles[role]], c["clean"]) for c in cells if roles.get(role) in c["metrics"]
            ]
            if values:
                scores[role] = _rounded(estimate(*map(list, zip(*values, strict=True)), resamples=199).mean)
        found.append(
            {**dict(zip(("grid", "schedule", "steps", "edits", "dose"), place, strict=True)), "means": scores}
        )
    return found


def page(text: str, found: Record) -> str:
    """Return the page with every generated block written anew.

    :raises KeyError: for a block that there is no table for.
    """
    tables = {
        "agreed": lambda found: _agreed(found["studies"], found),
        "agreed-shapes": lambda found: _agreed(_of_world(found["studies"], "shapes"), found),
        "claims": _claims,
        "questions": _questions,
        "means": _mean_tables,
        "rounding": _rounding,
    }
    return BLOCK.sub(lambda match: f"{match[1]}\n{tables[match[2]](found)}\n\n{match[3]}", text)


def _of_world(studies: Mapping[str, Record], world: str) -> Mapping[str, Record]:
    return {name: study for name, study in studies.items() if study["world"] == world}


def _agreed(studies: Mapping[str, Record], found: Record) -> str:
    """The questions that all of these studies decide in the same way, whatever the rounding, with the means."""
    if not studies:
        return _NOTHING
    changed = {
        line.partition(":")[0] for runs in found.get("rounding", {}).values() for line in runs["changed"]
    }
    lines = []
    for claims in zip(*(study["claims"] for study in studies.values()), strict=True):
        for answers in zip(*(claim["questions"] for claim in claims), strict=True):
            verdicts = {answer["verdict"] for answer in answers}
            stable = len(verdicts) == 1 and answers[0]["question"] not in changed
            if stable and verdicts & {"supported", "contradicted"}:
                means = ", ".join(f"{answer['mean']:+.2f}" for answer in answers)
                lines.append(
                    f"- **{verdicts.pop()}**: {answers[0]['text']} (`{answers[0]['question']}`: {means})"
                )
    return "\n".join(lines) or "The studies decide no question in the same way."


def _claims(found: Record) -> str:
    """One row a claim: its verdict in each study, and of which parts."""
    studies = found["studies"]
    if not studies:
        return _NOTHING
    rows = [["", "claim", *studies]]
    for claims in zip(*(study["claims"] for study in studies.values()), strict=True):
        cells = [f"**{claim['verdict']}**<br>{_parts(claim['parts'])}" for claim in claims]
        rows.append([claims[0]["claim"], claims[0]["text"], *cells])
    return _table(rows)


_NOTHING = "No study has been recorded under these rules yet."


def _parts(parts: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in parts.items())


def _questions(found: Record) -> str:
    """One row a question that is tested: mean with interval and pairs, verdict and p, for each study."""
    studies = found["studies"]
    if not studies:
        return _NOTHING
    rows = [["question", "", *(word for name in studies for word in (name, ""))]]
    for claims in zip(*(study["claims"] for study in studies.values()), strict=True):
        for answers in zip(*(claim["questions"] for claim in claims), strict=True):
            if not answers[0]["exploratory"]:
                cells = [word for answer in answers for word in _answer(answer)]
                rows.append([f"`{answers[0]['question']}`", answers[0]["text"], *cells])
    return _table(rows)


def _answer(answer: Mapping[str, Any]) -> tuple[str, str]:
    if answer["mean"] is None:
        return "–", answer["verdict"]
    interval = "" if answer["low"] is None else f" ({answer['low']:+.2f} to {answer['high']:+.2f})"
    against = f" against {answer['against']:g}" if answer["against"] else ""
    decided = answer["verdict"] in ("supported", "contradicted")
    verdict = f"**{answer['verdict']}**" if decided else answer["verdict"]
    p = "below 0.001" if answer["adjusted_p"] < 0.0005 else f"{answer['adjusted_p']:.3f}"
    return f"{answer['mean']:+.2f}{interval}{against}, {answer['pairs']}", f"{verdict}, {p}"


def _mean_tables(found: Record) -> str:
    """One table a study: means of the roles by grid, schedule, steps and edits."""
    parts = []
    for name, study in found["studies"].items():
        rows = [["grid", "schedule", "steps", "edits", *(role.replace("_", " ") for role in SHOWN)]]
        for group in study["means"]:
            if group["dose"] == "plain" and group["grid"] == "steps":
                continue  # steps compare at equal dose
            scores = [f"{group['means'][role]:.2f}" if role in group["means"] else "–" for role in SHOWN]
            rows.append([group["grid"], group["schedule"], str(group["steps"]), str(group["edits"]), *scores])
        parts.append(f"`{name}`, {study['pictures']} pictures:\n\n{_table(rows)}")
    return "\n\n".join(parts) or _NOTHING


def _rounding(found: Record) -> str:
    """What changed between two runs that differ in rounding alone, for each study."""
    lines = []
    for name, told in found.get("rounding", {}).items():
        changed = told["changed"]
        lines.append(
            f"`{name}`, {told['pictures']} pictures drawn with one thread and with two: {told['scores']} have some "
            f"score that differs by more than 0.01. The median over pictures of the largest difference of a pixel is "
            f"{told['pixels']:g}, of pixels in [-1, 1]. Of {told['questions']} verdicts {len(changed)} change: "
            f"{'; '.join(changed) or 'none'}."
        )
    return "\n".join(lines) or "No study has been run with another number of threads yet."


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def main() -> None:
    """Do what the module's docstring says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("record").add_argument("studies", nargs="+", type=Path)
    actions.add_parser("rounding").add_argument("studies", nargs=2, type=Path)
    actions.add_parser("write")
    chosen = parser.parse_args()
    found: Record = json.loads(RECORD.read_text(encoding="utf-8"))
    if chosen.action == "record":
        found = record(chosen.studies, found)
    elif chosen.action == "rounding":
        first, second = map(load_study, chosen.studies)
        found["rounding"] = {**found.get("rounding", {}), first.name: rounding(first, second)}
    write_file(RECORD, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    write_file(PAGE, page(PAGE.read_text(encoding="utf-8"), found).encode())


if __name__ == "__main__":
    main()
