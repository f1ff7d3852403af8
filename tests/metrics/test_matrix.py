"""Guides against judges: the numbers follow from the scores, and a made-up inflation is found."""

from __future__ import annotations

import random
import statistics
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from guidelens.errors import UsageError
from guidelens.metrics.matrix import judge_matrix
from guidelens.stats import estimate
from guidelens.studies.results import CellRecords, StudyResults

CONDITION = {
    "generator": "g",
    "preset": "none",
    "sampler": "ddpm",
    "eta": 0.0,
    "steps": 5,
    "respacing": "",
    "scale": 1.0,
    "perturbation": "none",
    "options": {},
    "reference": None,
    "status": "done",
    "grid": "main",
}
GUIDES = [("itc", "m"), ("itm", "m"), ("cap", "m")]
JUDGES = ["itc@m", "itm@m", "itc@other", "truth"]


def study(cells: list[dict[str, Any]], columns: list[list[str]] | None = None) -> StudyResults:
    config = {
        "kind": "study",
        "study": {"name": "s"},
        "schedules": [{"name": n, "weights": {n: [1.0]}} for n in ("itc", "itm", "cap")],
        "metrics": [
            {"columns": [{"name": name, "role": "judgement" if "@" in name else "alignment"} for name in c]}
            for c in columns or [["itc@m", "itm@m"], ["itc@other"], ["truth", "more"]]
        ],
    }
    result = StudyResults(Path("runs/s"), config)
    result.__dict__["cells"] = CellRecords(cells)
    return result


def cells(bonus: float, prompts: int = 12, seeds: int = 2) -> list[dict[str, Any]]:
    """Every judge sees the same quality and noise of its own; itc@m adds ``bonus`` where itc guided."""
    rng = random.Random(0)
    made = []
    for p in range(prompts):
        for seed in range(seeds):
            hard = rng.gauss(0, 5)
            for schedule, guidance in GUIDES:
                quality = rng.gauss(0, 1) + hard
                scores = {judge: 10 * (quality + rng.gauss(0, 0.2)) for judge in JUDGES}
                scores["more"] = 1.0
                if schedule == "itc":
                    scores["itc@m"] += 10 * bonus
                made.append(
                    {
                        **CONDITION,
                        "key": f"{p}{seed}{schedule}",
                        "prompt": f"p{p}",
                        "clean": f"p{p}",
                        "seed": seed,
                        "schedule": schedule,
                        "guidance": guidance,
                        "metrics": scores,
                    }
                )
    return made


def test_the_numbers_follow_from_the_scores() -> None:
    """Against a computation of its own, by numpy."""
    import numpy as np

    made = cells(0.7)
    matrix = judge_matrix(study(made))
    assert matrix.judges == ["itc@m", "itm@m", "itc@other", "truth"]
    assert (matrix.pairs, matrix.prompts) == (24, 12)
    table = np.array([[c["metrics"][j] for j in JUDGES] for c in made]).reshape(24, 3, 4)
    centred = table - table.mean(1, keepdims=True)
    z = centred / np.sqrt((centred**2).sum((0, 1)) / (24 * 2))
    prompts = [f"p{i // 2}" for i in range(24)]
    for g, (schedule, _) in enumerate(GUIDES):
        for j, judge in enumerate(JUDGES):
            entry = matrix.entries[f"{schedule}@m", judge]
            assert astuple(entry.score) == pytest.approx(astuple(estimate(z[:, g, j], prompts)))
            others = [k for k in (2, 3) if k != j]
            assert entry.inflation is not None
            expected = estimate(z[:, g, j] - z[:, g, others].mean(1), prompts)
            assert astuple(entry.inflation) == pytest.approx(astuple(expected))


def test_what_is_ones_own() -> None:
    entries = judge_matrix(study(cells(0))).entries
    assert entries["itc@m", "itc@m"].own == "objective"
    assert entries["itc@m", "itm@m"].own == "model"
    assert entries["itc@m", "itc@other"].own == entries["itc@m", "truth"].own == ""


def test_inflation_is_found_and_only_where_it_is() -> None:
    matrix = judge_matrix(study(cells(1.0)))
    own = matrix.entries["itc@m", "itc@m"].inflation
    assert own is not None
    assert own.low > 0.3
    innocent = matrix.entries["itm@m", "itm@m"].inflation
    assert innocent is not None
    assert abs(innocent.mean) < 0.15
    none = judge_matrix(study(cells(0.0)))
    assert abs(none.inflation["objective"].mean) < 0.1
    assert matrix.inflation["objective"].mean == pytest.approx(
        statistics.mean(matrix.entries[f"{n}@m", f"{n}@m"].inflation.mean for n in ("itc", "itm"))  # type: ignore[union-attr]
    )
    assert set(matrix.as_dict()["inflation"]) == {"objective", "model"}


def test_units_of_a_judge_do_not_matter() -> None:
    made = cells(0.5)
    rescaled = [{**c, "metrics": {**c["metrics"], "truth": 3 * c["metrics"]["truth"] - 7}} for c in made]
    before, after = judge_matrix(study(made)), judge_matrix(study(rescaled))
    for key, entry in before.entries.items():
        assert after.entries[key].score.mean == pytest.approx(entry.score.mean)


def test_only_complete_pairs_count() -> None:
    made = cells(0.5)
    made[0]["status"] = "failed"
    del made[4]["metrics"]["truth"]
    matrix = judge_matrix(study(made))
    assert matrix.pairs == 22
    twice = judge_matrix(study([*made, *({**c, "grid": "again"} for c in made)]))
    assert twice.pairs == 22
    stated = judge_matrix(study([*made, *({**c, "grid": "again", "options": {"every": 1}} for c in made)]))
    assert stated.pairs == 22  # one picture is one, whether or not its grid states a default
    for cell in made:
        cell["metrics"]["truth"] = 1.0
    assert judge_matrix(study(made)).left_out == ["truth"]


def test_prompts_of_one_wording_and_two_references_are_two() -> None:
    made = cells(0.5)
    other = [{**c, "key": f"{c['key']}r", "reference": f"meant by {c['prompt']}"} for c in made]
    assert judge_matrix(study([*made, *other])).pairs == 48


def test_what_makes_no_matrix() -> None:
    made = cells(0.5)
    scaled = [{**c, "key": f"{c['key']}x"} for c in made]
    with pytest.raises(UsageError, match="itc@m has several pictures of one prompt and noise"):
        judge_matrix(study([*made, *scaled]))
    with pytest.raises(UsageError, match="has no grid 'x'; it has main"):
        judge_matrix(study(made), grid="x")
    with pytest.raises(UsageError, match="at least two guides"):
        judge_matrix(study([c for c in made if c["schedule"] == "itc"]))
    with pytest.raises(UsageError, match="at least two judges; here truth"):
        judge_matrix(study(made), judges=["truth"])
    with pytest.raises(UsageError, match="no prompt and noise has pictures of all 3 guides"):
        judge_matrix(study([c for c in made if c["seed"] == 0 or c["schedule"] == "itc"][:1] + made[4:6]))
