"""The engine that asks a study questions: pairing, correction, verdicts, what is missing. Claims are made up here."""

from __future__ import annotations

from typing import Any

import pytest
from claim_worlds import PROMPTS, cell, claim, found, jitter, plain, study
from guidelens.claims.conditions import Condition
from guidelens.claims.evaluate import evaluate, undecidable
from guidelens.claims.questions import Claim, Question, Term, column, cosine, difference, role
from guidelens.claims.table import as_dicts, verdict_lines

ITC, ITM, CAP = Condition("itc"), Condition("itm"), Condition("cap")
ALIGNMENT = role("alignment")


def more(name: str, high: Condition, low: Condition, measure: str = "alignment") -> Question:
    """Return the question whether ``high`` exceeds ``low``."""
    return Question(name, f"{high} exceeds {low}", difference(high, low, role(measure)))


def typos() -> tuple[Term, ...]:
    """Return what perturbing costs ITC, less what it costs CAP."""
    return tuple(
        Term(factor * sign, Condition(name, perturbed), ALIGNMENT)
        for factor, name in ((1.0, "cap"), (-1.0, "itc"))
        for sign, perturbed in ((1.0, True), (-1.0, False))
    )


S = Claim(
    "S", "CAP shows the scene", (more("S.scene", CAP, ITC), more("S.relation", ITM, ITC, "relation")), "one"
)
T = Claim("T", "CAP resists typos", (Question("T.typos", "typos", typos()),), "one")
U = Claim("U", "another paper's", (more("U.recall", CAP, ITC, "recall"),), "two")
CLAIMS = (S, T, U)


def test_what_all_pictures_of_a_prompt_share_cancels() -> None:
    """Prompts differ far more than schedules do: only pairs can tell."""

    def scores(c: dict[str, Any]) -> dict[str, float]:
        hard = float(c["pair"]) * 10
        return {"relation": hard + 0.3 * (c["schedule"] != "itc") + jitter(c, ""), "binding": hard}

    answer = found(evaluate(study(plain("itc", "cap", "itm"), scores), CLAIMS), "S.relation")
    assert answer.verdict == "supported"
    assert answer.result is not None
    assert answer.result.estimate.mean == pytest.approx(0.3, abs=0.06)


def test_what_a_study_does_not_measure_is_said() -> None:
    over = Question("V.steps", "s", (Term(1.0, ITC, ALIGNMENT, "fewest"), Term(-1.0, ITC, ALIGNMENT, "most")))
    made = study(plain("itc", "cap"), lambda c: {"alignment": 0.5}, roles=["alignment"])
    verdicts = evaluate(made, [*CLAIMS, Claim("V", "steps", (over,))])
    assert {v.claim.id: v.verdict for v in verdicts} == {
        "S": "undecided",
        "T": "not measured",
        "U": "not measured",
        "V": "not measured",
    }
    assert claim(verdicts, "S").headline == "undecided, measured in part"
    assert found(verdicts, "V.steps").needs == "needs ITC at two numbers of steps or more"
    assert found(verdicts, "T.typos").needs == "needs cells of CAP, perturbed prompts"
    assert found(verdicts, "S.relation").needs == "needs cells of ITM"
    assert found(verdicts, "U.recall").needs == "needs a metric with a column with the role recall"


def test_a_claim_is_asked_of_the_grids_that_speak_to_it() -> None:
    """Those of a source of which no grid names a claim are not asked at all."""
    grids = [{"name": "g", "claims": ["S.scene"]}, {"name": "h", "claims": ["T"]}]
    verdicts = evaluate(study(plain("itc", "cap", "itm"), lambda c: {"alignment": 0.5}, grids), CLAIMS)
    assert [v.claim.id for v in verdicts] == ["S", "T"]
    assert found(verdicts, "S.scene").result is not None
    assert found(verdicts, "S.relation").needs == "needs cells of ITM"
    assert claim(verdicts, "T").verdict == "not measured"


def test_names_of_claims_that_no_plugin_registers_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    grids = [{"name": "g", "claims": ["T", "S.scen"]}]
    evaluate(study(plain("itc", "cap"), lambda c: {"alignment": 0.5}, grids), CLAIMS)
    assert [record.getMessage() for record in caplog.records] == [
        "the grid 'g' names the claim 'S.scen', which no plugin registers (did you mean 'S.scene'?)"
    ]


def test_a_small_p_is_not_written_as_none() -> None:
    cells = [cell(p, s) for p in range(40) for s in ("itc", "both")]
    for c in cells:
        c["cosines"] = {"cap|itc": -0.5}
    term = Term(1.0, Condition("blend:cap,itc"), cosine("itc", "cap"))
    _, line = verdict_lines(
        evaluate(study(cells, lambda c: {}), [Claim("C", "c", (Question("C.1", "q", (term,)),))])
    )
    assert "corrected p below 0.001" in line


def test_unfinished_cells_and_cells_in_two_grids() -> None:
    cells = plain("itc", "cap")
    twice = [{**c, "grid": "h"} for c in cells]
    for c in cells[:4]:
        c["status"] = "missing"
    for c in twice[:4]:
        c["status"] = "missing"
    scene = found(
        evaluate(study(cells + twice, lambda c: {"alignment": 0.5 + jitter(c, "")}), CLAIMS), "S.scene"
    )
    assert scene.result is not None
    assert scene.result.estimate.n == PROMPTS - 2


def test_other_settings_make_other_pairs() -> None:
    """At two scales a prompt gives two values, each within its scale."""
    cells = [cell(p, s, scale=x) for p in range(PROMPTS) for s in ("itc", "cap") for x in (1.0, 9.0)]
    scores = lambda c: {"alignment": c["scale"] + 0.1 * (c["schedule"] == "cap")}  # noqa: E731
    scene = found(evaluate(study(cells, scores), CLAIMS), "S.scene").result
    assert scene is not None
    assert (scene.estimate.n, scene.estimate.clusters) == (2 * PROMPTS, PROMPTS)
    assert scene.estimate.mean == pytest.approx(0.1, abs=0.02)


def test_scales_of_an_objective_make_other_pairs_too() -> None:
    """An objective's own scale is a setting like any other: no value is a mean over several."""
    cells = [
        cell(p, s, objective_scales={"itc": x})
        for p in range(PROMPTS)
        for s in ("itc", "cap")
        for x in (1.0, 9.0)
    ]
    scores = lambda c: {"alignment": 0.1 * c["objective_scales"]["itc"] * (c["schedule"] == "cap")}  # noqa: E731
    scene = found(evaluate(study(cells, scores), CLAIMS), "S.scene")
    assert scene.result is not None
    assert (scene.result.estimate.n, scene.prompts) == (2 * PROMPTS, PROMPTS)
    assert sorted({round(pair.value, 0) for pair in scene.pairs}) == [0.0, 1.0]


def test_prompts_misspelt_by_hand_are_no_clean_prompts_and_no_evidence_of_their_own() -> None:
    """Two texts with one reference share their noise: they are two pairs, of one prompt."""
    cells = plain("itc", "cap")
    for p in range(PROMPTS):
        for s in ("itc", "cap"):
            text = f"pormpt {p}"
            cells.append(cell(p, s, prompt=text, clean=text, reference=f"prompt {p}"))
    scores = lambda c: {"alignment": 0.2 * (c["schedule"] == "cap") * (1 + ("por" in c["prompt"]))}  # noqa: E731
    scene = found(evaluate(study(cells, scores), CLAIMS), "S.scene")
    assert scene.result is not None
    assert (scene.result.estimate.n, scene.prompts) == (2 * PROMPTS, PROMPTS)
    values = sorted(pair.value for pair in scene.pairs)
    assert values == pytest.approx([0.2] * PROMPTS + [0.4] * PROMPTS, abs=0.1)


def test_a_perturbation_that_one_schedule_lacks_is_left_out_of_both() -> None:
    """In an unfinished study CAP has drawn the mild typos only: ITC is not charged for the bad ones."""
    cells = plain("itc", "cap")
    for p in range(PROMPTS):
        for s, kinds in (("itc", (1, 4)), ("cap", (1,))):
            cells += [cell(p, s, perturbation=f"typo:edits={n}", edits=n, prompt=f"{n} {p}") for n in kinds]
    scores = lambda c: {"alignment": -0.1 * c["edits"]}  # noqa: E731
    result = found(evaluate(study(cells, scores), CLAIMS), "T.typos").result
    assert result is not None
    assert result.estimate.n == PROMPTS
    assert result.estimate.mean == pytest.approx(0, abs=0.03)


def test_a_column_may_be_named_and_called_after_a_model_with_options() -> None:
    name = "itm@shapes:variant=clean"
    made = study(plain("itc", "cap"), lambda c: {})
    for c in made.cells:
        c["metrics"] = {name: float(c["schedule"] == "cap") + jitter(c, "")}
    made.config["metrics"] = [{"name": "judge", "columns": [{"name": name}]}]
    own = Question("J.1", "q", difference(CAP, ITC, column(name)))
    ((answer,),) = (v.answers for v in evaluate(made, [Claim("J", "j", (own,))]))
    assert (answer.column, answer.verdict) == (name, "supported")


def test_a_column_may_be_better_when_it_is_lower() -> None:
    """CAP has the smaller error: it is the better one. The column's name is never asked for."""
    made = study(plain("itc", "cap"), lambda c: {})
    for c in made.cells:
        c["metrics"] = {"error": float(c["schedule"] == "itc") + jitter(c, "")}
    made.config["metrics"] = [
        {"name": "m", "columns": [{"name": "error", "role": "alignment", "higher_is_better": False}]}
    ]
    assert found(evaluate(made, [S]), "S.scene").verdict == "supported"


def test_a_shift_over_one_step_makes_no_other_schedule_of_it() -> None:
    """With a single step SHIFT is CAP alone; at the numbers of steps beside it, it is SHIFT."""
    scores = lambda c: {"alignment": float(c["schedule"] == "mine") + jitter(c, "")}  # noqa: E731
    made = study(plain("itc", "mine"), scores)
    made.config["schedules"] = [{**s, "steps": 3} for s in made.config["schedules"]]
    made.config["schedules"].append({"name": "mine", "steps": 1, "weights": {"cap": [1.0]}})
    own = Claim("X", "x", (more("X.shift", Condition("shift:cap,itc"), ITC),))
    assert found(evaluate(made, [own]), "X.shift").verdict == "supported"


def test_questions_of_two_claims_may_have_one_name() -> None:
    """What is corrected is the question, not its name."""

    def scores(c: dict[str, Any]) -> dict[str, float]:
        cap = float(c["schedule"] == "cap")
        return {"alignment": cap, "realism": cap * (-1) ** int(c["pair"])}

    claims = [
        Claim("A", "a", (more("same", CAP, ITC),)),
        Claim("B", "b", (more("same", CAP, ITC, "realism"),)),
    ]
    first, second = evaluate(study(plain("itc", "cap"), scores), claims)
    assert (first.verdict, second.verdict) == ("supported", "undecided")


def test_many_questions_cost_certainty() -> None:
    """An effect that passes alone does not where twenty are asked; the p of all is at most 1."""
    scores = lambda c: {"alignment": (0.3 if int(c["pair"]) % 4 else -0.25) * (c["schedule"] == "cap")}  # noqa: E731
    made = study(plain("itc", "cap"), scores)
    alone = found(evaluate(made, [Claim("A", "a", (more("A.0", CAP, ITC),))]), "A.0")
    many = evaluate(made, [Claim("A", "a", tuple(more(f"A.{i}", CAP, ITC) for i in range(20)))])
    assert alone.verdict == "supported"
    assert {a.verdict for v in many for a in v.answers} == {"undecided"}
    assert max(a.adjusted for v in many for a in v.answers) <= 1.0


def test_questions_that_are_planned_count_before_they_are_answered() -> None:
    """A look at a study half-way is corrected for what is still to come, so that it decides no more easily."""
    cells = plain("itc", "cap", "itm")
    for c in cells:
        c["status"] = "missing" if c["schedule"] == "itm" else "done"
    later = [more(f"A.{i}", ITM, ITC) for i in range(9)]
    scores = lambda c: {"alignment": 0.1 * (c["schedule"] == "cap") + jitter(c, "")}  # noqa: E731
    (verdict,) = evaluate(study(cells, scores), [Claim("A", "a", (more("A.now", CAP, ITC), *later))])
    now = verdict.answers[0]
    assert now.result is not None
    assert now.adjusted == pytest.approx(min(1.0, 10 * now.result.p))
    assert verdict.headline == "supported in part, interim"
    assert "supported (interim)" in "\n".join(verdict_lines([verdict]))
    assert as_dicts([verdict])[0]["interim"] is True


def test_questions_that_no_outcome_can_decide() -> None:
    """With 5 prompts p is 2/32 at least. Two questions with 6 prompts each get 2 x 2/64, and no longer 2/64."""

    def drawn(prompts: int) -> Any:
        cells = [cell(p, s) for p in range(prompts) for s in ("itc", "cap")]
        return study(cells, lambda c: {"alignment": 0.5}, [{"name": "g", "claims": ["A"]}])

    one, two = (Claim("A", "a", tuple(more(f"A.{i}", CAP, ITC) for i in range(n))) for n in (1, 2))
    assert undecidable(drawn(5), [one]) == {
        "A.0": "no outcome can decide it: with 5 prompts the corrected p is 0.062 or more"
    }
    assert undecidable(drawn(6), [one]) == {}
    assert list(undecidable(drawn(6), [two])) == ["A.0", "A.1"]
    assert undecidable(drawn(7), [two]) == {}


def test_the_table_has_every_question() -> None:
    made = study(plain("itc", "cap"), lambda c: {"alignment": 0.5 + jitter(c, "")}, roles=["alignment"])
    verdicts = evaluate(made, CLAIMS)
    text = "\n".join(verdict_lines(verdicts, everything=True))
    assert all(q.text in text for c in CLAIMS for q in c.questions)
    assert "S  UNDECIDED, MEASURED IN PART: CAP shows the scene\n  undecided " in text
    brief = "\n".join(verdict_lines(verdicts))
    assert "not measured  1 question (--all lists them)" in brief
    assert "needs" not in brief
    assert "T  NOT MEASURED: CAP resists typos" in text
    rows = [q for c in as_dicts(verdicts) for q in c["questions"]]
    scene = next(q for q in rows if q["question"] == "S.scene")
    assert scene["pairs"] == scene["prompts"] == PROMPTS
    assert next(q for q in rows if q["question"] == "T.typos")["needs"]


def test_a_question_of_your_own_may_compare_options() -> None:
    cells = [cell(p, "itc", options={"through": t}) for p in range(PROMPTS) for t in ("unet", "x0")]
    sides = [Condition("itc", columns={"through": t}) for t in ("x0", "unet")]
    own = Claim("C", "c", (Question("C.through", "t", difference(*sides, ALIGNMENT), direction=-1),))
    scores = lambda c: {"alignment": 0.3 * (c["options"]["through"] == "unet") + jitter(c, "")}  # noqa: E731
    (verdict,) = evaluate(study(cells, scores), [own])
    assert verdict.verdict == "supported"
    (answer,) = verdict.answers
    assert answer.result is not None
    assert answer.result.estimate.n == PROMPTS
