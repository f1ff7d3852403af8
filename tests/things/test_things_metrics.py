"""The things metric, on scenes made by hand: each column, empty pictures, and what does not apply."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from guidelens.contracts import ROLES, Metric, Prompt
from guidelens.testing import examine
from guidelens_worlds.things.language import describe, wording
from guidelens_worlds.things.metrics import COLUMNS, DETAILS, ThingsMetric, detail
from guidelens_worlds.things.vocabulary import NATURAL
from guidelens_worlds.things.world import Item, Scene, random_scene, render, render_batch
from scipy import ndimage

NAMES = {column.name for column in (*COLUMNS, *DETAILS)}
RED_CAR = Item("car", "red", 36, 28, 36)
BLUE_DOG = Item("dog", "blue", 24, 2, 38)
RED_DOG = Item("dog", "red", 24, 2, 38)
BLUE_CAR = Item("car", "blue", 36, 28, 36)


def scores(prompt: str | Prompt, *items: Item, ground: str = "street") -> dict[str, float]:
    image = torch.from_numpy(render(Scene(ground, "day", 30, items)))
    (row,) = ThingsMetric(details=True).score(
        image[None], [Prompt(prompt) if isinstance(prompt, str) else prompt]
    )
    return row


def test_it_is_a_metric() -> None:
    assert isinstance(ThingsMetric(), Metric)
    row = scores("a blue dog next to a red car", BLUE_DOG, RED_CAR)
    assert set(row) <= NAMES
    assert all(0 <= value <= 1 for value in row.values())


def test_every_column_has_a_meaning_and_a_range_and_claims_find_their_roles() -> None:
    columns = ThingsMetric(details=True).columns
    assert all(column.meaning and (column.low, column.high) == (0, 1) for column in columns)
    assert {column.role for column in columns} - {""} == set(ROLES) - {"judgement"}


def test_it_tells_good_from_bad() -> None:
    """By the conformance kit: pictures of nothing score below renderings of the prompts."""
    rng = random.Random(0)
    scenes = [random_scene(random.Random(seed)) for seed in range(4)]
    prompts = [Prompt(wording(describe(scene, rng, full=True), rng)) for scene in scenes]
    examples = list(zip(torch.from_numpy(render_batch(scenes)), prompts, strict=True))
    report = examine("metric", ThingsMetric(), examples=examples, prompts=prompts)
    report.raise_for_failures()
    assert report["bad-is-low"].status == "passed"


def test_all_right() -> None:
    row = scores("a blue dog next to a red car on the street", BLUE_DOG, RED_CAR)
    assert all(value == pytest.approx(1) for value in row.values())
    assert set(row) == NAMES - {"count"}


def test_fused_attributes_cost_binding_alone() -> None:
    row = scores("a blue dog and a red car", RED_DOG, BLUE_CAR)
    assert row["binding"] == row["binding_shown"] == 0
    assert row["recall"] == 0
    assert row["realism"] == pytest.approx(1)
    half = scores("a blue dog and a red car", BLUE_DOG, BLUE_CAR)
    assert half["binding_shown"] == 1, "nothing red: the car had no colour to be bound to"
    assert half["recall"] == 0.5


def test_main_and_rest() -> None:
    row = scores("a red car and a blue dog", RED_CAR)
    assert (row["recall_main"], row["recall_rest"], row["recall"]) == (1, 0, 0.5)
    row = scores("a red car and a blue dog", BLUE_DOG)
    assert (row["recall_main"], row["recall_rest"], row["detail_main"]) == (0, 1, 0)
    assert "recall_rest" not in scores("a red car", RED_CAR)


def test_relation_count_ground_and_precision() -> None:
    assert scores("a blue dog to the right of a red car", BLUE_DOG, RED_CAR)["relation"] == 0
    assert scores("two cars", RED_CAR)["count"] == 0
    assert scores("a car in the desert", RED_CAR)["ground"] == 0
    assert scores("a car in the desert", RED_CAR)["alignment"] == 0.5
    assert scores("a red car", RED_CAR, BLUE_DOG)["precision"] == 0.5


def test_an_empty_ground_scores_nothing() -> None:
    row = scores("a car on the street")
    applies = {"alignment", "realism", "recall", "recall_main", "detail_main", "ground", "precision"}
    assert row == dict.fromkeys(applies, 0.0)


def test_detail_falls_with_blur_and_position_counts() -> None:
    scene = Scene("snow", "day", 30, (Item("dog", NATURAL, 36, 14, 24),))
    picture = render(scene)
    values = [
        detail(ndimage.gaussian_filter(picture, (0, sigma, sigma)), scene, scene.items[0])
        for sigma in (0, 1, 2, 4)
    ]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.6
    assert detail(np.zeros_like(picture), scene, scene.items[0]) == 0
    assert detail(-picture, scene, scene.items[0]) == 0


def test_other_sentences_have_realism_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert set(scores("a red circle", RED_CAR)) == {"realism"}
    assert "'a red circle' is not a sentence of the things world" in caplog.text
    clean = Prompt("a car on the streat", reference="a car on the street")
    assert scores(clean, RED_CAR)["alignment"] == 1
