"""``facts`` and ``vqascore``: what is asked, which facts hold, and which columns follow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
import torch
from guidelens import Fact, PluginManager, Prompt, TextBatch, UsageError
from guidelens.metrics.facts import ROLES, FactsMetric, VqaScore
from guidelens.metrics.questions import YesNoModel
from guidelens.testing import check_metric


class Oracle:
    """Says yes to the given statements with probability 0.9, to everything else with 0.1."""

    fingerprint = "oracle"

    def __init__(self, *true: str, objectives: Collection[str] = ("itm",)) -> None:
        self.true = true
        self.objectives = frozenset(objectives)
        self.asked: list[str] = []

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        self.asked += prompts
        yes = torch.tensor([0.9 if prompt in self.true else 0.1 for prompt in prompts])
        return TextBatch(tuple(prompts), {"yes": yes})

    def losses(self, images: torch.Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Any]:
        return {name: -text.tensors["yes"].log() + 0 * images.mean((1, 2, 3)) for name in objectives}


PICTURE = torch.zeros(1, 3, 8, 8)


def scores(prompt: str | Prompt, *true: str, **options: Any) -> dict[str, float]:
    metric = FactsMetric(YesNoModel(Oracle(*true, **options), "oracle"))
    (found,) = metric.score(PICTURE, [prompt if isinstance(prompt, Prompt) else Prompt(prompt)])
    return {name.removeprefix("fact_").removesuffix("@oracle"): value for name, value in found.items()}


def test_the_attribute_on_the_wrong_object() -> None:
    """F2 of the paper: red appears, the car appears, but the car is not red."""
    found = scores("a red car left of a dog", "a car", "a dog", "something red")
    assert found.pop("mean") == pytest.approx((0.9 + 0.9 + 0.1 + 0.1) / 4)
    assert found == {
        "alignment": 0.5,
        "recall": 1.0,
        "recall_main": 1.0,
        "recall_rest": 1.0,
        "detail_main": 0.0,
        "binding": 0.0,
        "binding_shown": 0.0,
        "relation": 0.0,
    }
    assert scores("a red car", "a car", "a red car", "something red")["binding_shown"] == 1.0


def test_binding_shown_is_left_out_where_there_is_nothing_to_bind() -> None:
    found = scores("a red car", "a car")
    assert found["binding"] == 0.0
    assert "binding_shown" not in found


def test_what_is_said_of_an_absent_object_does_not_hold() -> None:
    found = scores("two red cars", "a red car", "two cars")
    assert found["binding"] == found["count"] == found["recall"] == found["alignment"] == 0.0


def test_facts_of_the_prompt_come_before_the_parser() -> None:
    facts = (Fact("object", "zebra"), Fact("other", question="Is it a photograph?", needs=(0,)))
    asked = Oracle("a zebra", "Is it a photograph?", objectives=("vqa", "itm"))
    metric = FactsMetric(YesNoModel(asked, "oracle"))
    (found,) = metric.score(PICTURE, [Prompt("a red car", facts=facts)])
    assert found["fact_alignment@oracle"] == 1.0
    assert asked.asked == ["a zebra", "Is it a photograph?"]


def test_a_question_is_not_put_to_a_model_that_matches_captions() -> None:
    facts = (Fact("other", question="Is it a photograph?"), Fact("object", "zebra", needs=(0,)))
    found = scores(Prompt("a zebra", facts=facts), "a zebra")
    assert found["alignment"] == found["recall"] == 1.0


def test_the_questions_are_reported_with_the_scores() -> None:
    model = YesNoModel(Oracle("a car"), "oracle")
    ((scores, asked),) = FactsMetric(model).score_questions(PICTURE, [Prompt("a red car")])
    assert scores["fact_mean@oracle"] == pytest.approx(0.5)
    assert [(q.text, q.by, q.holds) for q in asked] == [("a car", "itm", True), ("a red car", "itm", False)]
    ((scores, asked),) = VqaScore(model).score_questions(PICTURE, [Prompt("a rd car", reference="a red car")])
    assert [q.text for q in asked] == ["a red car"]
    assert asked[0].score == scores["vqascore@oracle"]


def test_per_question_answers() -> None:
    metric = FactsMetric(YesNoModel(Oracle("a car"), "oracle"))
    ((car, red),) = metric.answers(PICTURE, [Prompt("a red car")])
    assert (car.text, car.holds, red.text, red.holds) == ("a car", True, "a red car", False)
    assert car.probability == pytest.approx(0.9)


def test_a_misspelt_prompt_is_scored_by_its_clean_form() -> None:
    assert scores(Prompt("a rde car", reference="a red car"), "a car")["recall"] == 1.0


def test_what_the_parser_does_not_understand_is_said(caplog: pytest.LogCaptureFixture) -> None:
    scores("a sign that says 'Hello'")
    assert "not understood in \"a sign that says 'Hello'\": says quoted-text" in caplog.text


def test_vqascore_is_the_probability_of_yes() -> None:
    metric = VqaScore(YesNoModel(Oracle("a car"), "oracle"))
    assert metric.columns[0].role == "alignment"
    yes, no = metric.score(PICTURE.repeat(2, 1, 1, 1), [Prompt("a car"), Prompt("a dog")])
    assert yes["vqascore@oracle"] == pytest.approx(0.9)
    assert no["vqascore@oracle"] == pytest.approx(0.1)


def test_a_model_that_cannot_answer() -> None:
    with pytest.raises(UsageError, match="clip cannot answer yes or no: it needs vqa or itm, and it has itc"):
        YesNoModel(Oracle(objectives=["itc"]), "clip")
    with pytest.raises(UsageError, match="the objective cap of x is not a probability of yes"):
        YesNoModel(Oracle(objectives=["cap"]), "x", "cap")


def test_the_components_and_the_contract() -> None:
    plugins = PluginManager.load()
    metric = plugins.build("metric", "facts:guidance=shapes,threshold=0.3")
    assert [column.role for column in metric.columns] == [role for role, _ in ROLES.values()]
    check_metric(metric, skip=["none-left-out"])  # binding_shown is of pictures that show something to bind
    check_metric(plugins.build("metric", "vqascore:guidance=shapes"))
    with pytest.raises(UsageError, match="threshold must be between 0 and 1"):
        plugins.build("metric", "facts:guidance=shapes,threshold=1")
