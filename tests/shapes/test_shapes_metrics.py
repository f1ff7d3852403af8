"""The shapes metric, on scenes made by hand: each column, empty pictures, and what does not apply."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from guidelens.contracts import Metric, Prompt
from guidelens_worlds.shapes.compose import scene_for
from guidelens_worlds.shapes.language import read
from guidelens_worlds.shapes.metrics import ShapesMetric
from guidelens_worlds.shapes.prompts import PROMPTS
from guidelens_worlds.shapes.world import Item, Scene, render

RED_CIRCLE = Item("red", "circle", 7.5, 10, 9)
BLUE_SQUARE = Item("blue", "square", 7.5, 20, 23)
RED_SQUARE = Item("red", "square", 7.5, 10, 9)
BLUE_CIRCLE = Item("blue", "circle", 7.5, 20, 23)
SMALL_GREEN = tuple(Item("green", "triangle", 4.6, x, 16) for x in (6, 16, 26))


def scores(prompt: str | Prompt, *items: Item, background: str = "gray") -> dict[str, float]:
    image = torch.from_numpy(render(Scene(background, items)))
    prompt = Prompt(prompt) if isinstance(prompt, str) else prompt
    (row,) = ShapesMetric().score(image[None], [prompt])
    return row


def names(metric: ShapesMetric) -> set[str]:
    return {column.name for column in metric.columns}


def test_it_is_a_metric() -> None:
    assert isinstance(ShapesMetric(), Metric)
    row = scores("a red circle above a blue square", RED_CIRCLE, BLUE_SQUARE)
    assert set(row) <= names(ShapesMetric())
    assert all(type(value) is float and 0 <= value <= 1 for value in row.values())


def test_all_right() -> None:
    row = scores("a red circle above a blue square on a gray background", RED_CIRCLE, BLUE_SQUARE)
    fidelity = row.pop("fidelity")
    assert fidelity > 0.99
    assert row == {"alignment": 1, "recall": 1, "binding": 1, "relation": 1, "precision": 1}


def test_wrong_relation() -> None:
    row = scores("a red circle below a blue square", RED_CIRCLE, BLUE_SQUARE)
    assert row["alignment"] == pytest.approx(2 / 3)
    assert (row["relation"], row["recall"], row["binding"], row["precision"]) == (0, 1, 1, 1)


def test_a_missing_object_takes_its_relation_along() -> None:
    row = scores("a red circle above a blue square", RED_CIRCLE)
    assert row["alignment"] == pytest.approx(1 / 3)
    assert (row["relation"], row["recall"], row["binding"], row["precision"]) == (0, 0.5, 1, 1)


def test_swapped_attributes_are_a_binding_error() -> None:
    row = scores("a red circle above a blue square", RED_SQUARE, BLUE_CIRCLE)
    assert (row["alignment"], row["recall"], row["binding"], row["precision"]) == (0, 0, 0, 0)
    half = scores(
        "a red circle and a blue square", RED_CIRCLE, BLUE_CIRCLE, Item("red", "square", 4.5, 26, 6)
    )
    assert (half["alignment"], half["recall"], half["binding"]) == (0.5, 0.5, 0.5)
    assert half["precision"] == pytest.approx(1 / 3)


def test_binding_looks_only_at_kinds_whose_parts_are_there() -> None:
    """No blue and no square: the blue square is missed (recall), not wrongly bound."""
    row = scores("a red circle and a blue square", RED_CIRCLE, SMALL_GREEN[2])
    assert (row["recall"], row["binding"], row["precision"]) == (0.5, 1, 0.5)


def test_size_is_part_of_recall_but_not_of_binding() -> None:
    row = scores("a small red circle", RED_CIRCLE)
    assert (row["alignment"], row["recall"], row["binding"]) == (0, 0, 1)


@pytest.mark.parametrize(("number", "count"), [(2, 1.0), (3, 0.0), (1, 0.0)])
def test_counts(number: int, count: float) -> None:
    row = scores("two small green triangles", *SMALL_GREEN[:number])
    assert (row["count"], row["alignment"], row["recall"]) == (count, count, 1)


def test_two_counts() -> None:
    row = scores(
        "two small green triangles and two red circles", *SMALL_GREEN[:2], Item("red", "circle", 4.5, 24, 26)
    )
    assert (row["count"], row["alignment"]) == (0.5, 0.5)


def test_extra_objects_lower_precision_only() -> None:
    row = scores("a red circle", RED_CIRCLE, BLUE_SQUARE)
    assert (row["alignment"], row["precision"]) == (1, 0.5)


def test_background() -> None:
    prompt = "a red circle on a pink background"
    assert scores(prompt, RED_CIRCLE, background="pink")["alignment"] == 1
    assert scores(prompt, RED_CIRCLE, background="gray")["alignment"] == 0.5


def test_a_background_off_the_palette_is_none() -> None:
    image = render(Scene("gray", (RED_CIRCLE,))).copy()
    image += np.where(image == image[:, :1, :1], np.float32(-0.4), np.float32(0))
    (row,) = ShapesMetric().score(
        torch.from_numpy(image)[None], [Prompt("a red circle on a gray background")]
    )
    assert row["alignment"] == 0.5
    assert row["fidelity"] < 0.5


@pytest.mark.parametrize(
    ("prompt", "columns"),
    [
        ("a red circle", {"alignment", "fidelity", "recall", "binding", "precision"}),
        ("a circle", {"alignment", "fidelity", "recall", "precision"}),
        ("two circles", {"alignment", "fidelity", "recall", "count", "precision"}),
        (
            "a red circle above a blue square",
            {"alignment", "fidelity", "recall", "binding", "relation", "precision"},
        ),
        (
            "a red circle on a gray background",
            {"alignment", "fidelity", "recall", "binding", "precision"},
        ),
    ],
)
def test_a_picture_without_objects_scores_0_in_every_column_that_applies(
    prompt: str, columns: set[str]
) -> None:
    """Empty, noise, NaN: nothing is dropped, and a background alone earns nothing."""
    noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    empty = torch.from_numpy(render(Scene("gray", ())))
    images = torch.stack([empty, noise, torch.full((3, 32, 32), torch.nan)])
    for row in ShapesMetric().score(images, [Prompt(prompt)] * 3):
        assert row == dict.fromkeys(columns, 0.0)
    assert set(scores(prompt, RED_CIRCLE, BLUE_SQUARE)) == columns


def test_a_misspelt_prompt_is_scored_against_its_reference() -> None:
    prompt = Prompt("a rde circle", reference="a red circle")
    assert scores(prompt, RED_CIRCLE)["alignment"] == 1
    assert scores(prompt, BLUE_CIRCLE)["alignment"] == 0


def test_a_foreign_prompt_gets_fidelity_only_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="guidelens"):
        assert set(scores("an armchair", RED_CIRCLE)) == {"fidelity"}
    assert "'an armchair' is not a sentence of the shapes world" in caplog.text


def test_each_picture_is_scored_alone() -> None:
    images = torch.stack(
        [torch.from_numpy(render(Scene("gray", (item,)))) for item in (RED_CIRCLE, BLUE_SQUARE, RED_SQUARE)]
    )
    prompts = [Prompt("a red circle"), Prompt("a blue square"), Prompt("a red circle")]
    rows = ShapesMetric().score(images, prompts)
    assert [row["alignment"] for row in rows] == [1, 1, 0]
    assert rows[1:2] == ShapesMetric().score(images[1:2], prompts[1:2])
    assert ShapesMetric().score(images[:0], []) == []


def test_pictures_and_prompts_must_pair() -> None:
    with pytest.raises(ValueError, match="zip"):
        ShapesMetric().score(torch.zeros(2, 3, 32, 32), [Prompt("a red circle")])


def test_true_scenes_of_every_category_score_1() -> None:
    """The oracle of ``guidelens shapes draw``: what a sentence says is drawn, read and found aligned."""
    rng = random.Random(0)
    for prompt in PROMPTS.draw("all", 4, seed=3):
        description = read(prompt.target)
        assert description is not None
        image = torch.from_numpy(render(scene_for(description, rng)))
        (row,) = ShapesMetric().score(image[None], [prompt])
        assert set(row.values()) == {1.0, row["fidelity"]}, (prompt, row)
        assert row["fidelity"] > 0.97


def details(prompt: str, *items: Item) -> dict[str, float]:
    image = torch.from_numpy(render(Scene("gray", items)))
    metric = ShapesMetric(details=True)
    (row,) = metric.score(image[None], [Prompt(prompt)])
    assert set(row) <= names(metric)
    return {name: row[name] for name in row if name not in names(ShapesMetric())}


def test_details_tell_the_first_from_the_rest() -> None:
    prompt = "a red circle, a blue square and a green triangle"
    assert details(prompt, RED_CIRCLE) == {
        "recall_first": 1,
        "recall_rest": 0,
        "detail_first": 1,
        "binding_shown": 1,
    }
    assert details(prompt, BLUE_SQUARE)["recall_first"] == 0
    assert details(prompt, BLUE_SQUARE)["recall_rest"] == 0.5
    assert details("a red circle", RED_CIRCLE) == {"binding_shown": 1}


def test_details_tell_large_from_small() -> None:
    prompt = "a large red circle and a small green triangle"
    row = details(prompt, RED_CIRCLE)
    assert (row["recall_large"], row["recall_small"], row["recall_first"]) == (1, 0, 1)
    assert details(prompt, SMALL_GREEN[2])["recall_small"] == 1
    assert "recall_large" not in details("a small green triangle", SMALL_GREEN[2])


def test_details_of_the_main_object_are_those_that_one_object_has() -> None:
    """Of "large", "red" and "circle": a large red square has two; parts of two objects do not add up."""
    prompt = "a large red circle and a blue square"
    assert details(prompt, RED_CIRCLE)["detail_first"] == 1
    assert details(prompt, RED_SQUARE)["detail_first"] == pytest.approx(2 / 3)
    assert details(prompt, RED_SQUARE, BLUE_CIRCLE)["detail_first"] == pytest.approx(2 / 3)
    assert details(prompt, SMALL_GREEN[2])["detail_first"] == 0
    assert details(prompt)["detail_first"] == 0
    assert "detail_first" not in details("a large red circle")


def test_every_column_says_what_it_is() -> None:
    roles = {column.name: column.role for column in ShapesMetric(details=True).columns}
    assert roles["alignment"] == "alignment"
    assert roles["fidelity"] == "realism"
    assert roles["detail_first"] == "detail_main"
    assert all(
        column.meaning and (column.low, column.high) == (0, 1) for column in ShapesMetric(True).columns
    )


def test_binding_shown_is_left_out_where_there_is_nothing_to_bind() -> None:
    assert "binding_shown" not in details("a red circle and a blue square")
    assert "binding_shown" not in details("a red circle and a blue square", SMALL_GREEN[2])
    assert details("a red circle and a blue square", RED_SQUARE, BLUE_CIRCLE)["binding_shown"] == 0
    assert details("a red circle and a blue square", RED_CIRCLE, SMALL_GREEN[2])["binding_shown"] == 1
