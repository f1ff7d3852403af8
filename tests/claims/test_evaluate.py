"""Claims asked of invented results, in which the answer is known: each claim's sign, pairing, what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from guidelens.claims.conditions import Condition, role_of
from guidelens.claims.evaluate import Answer, Verdict, evaluate
from guidelens.claims.paper import CLAIMS
from guidelens.claims.questions import Claim, Question, Term, difference, slope_factors
from guidelens.claims.table import as_dicts, lines

PROMPTS = 16
WEIGHTS = {
    "itc": {"itc": [1.0, 1.0, 1.0]},
    "itm": {"itm": [1.0, 1.0, 1.0]},
    "cap": {"cap": [1.0, 1.0, 1.0]},
    "mine": {"cap": [1.0, 0.5, 0.0], "itc": [0.0, 0.5, 1.0]},
    "both": {"cap": [0.5, 0.5, 0.5], "itc": [0.5, 0.5, 0.5]},
}
COLUMNS = (
    "alignment",
    "fidelity",
    "relation",
    "binding",
    "binding_shown",
    "recall_first",
    "recall_rest",
    "recall_small",
    "recall_large",
)

Scores = Callable[[dict[str, Any]], dict[str, float]]


def cell(number: int, schedule: str, **changes: Any) -> dict[str, Any]:
    clean = f"prompt {number}"
    base = {
        "grid": "g",
        "key": f"{number}-{schedule}-{sorted(changes.items())}",
        "pair": f"{number}",
        "prompt": clean,
        "clean": clean,
        "schedule": schedule,
        "seed": 0,
        "status": "done",
        "perturbation": "none",
        "edits": 0,
        "reference": None,
        "respacing": "",
        "options": {},
        "objective_scales": {},
        "cosines": {},
        "metrics": {},
        **dict.fromkeys(("generator", "guidance", "preset", "sampler", "eta", "scale"), ""),
        "steps": 50,
    }
    return {**base, **changes}


def study(cells: list[dict[str, Any]], scores: Scores, grids: list[dict[str, Any]] | None = None) -> Any:
    rng = np.random.default_rng(0)
    for c in cells:
        noise = 0.02 * rng.standard_normal()
        c["metrics"] = {name: value + noise for name, value in scores(c).items()}
    config = {
        "schedules": [{"name": name, "weights": weights} for name, weights in WEIGHTS.items()],
        "metrics": [{"name": "m", "columns": list(COLUMNS)}],
        "grids": grids or [],
    }
    return SimpleNamespace(config=config, cells=cells)


def plain(*schedules: str) -> list[dict[str, Any]]:
    return [cell(p, s) for p in range(PROMPTS) for s in schedules]


def found(verdicts: list[Verdict], question: str) -> Answer:
    return next(a for v in verdicts for a in v.answers if a.question.id == question)


def claim(verdicts: list[Verdict], name: str) -> str:
    return next(v.verdict for v in verdicts if v.claim.id == name)


@pytest.mark.parametrize(
    ("schedule", "role"),
    [("itc", "itc"), ("mine", "shift:cap,itc"), ("both", "blend:cap,itc")],
)
def test_schedules_are_known_by_what_they_do(schedule: str, role: str) -> None:
    assert role_of(WEIGHTS[schedule]) == role


def test_other_schedules_have_no_role() -> None:
    assert role_of({"itc": [0.0, 1.0, 0.0], "cap": [1.0, 0.0, 1.0]}) == ""
    assert role_of({"itc": [0.0, 0.0]}) == ""
    assert role_of({"itc": [0.0, 1.0, 0.5], "cap": [1.0, 0.5, 0.0]}) == ""
    assert role_of({"itc": [0.0, 1.0], "cap": [1.0, 0.0]}) == "shift:cap,itc"
    assert role_of({"itc": [1.0, 0.0], "cap": [0.0, 1.0]}) == "shift:itc,cap"
    assert role_of({"itc": [None, 1.0]}) == "itc"


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "contradicted"), (0, "undecided")])
def test_a_planted_interaction_is_found_with_its_sign(sign: int, verdict: str) -> None:
    """ITC draws only what is named first, and is large; CAP draws everything."""

    def scores(c: dict[str, Any]) -> dict[str, float]:
        drops = 0.6 * sign * (c["schedule"] == "itc")
        return {
            "recall_first": 0.7,
            "recall_rest": 0.7 - drops,
            "recall_large": 0.7,
            "recall_small": 0.7 - drops,
            "alignment": 0.7 - drops,
        }

    cells = plain("itc", "cap")
    verdicts = evaluate(study(cells, lambda c: {k: v + jitter(c, k) for k, v in scores(c).items()}))
    assert claim(verdicts, "F1") == verdict
    order = found(verdicts, "F1.order").result
    assert order is not None
    assert order.estimate.mean == pytest.approx(0.6 * sign, abs=0.1)
    assert order.estimate.n == PROMPTS


def jitter(c: dict[str, Any], column: str) -> float:
    seed = [ord(x) for x in f"{c['key']}{column}"]
    return 0.05 * float(np.random.default_rng(seed).standard_normal())


def test_what_all_pictures_of_a_prompt_share_cancels() -> None:
    """Prompts differ far more than schedules do: only pairs can tell."""

    def scores(c: dict[str, Any]) -> dict[str, float]:
        hard = float(c["pair"]) * 10
        return {"relation": hard + 0.3 * (c["schedule"] != "itc") + jitter(c, ""), "binding": hard}

    answer = found(evaluate(study(plain("itc", "cap", "itm"), scores)), "F3.relation.itm")
    assert answer.verdict == "supported"
    assert answer.result is not None
    assert answer.result.estimate.mean == pytest.approx(0.3, abs=0.06)


def test_typos_are_compared_with_the_clean_run_of_the_same_schedule() -> None:
    """CAP is better throughout, and loses as much by edits as ITC: no support. With half the loss: support."""
    cells = plain("itc", "cap", "itm")
    for p in range(PROMPTS):
        for s in ("itc", "cap", "itm"):
            for edits in (1, 2):
                cells.append(
                    cell(p, s, perturbation=f"typo:edits={edits}", edits=edits, prompt=f"pormpt {p}")
                )

    def scores(resists: float) -> Scores:
        def of(c: dict[str, Any]) -> dict[str, float]:
            cap = c["schedule"] == "cap"
            loss = 0.2 * c["edits"] * (resists if cap else 1.0)
            return {"alignment": 0.9 * cap - loss + jitter(c, "")}

        return of

    same = evaluate(study(cells, scores(1.0)))
    assert claim(same, "F4") == "undecided"
    assert abs(found(same, "F4.itc").result.estimate.mean) < 0.05  # type: ignore[union-attr]
    half = evaluate(study(cells, scores(0.5)))
    assert claim(half, "F4") == "supported"
    assert found(half, "F4.itc").result.estimate.mean == pytest.approx(0.15, abs=0.05)  # type: ignore[union-attr]
    two = found(half, "F4.itc.2")
    assert two.verdict == "exploratory"
    assert math.isnan(two.adjusted)
    assert two.result.estimate.mean == pytest.approx(0.2, abs=0.05)  # type: ignore[union-attr]


def test_steps_are_compared_by_slope_at_each_dose() -> None:
    """CAP gains 0.1 a doubling at equal dose and nothing at constant scale; the others the reverse."""
    cells = [
        cell(p, s, steps=n, options={"dose": dose, "dose_steps": 40})
        for p in range(PROMPTS)
        for s in ("itc", "itm", "cap")
        for n in (10, 20, 40)
        for dose in ("plain", "matched")
    ]

    def scores(c: dict[str, Any]) -> dict[str, float]:
        gains = (c["schedule"] == "cap") == (c["options"]["dose"] == "matched")
        value = 0.1 * math.log2(c["steps"] / 10) * gains + 0.2 * jitter(c, "")
        return {"alignment": value, "fidelity": value}

    verdicts = evaluate(study(cells, scores))
    assert claim(verdicts, "F5") == "supported"
    assert found(verdicts, "F5.alignment.itm").result.estimate.mean == pytest.approx(0.1, abs=0.02)  # type: ignore[union-attr]
    plain_dose = found(verdicts, "F5.alignment.itm.plain")
    assert plain_dose.result.estimate.mean == pytest.approx(-0.1, abs=0.02)  # type: ignore[union-attr]
    assert plain_dose.verdict == "exploratory"


def test_slopes_are_least_squares() -> None:
    steps, values = [10, 25, 50, 100], [0.2, 0.5, 0.4, 0.9]
    factors = slope_factors(steps)
    slope = sum(factors[n] * v for n, v in zip(steps, values, strict=True))
    assert slope == pytest.approx(np.polyfit(np.log2(steps), values, 1)[0])
    assert slope_factors([50, 50]) == {}


def test_conflict_is_read_from_the_cosines_of_blend() -> None:
    cells = plain("itc", "cap", "mine", "both")
    for c in cells:
        if c["schedule"] in ("mine", "both"):
            c["cosines"] = {"cap|itc": (-0.4 if c["schedule"] == "both" else 0.9) + jitter(c, "cosine")}
    verdicts = evaluate(study(cells, lambda c: {"alignment": 0.5, "fidelity": 0.5}))
    conflict = found(verdicts, "F6.conflict")
    assert conflict.verdict == "supported"
    assert conflict.result.estimate.mean == pytest.approx(-0.4, abs=0.05)  # type: ignore[union-attr]


def test_what_a_study_does_not_measure_is_said() -> None:
    verdicts = evaluate(study(plain("itc", "cap"), lambda c: {"alignment": 0.5}))
    assert {v.claim.id: v.verdict for v in verdicts}["F5"] == "not measured"
    assert found(verdicts, "F5.alignment.itc").needs.startswith(
        "needs CAP, dose matched and ITC, dose matched at"
    )
    assert found(verdicts, "F4.itc").needs == "needs cells of CAP, perturbed prompts"
    assert found(verdicts, "F6.conflict").needs == "needs cells of BLEND"
    assert "recall_rest" in found(verdicts, "F1.order").needs
    without = study(plain("itc", "cap"), lambda c: {"alignment": 0.5})
    without.config["metrics"] = [{"name": "m", "columns": ["alignment"]}]
    needs = found(evaluate(without), "F1.order").needs
    assert needs == "needs a metric with the column recall_rest"


def test_another_column_stands_in_where_there_is_no_alignment() -> None:
    other = study(
        plain("itc", "cap"), lambda c: {"clip_score": 20 + 5 * (c["schedule"] == "cap") + jitter(c, "")}
    )
    other.config["metrics"] = [{"name": "clip", "columns": ["clip_score"]}]
    scene = found(evaluate(other), "F1.scene")
    assert (scene.column, scene.verdict) == ("clip_score", "supported")


def test_a_claim_is_asked_of_the_grids_that_speak_to_it() -> None:
    grids = [{"name": "g", "claims": ["F2", "F4.itc", "F1.scene"]}, {"name": "h", "claims": ["F3"]}]
    verdicts = evaluate(study(plain("itc", "cap", "itm"), lambda c: dict.fromkeys(COLUMNS, 0.5), grids))
    assert claim(verdicts, "F2") == "undecided"
    assert {claim(verdicts, name) for name in ("F3", "F5")} == {"not measured"}
    assert found(verdicts, "F1.scene").result is not None
    assert found(verdicts, "F1.order").result is None


def test_claims_that_nothing_is_called_are_told(caplog: pytest.LogCaptureFixture) -> None:
    grids = [{"name": "g", "claims": ["F2", "F1.scen"]}]
    evaluate(study(plain("itc", "cap"), lambda c: dict.fromkeys(COLUMNS, 0.5), grids))
    assert [record.getMessage() for record in caplog.records] == [
        "the grid 'g' speaks to 'F1.scen', which nothing asked is called (did you mean 'F1.scene'?)"
    ]


def test_a_small_p_is_not_written_as_none() -> None:
    cells = [cell(p, s) for p in range(40) for s in ("itc", "both")]
    for c in cells:
        c["cosines"] = {"cap|itc": -0.5}
    own = Claim(
        "C", "c", (Question("C.1", "q", (Term(1.0, Condition("blend:cap,itc"), ("cosine:cap|itc",)),)),)
    )
    (line,) = lines(evaluate(study(cells, lambda c: {}), [own]))[1:]
    assert "corrected p below 0.001" in line


def test_unfinished_cells_and_cells_in_two_grids() -> None:
    cells = plain("itc", "cap")
    twice = [{**c, "grid": "h"} for c in cells]
    for c in cells[:4]:
        c["status"] = "missing"
    for c in twice[:4]:
        c["status"] = "missing"
    scene = found(evaluate(study(cells + twice, lambda c: {"alignment": 0.5 + jitter(c, "")})), "F1.scene")
    assert scene.result is not None
    assert scene.result.estimate.n == PROMPTS - 2


def test_other_settings_make_other_pairs() -> None:
    """At two scales a prompt gives two values, each within its scale."""
    cells = [cell(p, s, scale=x) for p in range(PROMPTS) for s in ("itc", "cap") for x in (1.0, 9.0)]
    scores = lambda c: {"alignment": c["scale"] + 0.1 * (c["schedule"] == "cap")}  # noqa: E731
    scene = found(evaluate(study(cells, scores)), "F1.scene").result
    assert scene is not None
    assert (scene.estimate.n, scene.estimate.clusters) == (2 * PROMPTS, PROMPTS)
    assert scene.estimate.mean == pytest.approx(0.1, abs=0.02)


def test_slopes_are_taken_within_one_way_of_choosing_timesteps() -> None:
    """Evenly and by stride 10 and 20 steps each: two slopes a prompt, and no mean of the two ways."""
    cells = [
        cell(p, s, steps=n, respacing=way, options={"dose": "matched"})
        for p in range(PROMPTS)
        for s in ("itc", "cap")
        for n in (10, 20)
        for way in ("", "ddim")
    ]
    gain = {"": 0.1, "ddim": 0.3}
    scores = lambda c: {"alignment": gain[c["respacing"]] * (c["schedule"] == "cap") * (c["steps"] == 20)}  # noqa: E731
    slope = found(evaluate(study(cells, scores)), "F5.alignment.itc")
    assert len(slope.units) == 2 * PROMPTS
    assert sorted(u.value for u in slope.units) == pytest.approx([0.1] * PROMPTS + [0.3] * PROMPTS, abs=0.15)


def test_scales_of_an_objective_make_other_pairs_too() -> None:
    """An objective's own scale is a setting like any other: no value is a mean over several."""
    cells = [
        cell(p, s, objective_scales={"itc": x})
        for p in range(PROMPTS)
        for s in ("itc", "cap")
        for x in (1.0, 9.0)
    ]
    scores = lambda c: {"alignment": 0.1 * c["objective_scales"]["itc"] * (c["schedule"] == "cap")}  # noqa: E731
    scene = found(evaluate(study(cells, scores)), "F1.scene")
    assert scene.result is not None
    assert (scene.result.estimate.n, scene.prompts) == (2 * PROMPTS, PROMPTS)
    assert sorted({round(unit.value, 0) for unit in scene.units}) == [0.0, 1.0]


def test_prompts_misspelt_by_hand_are_no_clean_prompts_and_no_evidence_of_their_own() -> None:
    """Two texts with one reference share their noise: they are two pairs, of one prompt."""
    cells = plain("itc", "cap")
    for p in range(PROMPTS):
        for s in ("itc", "cap"):
            text = f"pormpt {p}"
            cells.append(cell(p, s, prompt=text, clean=text, reference=f"prompt {p}"))
    scores = lambda c: {"alignment": 0.2 * (c["schedule"] == "cap") * (1 + ("por" in c["prompt"]))}  # noqa: E731
    scene = found(evaluate(study(cells, scores)), "F1.scene")
    assert scene.result is not None
    assert (scene.result.estimate.n, scene.prompts) == (2 * PROMPTS, PROMPTS)
    values = sorted(unit.value for unit in scene.units)
    assert values == pytest.approx([0.2] * PROMPTS + [0.4] * PROMPTS, abs=0.1)


def test_a_perturbation_that_one_schedule_lacks_is_left_out_of_both() -> None:
    """In an unfinished study CAP has drawn the mild typos only: ITC is not charged for the bad ones."""
    cells = plain("itc", "cap")
    for p in range(PROMPTS):
        for s, kinds in (("itc", (1, 4)), ("cap", (1,))):
            cells += [cell(p, s, perturbation=f"typo:edits={n}", edits=n, prompt=f"{n} {p}") for n in kinds]
    scores = lambda c: {"alignment": -0.1 * c["edits"]}  # noqa: E731
    result = found(evaluate(study(cells, scores)), "F4.itc").result
    assert result is not None
    assert result.estimate.n == PROMPTS
    assert result.estimate.mean == pytest.approx(0, abs=0.03)


def test_a_column_may_be_called_after_a_model_with_options() -> None:
    column = "itm@shapes:variant=clean"
    sides = difference(Condition("cap"), Condition("itc"), (column,))
    made = study(plain("itc", "cap"), lambda c: {column: float(c["schedule"] == "cap") + jitter(c, "")})
    made.config["metrics"] = [{"name": "judge", "columns": [column]}]
    ((answer,),) = (v.answers for v in evaluate(made, [Claim("J", "j", (Question("J.1", "q", sides),))]))
    assert (answer.column, answer.verdict) == (column, "supported")


def test_a_shift_over_one_step_makes_no_other_schedule_of_it() -> None:
    """With a single step SHIFT is CAP alone; at the numbers of steps beside it, it is SHIFT."""
    made = study(
        plain("itc", "mine"), lambda c: {"alignment": float(c["schedule"] == "mine") + jitter(c, "")}
    )
    made.config["schedules"] = [{**s, "steps": 3} for s in made.config["schedules"]]
    made.config["schedules"].append({"name": "mine", "steps": 1, "weights": {"cap": [1.0]}})
    assert found(evaluate(made), "F6.shift-itc.alignment").verdict == "supported"


def test_questions_of_two_claims_may_have_one_name() -> None:
    """What is corrected is the question, not its name."""
    up = Question("same", "up", difference(Condition("cap"), Condition("itc"), ("alignment",)))
    none = Question("same", "none", difference(Condition("cap"), Condition("itc"), ("fidelity",)))

    def scores(c: dict[str, Any]) -> dict[str, float]:
        cap = float(c["schedule"] == "cap")
        return {"alignment": cap, "fidelity": cap * (-1) ** int(c["pair"])}

    claims = [Claim("A", "a", (up,)), Claim("B", "b", (none,))]
    first, second = evaluate(study(plain("itc", "cap"), scores), claims)
    assert (first.verdict, second.verdict) == ("supported", "undecided")


def test_few_prompts_are_said_to_decide_nothing() -> None:
    cells = [cell(p, s) for p in range(5) for s in ("itc", "cap")]
    scene = found(evaluate(study(cells, lambda c: {"alignment": float(c["schedule"] == "cap")})), "F1.scene")
    assert scene.verdict == "undecided"
    assert scene.note == "5 prompts: no test can come out with fewer than 6"


def test_many_questions_cost_certainty() -> None:
    """An effect that would pass alone does not where twenty are asked."""
    values = {p: (0.3 if p % 4 else -0.2) for p in range(PROMPTS)}

    def scores(c: dict[str, Any]) -> dict[str, float]:
        gain = values[int(c["pair"])] * (c["schedule"] != "itc")
        return {name: gain + jitter(c, name) for name in COLUMNS}

    verdicts = evaluate(study(plain("itc", "cap", "itm"), scores))
    asked = [a for v in verdicts for a in v.answers if a.result is not None]
    answer = found(verdicts, "F3.relation.itm")
    assert answer.result is not None
    assert answer.adjusted > answer.result.p
    assert max(a.adjusted for a in asked) <= 1.0


def test_ids_are_unique_and_directions_are_signs() -> None:
    questions = [q for c in CLAIMS for q in c.questions]
    assert len({q.id for q in questions}) == len(questions)
    assert all(q.direction in (1, -1) and q.id.startswith(c.id) for c in CLAIMS for q in c.questions)
    assert [c.id for c in CLAIMS] == ["F1", "F2", "F3", "F4", "F5", "F6"]


def test_the_table_has_every_question() -> None:
    verdicts = evaluate(study(plain("itc", "cap"), lambda c: {"alignment": 0.5 + jitter(c, "")}))
    text = "\n".join(lines(verdicts))
    assert all(q.id in text for c in CLAIMS for q in c.questions)
    assert "F5  NOT MEASURED: CAP needs more sampling steps" in text
    rows = [q for c in as_dicts(verdicts) for q in c["questions"]]
    scene = next(q for q in rows if q["question"] == "F1.scene")
    assert scene["pairs"] == scene["prompts"] == PROMPTS
    assert next(q for q in rows if q["question"] == "F4.itc")["needs"]


def test_a_question_of_your_own_may_compare_options() -> None:
    cells = [cell(p, "itc", options={"through": t}) for p in range(PROMPTS) for t in ("unet", "x0")]
    sides = [Condition("itc", columns={"through": t}) for t in ("x0", "unet")]
    own = Claim("C", "c", (Question("C.through", "t", difference(*sides, ("alignment",)), direction=-1),))
    scores = lambda c: {"alignment": 0.3 * (c["options"]["through"] == "unet") + jitter(c, "")}  # noqa: E731
    (verdict,) = evaluate(study(cells, scores), [own])
    assert verdict.verdict == "supported"
    (answer,) = verdict.answers
    assert answer.result is not None
    assert answer.result.estimate.n == PROMPTS
