"""Prompt sets of the things world: reproducible, disjoint halves, readable, drawable, of their category."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from guidelens.errors import UsageError
from guidelens_worlds.description import Description, Phrase
from guidelens_worlds.prompts import split_of
from guidelens_worlds.things.categories import Category
from guidelens_worlds.things.compose import scene_for
from guidelens_worlds.things.language import RELATIONS, read, true_of
from guidelens_worlds.things.prompts import CONFUSABLE, DEMO, PROMPTS
from guidelens_worlds.things.vocabulary import THINGS

CATEGORIES = [name for name in get_args(Category) if name not in ("demo", "all")]


@pytest.mark.parametrize("category", CATEGORIES)
def test_drawn_prompts(category: str) -> None:
    n = 16
    drawn = PROMPTS.draw(category, n, seed=1)
    assert len({prompt.text for prompt in drawn}) == n
    assert {prompt.category for prompt in drawn} == {category}
    assert all(read(prompt.target) is not None for prompt in drawn)
    assert drawn == PROMPTS.draw(category, n, seed=1)
    assert drawn[:7] == PROMPTS.draw(category, 7, seed=1)


@pytest.mark.parametrize("category", CATEGORIES)
def test_halves_are_disjoint(category: str) -> None:
    halves = {}
    for split in ("test", "sweep"):
        drawn = PROMPTS.draw(category, 8, seed=0, split=split)  # type: ignore[arg-type]
        assert all(split_of(p.target) == split for p in drawn)
        halves[split] = {p.target for p in drawn}
    assert halves["test"].isdisjoint(halves["sweep"])


@pytest.mark.parametrize("category", ["demo", *CATEGORIES])
def test_every_prompt_has_a_scene(category: str) -> None:
    rng = random.Random(0)
    for prompt in DEMO if category == "demo" else PROMPTS.draw(category, 10, seed=5):
        description = read(prompt.target)
        assert description is not None
        assert true_of(description, scene_for(description, rng))


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_can_be_drawn(relation: str) -> None:
    description = Description((Phrase("dog", "blue"), Phrase("car", "red")), relation)
    assert true_of(description, scene_for(description, random.Random(1)))


@pytest.mark.parametrize(
    "description",
    [
        Description((Phrase("bear", count=2), Phrase("dog", count=2))),
        Description((Phrase("bear", size="large", count=3),)),
        Description((Phrase("camel", "blue"),)),
    ],
)
def test_what_cannot_be_drawn_is_named(description: Description) -> None:
    with pytest.raises(UsageError, match="found no scene of at most 3 things that shows '"):
        scene_for(description, random.Random(0))


def test_prompts_are_of_their_category() -> None:
    def named(category: str) -> list[Description]:
        return [d for p in PROMPTS.draw(category, 14, seed=4) if (d := read(p.target)) is not None]

    assert all(len(d.phrases) == 1 and d.ground is None for d in named("single"))
    assert all(len(d.phrases) == 1 and d.ground for d in named("place"))
    assert all(p.colour for d in named("colors") for p in d.phrases)
    assert all(d.phrases[0].count in (2, 3) for d in named("counting"))
    assert all(d.relation is not None for d in named("positional"))
    assert all(p.size for d in named("size") for p in d.phrases)
    assert all(len(d.phrases) == 3 for d in named("multi-object"))
    assert all(d.ground and d.sky and len(d.phrases) > 1 for d in named("long"))


def test_misspellings_cannot_be_read_but_their_reference_can() -> None:
    for prompt in PROMPTS.draw("misspellings", 60):
        assert read(prompt.text) is None
        assert prompt.reference is not None
        assert read(prompt.reference) is not None


def test_confusable_words_mean_themselves_where_they_can_be_drawn() -> None:
    drawn = PROMPTS.draw("confusable", 30, seed=2)
    assert any(prompt.reference is None for prompt in drawn)
    assert any(prompt.reference is not None for prompt in drawn)
    for prompt in drawn:
        words = set(prompt.text.split())
        assert words & {other for _, other in CONFUSABLE}
        assert (prompt.reference is None) == (read(prompt.text) is not None)
        if prompt.reference is not None:
            assert set(prompt.reference.split()) & {word for word, _ in CONFUSABLE}
    assert {word for word, _ in CONFUSABLE} & set(THINGS)


def test_demo_all_and_errors() -> None:
    assert tuple(PROMPTS.draw()) == DEMO
    assert [p.category for p in PROMPTS.draw("all", 2)] == [name for name in CATEGORIES for _ in range(2)]
    for arguments, message in (
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"limit": 9}, "'demo' has 4 prompts, not 9"),
        ({"category": "shapes"}, "unknown category 'shapes'; choose demo, all, single"),
        (
            {"category": "confusable", "limit": 500},
            r"'confusable' has only \d+ prompts in the split test, not 500",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            PROMPTS.draw(**arguments)  # type: ignore[arg-type]
