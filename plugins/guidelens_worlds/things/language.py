"""The sentences of the things world: its words, its relations, and descriptions of scenes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from ..description import Claim, Description, Phrase, SceneItem
from ..description import holds as _holds
from ..description import true_of as _true_of
from ..grammar import Grammar, Noun
from .vocabulary import COLOURS, GROUNDS, NATURAL, SIZES, SKIES, THINGS
from .world import Item, Scene, overlap


def _nouns(*words: str) -> tuple[Noun, ...]:
    return tuple(Noun(*word.split("/")) if "/" in word else Noun(word, word + "s") for word in words)


GRAMMAR = Grammar(
    nouns={
        "camel": _nouns("camel", "dromedary/dromedaries"),
        "dog": _nouns("dog", "puppy/puppies"),
        "cat": _nouns("cat", "kitten"),
        "bear": _nouns("bear"),
        "bird": _nouns("bird"),
        "fish": _nouns("fish/fish"),
        "car": _nouns("car", "automobile"),
        "boat": _nouns("boat", "sailboat"),
        "house": _nouns("house", "cottage"),
        "tree": _nouns("tree"),
        "cactus": _nouns("cactus/cacti"),
        "flower": _nouns("flower", "tulip"),
        "cake": _nouns("cake", "dessert", "piece of cake/pieces of cake"),
        "pear": _nouns("pear"),
        "ball": _nouns("ball", "basketball"),
        "balloon": _nouns("balloon"),
    },
    colours=tuple(COLOURS),
    sizes={"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")},
    relations={
        "left of": ("to the left of", "left of", "on the left of"),
        "right of": ("to the right of", "right of", "on the right of"),
        "above": ("above", "over"),
        "below": ("below", "under", "beneath"),
        "next to": ("next to", "beside", "by"),
        "on": ("on", "on top of"),
        "in front of": ("in front of",),
    },
    grounds={
        "desert": ("in the desert", "on the sand"),
        "meadow": ("on the meadow", "on the grass", "in the meadow"),
        "sea": ("on the sea", "at sea", "on the water"),
        "snow": ("in the snow", "on the snow"),
        "street": ("on the street", "on the road", "in the street"),
    },
    skies={"day": ("by day", "in the daytime"), "night": ("at night", "by night")},
)
RELATIONS = tuple(GRAMMAR.relations)
OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "on": "below",
    "next to": "above",
    "in front of": "above",
}
"""For each relation, one that is false if the key is true."""

RELATION_MARGIN = 6.0
"""Smallest distance in pixels between two centres, along the axis of a relation, for the relation to hold."""
_NEAR, _LEVEL = 10, 12
"""Largest gap between two things that are next to each other, and largest difference between their feet, in pixels."""
_ON_DEPTH, _ON_GAP = 6, 3
"""Largest distance in pixels that a thing on another one reaches into its box, or is above it."""
_FRONT_SHARE = 0.2
"""Smallest share of the smaller box that two things share if one is in front of the other."""


def related(a: SceneItem, relation: str, b: SceneItem) -> bool:
    """Return whether ``relation`` holds between ``a`` and ``b``, two things of this world."""
    first, second = cast(Item, a), cast(Item, b)
    if relation == "next to":
        return _next_to(first, second)
    if relation == "on":
        return _on(first, second)
    if relation == "in front of":
        return _in_front_of(first, second)
    dx, dy = second.x - first.x, second.y - first.y
    return {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation] >= RELATION_MARGIN


def _next_to(a: Item, b: Item) -> bool:
    gap = max(a.left, b.left) - min(a.right, b.right)
    return 0 <= gap + 3 <= _NEAR + 3 and abs(a.foot - b.foot) <= _LEVEL


def _on(a: Item, b: Item) -> bool:
    return b.left <= a.x <= b.right and -_ON_GAP <= a.foot - b.top <= _ON_DEPTH


def _in_front_of(a: Item, b: Item) -> bool:
    smaller = min(a.width * a.height, b.width * b.height)
    return a.foot > b.foot and overlap(a, b) >= _FRONT_SHARE * smaller


def holds(claim: Claim, scene: Scene) -> bool:
    """Return whether a claim is true of a scene."""
    return _holds(claim, scene, related)


def true_of(description: Description, scene: Scene) -> bool:
    """Return whether every claim of a description holds."""
    return _true_of(description, scene, related)


def read(text: str) -> Description | None:
    """Parse a caption. Return None if it is not a sentence of this world."""
    return GRAMMAR.read(text)


def wording(description: Description, rng: random.Random | None = None) -> str:
    """Write a description as English. Without ``rng``, use the simplest wording."""
    return GRAMMAR.wording(description, rng)


# --- scene -> description ------------------------------------------------------------------------------------


def describe(scene: Scene, rng: random.Random, *, full: bool = False) -> Description:
    """Return a true description of a scene, or with ``full=False`` of a random part of it.

    Things of one kind are named together, with their number. A full description of two things of different kinds states
    their relation.
    """
    chosen = list(scene.items)
    rng.shuffle(chosen)
    if not full:
        chosen = chosen[: rng.randint(1, len(chosen))]
    phrases: list[Phrase] = []
    used: list[Item] = []
    for item in chosen:
        if any(phrase.matches(item) for phrase in phrases):
            continue
        phrase = _phrase_for(item, rng, full)
        phrases.append(replace(phrase, count=sum(map(phrase.matches, scene.items))))
        used.append(item)
    relation = None
    if len(phrases) == 2 and phrases[0].count == phrases[1].count == 1 and (full or rng.random() < 0.7):
        relation = relation_of(used[0], used[1], rng)
    ground = scene.ground if full or rng.random() < 0.4 else None
    sky = scene.sky if rng.random() < (0.5 if full else 0.15) else None
    return Description(tuple(phrases), relation, ground, sky)


def _phrase_for(item: Item, rng: random.Random, full: bool) -> Phrase:
    named = 0.15 if item.colour == NATURAL else (1.0 if full else 0.85)
    colour = item.looks if item.looks != NATURAL and rng.random() < named else None
    return Phrase(item.thing, colour, item.size if rng.random() < (0.6 if full else 0.3) else None)


def describe_relation(scene: Scene, rng: random.Random) -> Description:
    """Describe the relation of two things of a scene, with their colours, in random order."""
    first, second = rng.sample(scene.items, 2)
    phrases = tuple(
        Phrase(item.thing, None if item.colour == NATURAL else item.colour) for item in (first, second)
    )
    return Description(phrases, relation_of(first, second, rng))


def relation_of(a: Item, b: Item, rng: random.Random) -> str:
    """Return a relation of ``a`` to ``b``: a special one if one holds, else one along the axis on which they are
    farther apart."""
    special = [name for name in ("on", "in front of", "next to") if related(a, name, b)]
    if abs(a.x - b.x) >= abs(a.y - b.y):
        plain = "left of" if a.x < b.x else "right of"
    else:
        plain = "above" if a.y < b.y else "below"
    if special and (not related(a, plain, b) or rng.random() < 0.6):
        return special[0]
    return plain


# --- false descriptions --------------------------------------------------------------------------------------

CORRUPTIONS = ("noun", "colour", "size", "count", "relation", "ground", "sky")


def corrupt(
    description: Description, scene: Scene, rng: random.Random, kind: str | None = None
) -> Description | None:
    """Change one attribute, relation or count so that the description becomes false of the scene.

    :param kind: one of :data:`CORRUPTIONS`. None: any that the description has, a third of the time the relation.
    :returns: None if a few tries find no false variant, for example because the description lacks the kind.
    """
    common = ["noun", "colour", "noun", "colour", "size", "count", "ground", "sky"]
    kinds = [kind] if kind else common + ["relation"] * (len(common) // 2 if description.relation else 0)
    for _ in range(20):
        changed = _change(description, rng.choice(kinds), rng)
        if changed is not None and not true_of(changed, scene):
            return changed
    return None


def _change(description: Description, kind: str, rng: random.Random) -> Description | None:
    if kind == "relation":
        return _other_relation(description, rng)
    if kind == "ground":
        ground = description.ground
        return replace(description, ground=_other(GROUNDS, ground, rng)) if ground else None
    if kind == "sky":
        sky = description.sky
        return replace(description, sky=_other(SKIES, sky, rng)) if sky else None
    which = rng.randrange(len(description.phrases))
    phrase = _change_phrase(description.phrases[which], kind, description.relation is None, rng)
    if phrase is None:
        return None
    phrases = list(description.phrases)
    phrases[which] = phrase
    return replace(description, phrases=tuple(phrases))


def _other_relation(description: Description, rng: random.Random) -> Description | None:
    if description.relation is None:
        return None
    if rng.random() < 0.5:
        first, second, *rest = description.phrases
        return replace(description, phrases=(second, first, *rest))
    return replace(description, relation=OPPOSITE[description.relation])


def _change_phrase(phrase: Phrase, kind: str, countable: bool, rng: random.Random) -> Phrase | None:
    if kind == "count":
        return replace(phrase, count=_other((1, 2, 3), phrase.count, rng)) if countable else None
    if kind == "noun":
        return replace(phrase, noun=_other(tuple(THINGS), phrase.noun, rng))
    if kind == "size" and phrase.size is not None:
        return replace(phrase, size=_other(tuple(SIZES), phrase.size, rng))
    if kind == "colour":
        colours = [colour for colour in THINGS[phrase.noun].colours if colour != NATURAL]
        return replace(phrase, colour=_other(colours, phrase.colour, rng)) if colours else None
    return None


def _other(choices: Sequence, current: object, rng: random.Random):  # type: ignore[no-untyped-def]
    """Return a random other choice than the current one, or the current one if it is the only choice."""
    return rng.choice([choice for choice in choices if choice != current] or [current])
