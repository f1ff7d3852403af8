"""Questions behind scores: in rows, in tables of studies, on pages, and bounded."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens import Column, Prompt, QuestionScore, Sampling, compare, load_study
from guidelens.guarding import questioned_scores_of
from guidelens.metrics.judge import Judge
from guidelens.report.study_cells import cell_data
from guidelens.runs.record import rescored
from guidelens.runs.scoring import QUESTIONS_KEPT, TEXT_KEPT, NamedMetric, Scores, score
from guidelens.studies.results import flat
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny world

from tiny_world import TinyGenerator, TinyGuidance, Weights


class Asking:
    """Returns what it is made with, for each picture."""

    name = "asking"
    columns = (Column("asked", "number of questions"),)

    def __init__(self, *questions: Any) -> None:
        self.questions = list(questions)

    def score(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        raise AssertionError("score_questions() gives the scores")

    def score_questions(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> list[Any]:
        return [({"asked": len(self.questions)}, self.questions) for _ in prompts]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("questions") / "run"
    judge = Judge(TinyGuidance(), "tiny", ["itc"], facts=True)
    compare(
        ["a red car left of <b>two dogs</b>", "@@@"],
        sampling=Sampling(steps=2),
        out=out,
        generator=TinyGenerator(),
        guidance=TinyGuidance(),
        schedules=[Weights("itc", {"itc": 1.0})],
        metrics=[NamedJudge(judge), Asking(QuestionScore("is it </script> so?", 0.25, holds=False))],
        device="cpu",
    )
    return out


class NamedJudge:
    name = "judged"

    def __init__(self, judge: Judge) -> None:
        self.columns, self.score, self.score_questions = judge.columns, judge.score, judge.score_questions


def test_a_row_has_the_mean_and_each_question(directory: Path) -> None:
    rows = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    car = next(row for row in rows if "car" in row["prompt"])
    listed = car["questions"]["judged"]
    assert {"a car", "a red car"} <= {question["text"] for question in listed}
    assert {question["by"] for question in listed} == {"itc"}
    mean = sum(question["score"] for question in listed) / len(listed)
    assert car["metrics"]["itc-facts@tiny"] == pytest.approx(mean, rel=1e-4)
    assert car["questions"]["asking"] == [{"text": "is it </script> so?", "score": 0.25, "holds": False}]
    other = next(row for row in rows if "car" not in row["prompt"])
    assert "judged" not in other["questions"]
    assert "itc-facts@tiny" not in other["metrics"]


def test_the_table_of_a_study_has_them_and_its_flat_form_does_not(directory: Path) -> None:
    study = load_study(directory)
    cell, *_ = study.cells.where(prompt="@@@")
    assert cell["questions"]["asking"][0]["score"] == 0.25
    data = cell_data(study, {})
    assert data[cell["key"]]["questions"] == [
        {"title": "asking", "lines": [["is it </script> so?", "0.25", "does not hold"]]}
    ]
    assert not any(name.startswith("question") for name in flat(cell))


def test_the_page_shows_them_escaped(directory: Path) -> None:
    page = (directory / "index.html").read_text(encoding="utf-8")
    assert "<summary>asking: 1 question</summary>" in page
    assert "<dt>is it &lt;/script&gt; so?</dt><dd>0.25, does not hold</dd>" in page
    assert "<summary>judged by itc:" in page
    assert "is it </script>" not in page


def test_what_a_row_keeps_is_bounded() -> None:
    metric = NamedMetric("asking", Asking(*[QuestionScore("x" * 900, 1 / 3)] * 90))
    (found,) = score([metric], [Image.new("RGB", (4, 4))], [Prompt("a dog")])
    kept = found.questions["asking"]
    assert len(kept) == QUESTIONS_KEPT
    assert len(kept[0]["text"]) == TEXT_KEPT
    assert kept[0]["score"] == 0.333333
    assert found.values == {"asked": 90.0}


def test_scoring_again_replaces_the_questions_of_that_metric(directory: Path) -> None:
    row = json.loads((directory / "results.jsonl").read_text().splitlines()[0])
    metric = NamedMetric("asking", Asking())
    again = rescored(row, Scores({"asked": 0.0}, {"asking": "2"}), [metric])
    assert "asking" not in again.get("questions", {})
    assert again.get("questions", {}).get("judged") == row["questions"].get("judged")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("is it red?", "returned a str, not a QuestionScore"),
        (
            QuestionScore("is it red?", float("nan")),
            "the score of 'is it red\\?' is nan, not a finite number",
        ),
    ],
)
def test_bad_questions_are_the_metrics_fault(question: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        questioned_scores_of(Asking(question), torch.zeros(1, 3, 4, 4), [Prompt("a dog")])
