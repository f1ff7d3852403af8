"""Sentences of the shapes world: reading, wording, truth, false captions and typos."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest
from guidelens.errors import UsageError
from guidelens_worlds.description import Claim, Description, Phrase, claims
from guidelens_worlds.shapes.compose import scene_for
from guidelens_worlds.shapes.definition import WORLD
from guidelens_worlds.shapes.language import (
    LANGUAGE,
    RELATION_MARGIN,
    RELATIONS,
    describe,
    read,
    true_of,
    wording,
)
from guidelens_worlds.shapes.world import BACKGROUNDS, COLOURS, SHAPES, SIZES, Item, Scene
from guidelens_worlds.training.pairs import draw_pairs, truth_matrix
from guidelens_worlds.training.pictures import draw_scenes
from guidelens_worlds.typos import misspell
from pictures import scenes


def random_description(rng: random.Random) -> Description:
    """Any meaning that a sentence can have, true of something or not."""
    phrases = tuple(
        Phrase(
            rng.choice(SHAPES),
            rng.choice((None, *COLOURS)),
            rng.choice((None, *SIZES)),
            rng.choice((1, 1, 2, 3)),
        )
        for _ in range(rng.randint(1, 3))
    )
    relation = rng.choice((None, *RELATIONS)) if len(phrases) > 1 else None
    return Description(phrases, relation, rng.choice((None, *BACKGROUNDS)))


def naive_truth(description: Description, scene: Scene) -> bool:
    """What a description says, spelled out from the definition."""

    def fits(phrase: Phrase, item: Item) -> bool:
        size = "small" if item.radius <= 5.2 else "large"
        return (
            phrase.noun == item.shape
            and (phrase.colour is None or phrase.colour == item.colour)
            and (phrase.size is None or phrase.size == size)
        )

    for phrase in description.phrases:
        number = len([item for item in scene.items if fits(phrase, item)])
        if phrase.count == 1 and number == 0:
            return False
        if phrase.count > 1 and number != phrase.count:
            return False
    if description.ground is not None and description.ground != scene.ground:
        return False
    if description.relation is None:
        return True
    for i, a in enumerate(scene.items):
        for j, b in enumerate(scene.items):
            if i == j or not fits(description.phrases[0], a) or not fits(description.phrases[1], b):
                continue
            right, down = a.x - b.x, a.y - b.y
            if {
                "left of": right <= -3,
                "right of": right >= 3,
                "above": down <= -3,
                "below": down >= 3,
            }[description.relation]:
                return True
    return False


def test_every_wording_reads_back() -> None:
    rng = random.Random(0)
    texts = set()
    for _ in range(1500):
        description = random_description(rng)
        text = wording(description, rng)
        texts.add(text)
        assert read(text) == description, text
        assert read(wording(description)) == description
        assert read(text.capitalize() + ".") == description
    assert len(texts) > 1200


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a red circle", Description((Phrase("circle", "red"),))),
        ("an orange cross", Description((Phrase("cross", "orange"),))),
        ("two small green triangles", Description((Phrase("triangle", "green", "small", 2),))),
        (
            "a large blue square on a pink background",
            Description((Phrase("square", "blue", "large"),), None, "pink"),
        ),
        (
            "a red circle above a blue square",
            Description((Phrase("circle", "red"), Phrase("square", "blue")), "above"),
        ),
        (
            "a red circle, a white cross and a black square on a grey background",
            Description(
                (Phrase("circle", "red"), Phrase("cross", "white"), Phrase("square", "black")), None, "gray"
            ),
        ),
        ("  There are THREE big crosses! ", Description((Phrase("cross", None, "large", 3),))),
        (
            "the tiny triangle on top of a huge circle",
            Description((Phrase("triangle", None, "small"), Phrase("circle", None, "large")), "above"),
        ),
        ("red circle", Description((Phrase("circle", "red"),))),
        ("a photo of 2 circles", Description((Phrase("circle", count=2),))),
    ],
)
def test_sentences_that_people_write(text: str, meaning: Description) -> None:
    assert read(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "an armchair in the shape of an avocado",
        "a red circl",
        "a rde circle",
        "a red",
        "a gray background",
        "a red circle on a green background",
        "a red circle above",
        "above a red circle",
        "two red circle",
        "a red circles",
        "four red circles",
        "a circle red",
        "a red circle a blue square",
        "a red circle above a blue square below a white cross",
        "a red circle and",
        "a red circlea blue square",
        "a red blue circle",
        "no red circle",
        "красный круг",
        "a red circle\nand more",
    ],
)
def test_foreign_sentences_are_not_read(text: str) -> None:
    assert read(text) is None


def test_articles_and_plurals() -> None:
    assert wording(Description((Phrase("circle", "orange"),))) == "an orange circle"
    assert wording(Description((Phrase("circle", "orange", "small"),))) == "a small orange circle"
    assert wording(Description((Phrase("circle"),))) == "a circle"
    assert wording(Description((Phrase("cross", "red", None, 2),))) == "two red crosses"
    assert wording(Description((Phrase("square", None, "large", 3),))) == "three large squares"
    three = Description(
        (Phrase("circle", "red"), Phrase("cross", "orange"), Phrase("square", "blue", count=2))
    )
    assert wording(three) == "a red circle, an orange cross and two blue squares"
    positional = Description((Phrase("circle", "red"), Phrase("square", "orange")), "left of", "pink")
    assert wording(positional) == "a red circle to the left of an orange square on a pink background"
    rng = random.Random(1)
    for _ in range(1000):
        words = wording(random_description(rng), rng).split()
        for article, following in itertools.pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (following[0] in "aeiou"), words
        assert "there is two" not in " ".join(words)


def test_wordings_vary() -> None:
    rng = random.Random(2)
    description = Description((Phrase("circle", "red", "small"), Phrase("square", "blue")), "above", "pink")
    assert len({wording(description, rng) for _ in range(200)}) > 20


def test_truth_is_the_naive_one() -> None:
    rng = random.Random(3)
    seen = Counter()
    for scene in scenes(600, seed=3):
        for description in (describe(scene, rng), random_description(rng)):
            truth = naive_truth(description, scene)
            seen[truth] += 1
            assert true_of(description, scene) == truth, (description, scene)
    assert min(seen.values()) > 200


def test_truth_matrix_is_the_truth_of_all_pairs() -> None:
    rng = random.Random(4)
    for seed in range(3):
        shown = scenes(40, seed=seed)
        described = [describe(s, rng, full=rng.random() < 0.3) for s in shown]
        described += [random_description(rng) for _ in range(40)]
        matrix = truth_matrix(WORLD, shown, described)
        assert matrix.shape == (40, 80)
        for i, scene in enumerate(shown):
            assert matrix[i, i]
            assert matrix[i].tolist() == [naive_truth(d, scene) for d in described]


def at(x: float, y: float, colour: str = "red", radius: float = 4.5) -> Item:
    return Item(colour, "circle", radius, x, y)


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_hold_from_the_margin_on(relation: str) -> None:
    way = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}[relation]
    for distance, expected in ((3.0, True), (2.99, False), (0.0, False), (-3.0, False), (12.0, True)):
        a = at(16 + distance * way[0], 16 + distance * way[1])
        assert LANGUAGE.related(a, relation, at(16, 16)) is expected
    # Distance along the other axis does not matter.
    assert LANGUAGE.related(
        at(16 + 4 * way[0] + 9 * way[1], 16 + 4 * way[1] + 9 * way[0]), relation, at(16, 16)
    )
    assert RELATION_MARGIN == 3


def test_a_relation_needs_two_different_objects() -> None:
    description = read("a red circle above a red circle")
    assert description is not None
    assert not true_of(description, Scene("gray", (at(16, 16),)))
    assert true_of(description, Scene("gray", (at(16, 8), at(16, 24))))


def test_counts_are_exact_and_single_objects_at_least_one() -> None:
    two = Scene("gray", (at(8, 8), at(24, 24)))
    three = Scene("gray", (*two.items, at(8, 24)))
    one_claim, two_claim = Claim("object", (Phrase("circle"),)), Claim("count", (Phrase("circle", count=2),))
    assert LANGUAGE.holds(one_claim, two)
    assert LANGUAGE.holds(two_claim, two)
    assert not LANGUAGE.holds(two_claim, three)
    assert not LANGUAGE.holds(two_claim, Scene("gray", (at(8, 8),)))
    assert not LANGUAGE.holds(one_claim, Scene("gray", ()))


def test_claims_of_a_description() -> None:
    description = read("two red circles and a blue square on a pink background")
    assert description is not None
    assert [claim.kind for claim in claims(description)] == ["count", "object", "ground"]
    positional = read("a red circle above a blue square")
    assert positional is not None
    assert [claim.kind for claim in claims(positional)] == ["object", "object", "relation"]


def test_descriptions_are_true_and_full_ones_complete() -> None:
    rng = random.Random(6)
    for scene in scenes(400, seed=6):
        partial, full = describe(scene, rng), describe(scene, rng, full=True)
        assert naive_truth(partial, scene)
        assert naive_truth(full, scene)
        assert sum(p.count for p in full.phrases) == len(scene.items)
        assert full.ground == scene.ground
        assert all(p.colour and p.size for p in full.phrases)
        assert (full.relation is not None) == ([p.count for p in full.phrases] == [1, 1])


def test_corrupted_descriptions_are_false_by_one_thing() -> None:
    rng = random.Random(7)
    found = Counter()
    for scene in scenes(250, seed=7):
        description = describe(scene, rng, full=rng.random() < 0.5)
        for kind in (None, *WORLD.changes):
            wrong = LANGUAGE.corrupt(description, scene, rng, kind)
            if wrong is None:
                continue
            found[kind] += 1
            assert not naive_truth(wrong, scene)
            turned = (*description.phrases[1::-1], *description.phrases[2:])
            if description.relation and wrong.phrases != description.phrases and wrong.phrases == turned:
                assert kind in (None, "relation")
                assert replace(wrong, phrases=description.phrases) == description  # the two changed places
                continue
            changed = [
                name
                for p, q in zip(description.phrases, wrong.phrases, strict=True)
                for name in ("colour", "noun", "size", "count")
                if getattr(p, name) != getattr(q, name)
            ]
            changed += [n for n in ("relation", "ground") if getattr(description, n) != getattr(wrong, n)]
            assert len(changed) == 1
            assert kind in (None, *changed)
    assert min(found[kind] for kind in WORLD.changes) > 20


def test_captions_of_a_training_batch() -> None:
    rng = random.Random(8)
    shown, images = draw_scenes(WORLD, rng, 64)
    pairs = draw_pairs(WORLD, rng, shown, images, typo_share=0.0)
    for i, (caption, wrong) in enumerate(zip(pairs.captions, pairs.false_captions, strict=True)):
        said, unsaid = read(caption), read(wrong)
        assert said is not None
        assert unsaid is not None
        assert naive_truth(said, shown[i])
        assert not naive_truth(unsaid, shown[i])
        for j, other in enumerate(shown):
            assert bool(pairs.truth[j, i]) == naive_truth(said, other)


def test_misspelling_changes_exactly_one_word() -> None:
    rng = random.Random(9)
    for text in ("a yellow cross", "two green crosses", "a red circle to the left of a blue square"):
        kinds = set()
        for _ in range(400):
            typo = misspell(text, rng)
            before, after = text.split(" "), typo.split(" ")
            assert len(before) == len(after)
            changed = [(b, a) for b, a in zip(before, after, strict=True) if b != a]
            assert len(changed) == 1, typo
            word, wrong = changed[0]
            assert len(word) >= 4
            kinds.add(len(wrong) - len(word))
        assert kinds == {-1, 0, 1}


def test_nothing_to_misspell() -> None:
    with pytest.raises(ValueError, match="no word of four letters"):
        misspell("a red", random.Random(0))


def test_scene_for_shows_what_is_said_and_nothing_else() -> None:
    rng = random.Random(10)
    made = 0
    for _ in range(250):
        description = random_description(rng)
        if sum(p.count for p in description.phrases) > 3:
            continue
        try:
            scene = scene_for(description, rng)
        except UsageError:  # contradictions, such as "a circle and two circles above ..."
            continue
        made += 1
        assert naive_truth(description, scene)
        assert all(any(p.matches(item) for p in description.phrases) for item in scene.items)
    assert made > 80


def test_scene_for_shares_objects_between_overlapping_phrases() -> None:
    description = read("a red circle and two circles")
    assert description is not None
    scene = scene_for(description, random.Random(0))
    assert [o.shape for o in scene.items] == ["circle", "circle"]
    assert "red" in [o.colour for o in scene.items]


@pytest.mark.parametrize(
    "text", ["two red circles and two blue squares", "two red circles and three red circles"]
)
def test_scene_for_refuses_what_no_scene_shows(text: str) -> None:
    description = read(text)
    assert description is not None
    with pytest.raises(UsageError, match="at most 3 objects"):
        scene_for(description, random.Random(0))
