"""Prompt sets of the shapes world: reproducible, disjoint halves, readable, of their category."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from guidelens.errors import UsageError
from guidelens_worlds.prompts import split_of
from guidelens_worlds.shapes.categories import Category
from guidelens_worlds.shapes.compose import scene_for
from guidelens_worlds.shapes.language import read, true_of
from guidelens_worlds.shapes.prompts import DEMO, PROMPTS

CATEGORIES = [name for name in get_args(Category) if name not in ("demo", "all")]


@pytest.mark.parametrize("category", CATEGORIES)
def test_drawn_prompts(category: Category) -> None:
    drawn = PROMPTS.draw(category, 30, seed=1)
    texts = [prompt.text for prompt in drawn]
    assert len(set(texts)) == 30
    assert {prompt.category for prompt in drawn} == {category}
    assert all(read(prompt.target) is not None for prompt in drawn)
    assert drawn == PROMPTS.draw(category, 30, seed=1)
    assert drawn[:7] == PROMPTS.draw(category, 7, seed=1)
    assert set(texts) != {prompt.text for prompt in PROMPTS.draw(category, 30, seed=2)}


@pytest.mark.parametrize("category", CATEGORIES)
def test_halves_are_disjoint(category: Category) -> None:
    halves = {}
    for split in ("test", "sweep"):
        drawn = [p for seed in (0, 1) for p in PROMPTS.draw(category, 15, seed=seed, split=split)]
        assert all(split_of(p.target) == split for p in drawn)
        halves[split] = {p.target for p in drawn}
    assert halves["test"].isdisjoint(halves["sweep"])


def named(category: Category) -> list:
    return [read(prompt.target) for prompt in PROMPTS.draw(category, 40, seed=4)]


def test_prompts_are_of_their_category() -> None:
    assert all(len(d.phrases) == 1 and d.phrases[0].count == 1 for d in named("single"))
    assert all(len(d.phrases) == 2 and d.relation is None for d in named("colors"))
    assert all(d.phrases[0].count in (2, 3) for d in named("counting"))
    assert all(d.relation is not None for d in named("positional"))
    assert all(p.size for d in named("size") for p in d.phrases)
    assert all(len(d.phrases) == 3 for d in named("multi-object"))
    assert all(d.ground and len(d.phrases) > 1 for d in named("long"))


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_prompt_has_a_scene(category: Category) -> None:
    """The world can show it: three large objects, say, have no room."""
    rng = random.Random(0)
    for prompt in PROMPTS.draw(category, 12, seed=5):
        description = read(prompt.target)
        assert description is not None
        assert true_of(description, scene_for(description, rng))


def test_misspellings_cannot_be_read_but_their_reference_can() -> None:
    for prompt in PROMPTS.draw("misspellings", 150, seed=0):
        assert prompt.reference is not None
        assert prompt.text != prompt.reference
        assert read(prompt.text) is None
        assert read(prompt.reference) is not None


def test_demo_and_all() -> None:
    assert PROMPTS.draw() == list(DEMO)
    assert PROMPTS.draw("demo", limit=2, seed=9) == PROMPTS.draw()[:2]
    with pytest.raises(UsageError, match="'demo' has 4 prompts, not 12"):
        PROMPTS.draw(limit=12)
    everything = PROMPTS.draw("all", 3)
    assert [prompt.category for prompt in everything] == [name for name in CATEGORIES for _ in range(3)]


def test_the_scored_categories_hold_200_prompts() -> None:
    assert len(PROMPTS.draw("single", 200)) == len(PROMPTS.draw("positional", 200)) == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"category": "animals"}, r"unknown category 'animals'; choose demo, all, single"),
        (
            {"category": "counting", "limit": 5000},
            r"'counting' has only \d+ prompts in the split test, not 5000",
        ),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PROMPTS.draw(**arguments)
