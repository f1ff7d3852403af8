"""The claims of the paper asked of invented worlds: right where the paper is right, in part where half is measured."""

from __future__ import annotations

from typing import Any

import pytest
from claim_worlds import PROMPTS, claim, everything, found, jitter, plain, study
from guidelens.claims.evaluate import evaluate
from guidelens_paper.claims import CLAIMS, OFTEN

QUALITY: dict[str, dict[str, float]] = {
    "alignment": {"itc": 0.4, "itm": 0.6, "cap": 0.8, "mine": 0.7, "both": 0.2},
    "realism": {"itc": 0.6, "itm": 0.4, "cap": 0.55, "mine": 0.7, "both": 0.2},
    "relation": {"itc": 0.3, "itm": 0.6, "cap": 0.7, "mine": 0.6, "both": 0.3},
    "binding": {"itc": 0.3, "itm": 0.6, "cap": 0.7, "mine": 0.6, "both": 0.3},
    "binding_shown": {"itc": 0.4, "itm": 0.7, "cap": 0.8, "mine": 0.7, "both": 0.4},
    "detail_main": {"itc": 0.9, "itm": 0.7, "cap": 0.6, "mine": 0.8, "both": 0.4},
    "recall_rest": {"itc": 0.2, "itm": 0.5, "cap": 0.8, "mine": 0.7, "both": 0.3},
}
TYPO = {"itc": 0.2, "itm": 0.05, "cap": 0.08, "mine": 0.1, "both": 0.2}
FEW_STEPS = {"itc": 0.05, "itm": 0.05, "cap": 0.3, "mine": 0.25, "both": 0.2}


def as_the_paper_says(c: dict[str, Any]) -> dict[str, float]:
    """Score a cell as in a world in which every claim holds. CAP resists typos a little less than ITM."""
    schedule = c["schedule"]
    scores = {role: by[schedule] + jitter(c, role) for role, by in QUALITY.items()}
    scores["alignment"] -= TYPO[schedule] * c["edits"]
    scores["realism"] -= FEW_STEPS[schedule] * (c["steps"] < 20)
    return scores


def with_conflict(cells: list[dict[str, Any]], share: float, mean: float = 0.1) -> list[dict[str, Any]]:
    """Give the cells under BLEND a share of steps with a negative cosine."""
    for c in cells:
        if c["schedule"] == "both":
            c["conflicts"] = {"cap|itc": share + jitter(c, "conflict")}
            c["cosines"] = {"cap|itc": mean + jitter(c, "cosine")}
    return cells


def paper_is_right() -> Any:
    """A world in which the paper is right; its gradients often conflict, and agree on average."""
    return study(with_conflict(everything(), 0.4), as_the_paper_says)


def test_a_world_in_which_the_paper_is_right_supports_every_claim() -> None:
    verdicts = evaluate(paper_is_right(), CLAIMS)
    assert {v.claim.id: v.headline for v in verdicts} == dict.fromkeys(
        ("F1", "F2", "F3", "F4", "F5", "F6"), "supported"
    )


def test_a_world_in_which_the_paper_is_wrong_contradicts_every_claim() -> None:
    def opposite(c: dict[str, Any]) -> dict[str, float]:
        return {role: -value for role, value in as_the_paper_says(c).items()}

    verdicts = evaluate(study(with_conflict(everything(), 0.05), opposite), CLAIMS)
    assert {v.verdict for v in verdicts} == {"contradicted"}
    assert all(list(v.parts) == ["contradicted"] for v in verdicts)


def test_a_clip_score_alone_measures_claims_in_part() -> None:
    """Half of a claim is no support of it, and the headline says so."""
    verdicts = evaluate(study(everything(), as_the_paper_says, roles=["alignment"]), CLAIMS)
    headlines = {v.claim.id: v.headline for v in verdicts}
    assert headlines["F1"] == "supported in part"
    assert claim(verdicts, "F1").of_which_parts == "supported: scene; not measured: detail, others"
    assert headlines["F6"] == "supported in part"
    assert {headlines[name] for name in ("F2", "F3", "F5")} == {"not measured"}
    assert headlines["F4"] == "supported"


def test_f1_asks_for_the_details_of_the_main_object() -> None:
    """CAP that also gives the main object more of its details is not what the paper says."""

    def scores(c: dict[str, Any]) -> dict[str, float]:
        better = {**as_the_paper_says(c)}
        better["detail_main"] = 0.9 * (c["schedule"] == "cap") + jitter(c, "detail")
        return better

    verdicts = evaluate(study(everything(), scores), CLAIMS)
    assert claim(verdicts, "F1").verdict == "contradicted"
    assert claim(verdicts, "F1").of_which_parts == "supported: others, scene; contradicted: detail"


def test_f4_asks_nothing_of_cap_against_itm() -> None:
    ids = {q.id for c in CLAIMS if c.id == "F4" for q in c.questions if not q.exploratory}
    assert ids == {"F4.itm", "F4.cap", "F4.shift"}
    one = found(evaluate(paper_is_right(), CLAIMS), "F4.itm")
    assert one.result is not None
    # Means over one and two edits: ITC loses 0.3, ITM 0.075.
    assert one.result.estimate.mean == pytest.approx(0.225, abs=0.05)
    two = found(evaluate(paper_is_right(), CLAIMS), "F4.itm.2")
    assert two.verdict == "exploratory"


def test_f5_asks_for_realism_at_few_steps_against_its_own_value_at_many() -> None:
    """CAP may be the more realistic one at any number of steps: what counts is what few steps cost it."""

    def scores(c: dict[str, Any]) -> dict[str, float]:
        return {"realism": 0.2 * (c["schedule"] in ("cap", "mine")) + as_the_paper_says(c)["realism"]}

    verdicts = evaluate(study(everything(), scores), CLAIMS)
    assert claim(verdicts, "F5").headline == "supported"
    answer = found(verdicts, "F5.itc-cap")
    assert answer.result is not None
    assert answer.result.estimate.mean == pytest.approx(0.25, abs=0.05)
    assert found(verdicts, "F5.itc-cap.plain").verdict == "exploratory"


def test_f5_compares_steps_within_one_way_of_choosing_timesteps() -> None:
    cells = [
        cell
        for way in ("", "ddim")
        for cell in ({**c, "respacing": way, "key": c["key"] + way} for c in everything() if c["options"])
    ]
    answer = found(evaluate(study(cells, as_the_paper_says), CLAIMS), "F5.itc-cap")
    assert len(answer.pairs) == 2 * answer.prompts


def test_f6_has_every_comparison() -> None:
    (f6,) = (c for c in CLAIMS if c.id == "F6")
    assert [q.part for q in f6.questions if not q.exploratory] == [
        "shift-itc.realism",
        "shift-itc.alignment",
        "shift-cap.realism",
        "cap-shift.alignment",
        "shift-blend.alignment",
        "itc-blend.alignment",
        "cap-blend.alignment",
        "shift-blend.realism",
        "itc-blend.realism",
        "cap-blend.realism",
        "conflict",
    ]


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.4, "supported"), (OFTEN, "undecided"), (0.1, "contradicted")]
)
def test_often_in_conflict_is_a_share_of_the_steps(share: float, verdict: str) -> None:
    """Gradients that agree on average may often be in conflict: the mean is shown beside, and decides nothing."""
    cells = with_conflict(plain("itc", "cap", "mine", "both"), share)
    verdicts = evaluate(study(cells, lambda c: {}), CLAIMS)
    conflict = found(verdicts, "F6.conflict")
    assert conflict.result is not None
    assert conflict.verdict == verdict
    assert conflict.result.estimate.mean == pytest.approx(share, abs=0.03)
    pictures = found(verdicts, "F6.conflict.pictures")
    assert pictures.result is not None
    negative = sum(c["cosines"]["cap|itc"] < 0 for c in cells if c["schedule"] == "both")
    assert pictures.result.estimate.mean == pytest.approx(negative / PROMPTS)
    mean = found(verdicts, "F6.conflict.mean")
    assert mean.result is not None
    assert (mean.verdict, round(mean.result.estimate.mean, 1)) == ("exploratory", 0.1)


def test_an_unfinished_study_is_interim_and_corrected_for_all_that_is_planned() -> None:
    """Only F1's pictures are drawn: p is multiplied as if all questions had been answered."""
    cells = with_conflict(everything(), 0.4)
    finished = evaluate(study(cells, as_the_paper_says), CLAIMS)
    for c in cells:
        if c["schedule"] not in ("itc", "cap") or c["options"] or c["edits"]:
            c["status"] = "missing"
    verdicts = evaluate(study(cells, as_the_paper_says), CLAIMS)
    assert all(v.interim and v.headline.endswith(", interim") for v in verdicts)
    assert not any(v.interim for v in finished)
    planned = sum(a.tested for v in finished for a in v.answers)
    assert planned == 31
    answer = found(verdicts, "F2.binding")
    assert answer.result is not None
    assert answer.result.p < 0.01
    assert answer.adjusted >= (planned - 3) * answer.result.p
    assert found(verdicts, "F6.conflict").needs == "its pictures are not drawn yet"


def test_ids_and_directions() -> None:
    questions = [q for c in CLAIMS for q in c.questions]
    assert len({q.id for q in questions}) == len(questions)
    assert all(q.direction in (1, -1) and q.id.startswith(f"{c.id}.") for c in CLAIMS for q in c.questions)
    assert [c.id for c in CLAIMS] == ["F1", "F2", "F3", "F4", "F5", "F6"]
    assert {c.source for c in CLAIMS} == {"Kong & Kwak (2023)"}
