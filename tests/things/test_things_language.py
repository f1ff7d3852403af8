"""Sentences of the things world: written, read, true and false."""

from __future__ import annotations

import random

import pytest
from guidelens_worlds.description import Description, Phrase
from guidelens_worlds.things.definition import WORLD
from guidelens_worlds.things.language import LANGUAGE, RELATIONS, describe, read, true_of, wording
from guidelens_worlds.things.vocabulary import GROUNDS, NATURAL, SIZES, SKIES, THINGS
from guidelens_worlds.things.world import Item, Scene, random_scene


def test_the_grammar_has_words_for_the_whole_world() -> None:
    grammar = LANGUAGE.grammar
    assert set(grammar.nouns) == set(THINGS)
    assert set(grammar.grounds) == set(GROUNDS)
    assert set(grammar.skies) == set(SKIES)
    assert set(grammar.sizes) == set(SIZES)


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("a camel in the desert", Description((Phrase("camel"),), ground="desert")),
        (
            "a blue dog next to a red car",
            Description((Phrase("dog", "blue"), Phrase("car", "red")), "next to"),
        ),
        ("two fish on the sea at night", Description((Phrase("fish", count=2),), None, "sea", "night")),
        ("A fish.", Description((Phrase("fish"),))),
        ("three cacti", Description((Phrase("cactus", count=3),))),
        ("a cat on a car on the street", Description((Phrase("cat"), Phrase("car")), "on", "street")),
        ("a bird by a house by day", Description((Phrase("bird"), Phrase("house")), "next to", sky="day")),
        ("there are two pieces of cake", Description((Phrase("cake", count=2),))),
        ("a dessert on the road", Description((Phrase("cake"),), ground="street")),
        (
            "a tree, a huge bear and two little purple balloons in the snow",
            Description(
                (Phrase("tree"), Phrase("bear", None, "large"), Phrase("balloon", "purple", "small", 2)),
                ground="snow",
            ),
        ),
    ],
)
def test_read(text: str, description: Description) -> None:
    assert read(text) == description


@pytest.mark.parametrize(
    "text",
    [
        "a camel in the dessert",
        "two camel",
        "a camels",
        "a bule dog",
        "a dog on",
        "in the desert",
        "a goat",
        "",
        "a dog a cat",
    ],
)
def test_what_is_not_a_sentence_of_this_world(text: str) -> None:
    assert read(text) is None


def test_every_caption_is_true_and_is_read_back() -> None:
    rng = random.Random(0)
    for _ in range(1500):
        scene = random_scene(rng)
        description = describe(scene, rng, full=rng.random() < 0.5)
        assert true_of(description, scene), (description, scene)
        for text in (wording(description), wording(description, rng)):
            assert read(text) == description, text


def test_a_full_description_names_everything_but_perhaps_the_sky() -> None:
    rng = random.Random(1)
    for _ in range(300):
        scene = random_scene(rng)
        description = describe(scene, rng, full=True)
        assert description.ground == scene.ground
        assert all(any(p.matches(item) for p in description.phrases) for item in scene.items)


def test_false_captions_are_false_in_what_was_asked_for() -> None:
    rng = random.Random(2)
    found = dict.fromkeys(WORLD.changes, 0)
    for _ in range(600):
        scene = random_scene(rng)
        description = describe(scene, rng, full=True)
        for kind in WORLD.changes:
            changed = LANGUAGE.corrupt(description, scene, rng, kind)
            if changed is not None:
                found[kind] += 1
                assert not true_of(changed, scene)
                assert (changed.ground != description.ground) == (kind == "ground")
                assert (changed.sky != description.sky) == (kind == "sky")
    assert all(number > 50 for number in found.values()), found


def test_relations_are_said_of_two_kinds() -> None:
    rng = random.Random(3)
    seen = set()
    for _ in range(1200):
        scene = random_scene(rng, 2)
        if len({(item.thing, item.colour) for item in scene.items}) == 2:
            description = LANGUAGE.describe_relation(scene, rng)
            assert true_of(description, scene)
            seen.add(description.relation)
    assert seen == set(RELATIONS)


CAR = Item("car", "red", 38, 20, 38)


@pytest.mark.parametrize(
    ("relation", "left", "top", "expected"),
    [
        ("left of", 0, 40, True),
        ("left of", 32, 40, False),
        ("right of", 50, 40, True),
        ("above", 30, 10, True),
        ("above", 0, 40, False),
        ("below", 30, 10, False),
        ("next to", 1, 42, True),
        ("next to", 1, 8, False),
        ("on", 30, 22, True),
        ("on", 30, 8, False),
        ("on", 0, 22, False),
        ("in front of", 28, 50, True),
        ("in front of", 0, 44, False),
        ("in front of", 28, 30, False),
    ],
)
def test_what_a_relation_means(relation: str, left: int, top: int, expected: bool) -> None:
    dog = Item("dog", NATURAL, 20, left, top)
    assert LANGUAGE.related(dog, relation, CAR) is expected


def test_colours_are_those_that_one_sees() -> None:
    tree = Scene("snow", "day", 30, (Item("tree", NATURAL, 35, 10, 20),))
    dog = Scene("snow", "day", 30, (Item("dog", NATURAL, 35, 10, 20),))
    assert true_of(Description((Phrase("tree", "green"),)), tree)
    assert not true_of(Description((Phrase("tree", "red"),)), tree)
    assert not true_of(Description((Phrase("dog", "green"),)), dog)
