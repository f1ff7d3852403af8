"""The sentences of the things world: its words, its relations, and descriptions of its scenes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from ..description import Phrase
from ..grammar import Grammar, Noun
from ..language import Language
from .vocabulary import COLOURS, NATURAL, THINGS
from .world import Item, Scene, overlap

RELATION_MARGIN = 6.0
"""Smallest distance in pixels between two centres, along the axis of a relation, for the relation to hold."""
_NEAR, _LEVEL = 10, 12
"""Largest gap between two things that are next to each other, and largest difference between their feet, in pixels."""
_ON_DEPTH, _ON_GAP = 6, 3
"""Largest distance in pixels that a thing on another one reaches into its box, or is above it."""
_FRONT_SHARE = 0.2
"""Smallest share of the smaller box that two things share if one is in front of the other."""


def _nouns(*words: str) -> tuple[Noun, ...]:
    return tuple(Noun(*word.split("/")) if "/" in word else Noun(word, word + "s") for word in words)


class ThingsLanguage(Language):
    """The sentences of the things world."""

    grammar = Grammar(
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
    opposite: ClassVar = {
        "left of": "right of",
        "right of": "left of",
        "above": "below",
        "below": "above",
        "on": "below",
        "next to": "above",
        "in front of": "above",
    }
    changes = ("noun", "colour", "noun", "colour", "size", "count", "ground", "sky")
    relation_changes = 8  # half of the changes, because relations are the hardest to learn

    def related(self, a: Item, relation: str, b: Item) -> bool:
        """Return whether ``relation`` holds between ``a`` and ``b``."""
        if relation == "next to":
            return _next_to(a, b)
        if relation == "on":
            return _on(a, b)
        if relation == "in front of":
            return _in_front_of(a, b)
        dx, dy = b.x - a.x, b.y - a.y
        return {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation] >= RELATION_MARGIN

    def relation_of(self, a: Item, b: Item, rng: random.Random) -> str:
        """Return a relation of ``a`` to ``b``: a special one if one holds, else one along the axis on which they are
        farther apart."""
        special = [name for name in ("on", "in front of", "next to") if self.related(a, name, b)]
        if abs(a.x - b.x) >= abs(a.y - b.y):
            plain = "left of" if a.x < b.x else "right of"
        else:
            plain = "above" if a.y < b.y else "below"
        if special and (not self.related(a, plain, b) or rng.random() < 0.3):
            return special[0]
        return plain

    def name_of(self, item: Item) -> Phrase:
        """Return the noun of a thing, and its colour if that is not natural."""
        return Phrase(item.thing, None if item.colour == NATURAL else item.colour)

    def phrase_for(self, item: Item, rng: random.Random, full: bool) -> Phrase:
        """Return a phrase that seldom names a natural colour."""
        named = 0.15 if item.colour == NATURAL else (1.0 if full else 0.85)
        colour = item.looks if item.looks != NATURAL and rng.random() < named else None
        return Phrase(item.thing, colour, item.size if rng.random() < (0.6 if full else 0.3) else None)

    def place_of(self, scene: Scene, rng: random.Random, full: bool) -> tuple[str | None, str | None]:
        """Return the ground, always or in two of five descriptions, and sometimes the sky."""
        ground = scene.ground if full or rng.random() < 0.4 else None
        return ground, scene.sky if rng.random() < (0.5 if full else 0.15) else None

    def other_colours(self, phrase: Phrase) -> Sequence[str]:
        """Return the colours of the thing, except for the natural one."""
        return tuple(colour for colour in THINGS[phrase.noun].colours if colour != NATURAL)


def _next_to(a: Item, b: Item) -> bool:
    gap = max(a.left, b.left) - min(a.right, b.right)
    return 0 <= gap + 3 <= _NEAR + 3 and abs(a.foot - b.foot) <= _LEVEL


def _on(a: Item, b: Item) -> bool:
    return b.left <= a.x <= b.right and -_ON_GAP <= a.foot - b.top <= _ON_DEPTH


def _in_front_of(a: Item, b: Item) -> bool:
    smaller = min(a.width * a.height, b.width * b.height)
    return a.foot > b.foot and overlap(a, b) >= _FRONT_SHARE * smaller


LANGUAGE = ThingsLanguage()
RELATIONS = tuple(LANGUAGE.grammar.relations)
read, wording, true_of, describe = LANGUAGE.read, LANGUAGE.wording, LANGUAGE.true_of, LANGUAGE.describe
