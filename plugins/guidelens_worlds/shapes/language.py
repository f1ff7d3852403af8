"""The sentences of the shapes world: its words, its relations, and descriptions of its scenes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from ..description import Phrase
from ..grammar import Grammar, Noun
from ..language import Language
from .world import BACKGROUNDS, COLOURS, SHAPES, Item, Scene

RELATION_MARGIN = 3.0
"""Smallest distance in pixels between two centres, along the axis of a relation, for the relation to hold."""

_WORDS = {
    "tiny": "small",
    "huge": "large",
    "on the left of": "left of",
    "on the right of": "right of",
    "on top of": "above",
    "underneath": "below",
    "beneath": "below",
}
_SPELLINGS = {**{name: name for name in BACKGROUNDS}, "grey": "gray"}
_BACKGROUND_WORDS = {
    f"{before} {article}{spelling} background": name
    for before in ("on", "in front of", "with", "against")
    for article in ("a ", "the ", "")
    for spelling, name in _SPELLINGS.items()
}


class ShapesLanguage(Language):
    """The sentences of the shapes world."""

    grammar = Grammar(
        nouns={name: (Noun(name, "crosses" if name == "cross" else f"{name}s"),) for name in SHAPES},
        colours=tuple(COLOURS),
        sizes={"small": ("small", "little"), "large": ("large", "big")},
        relations={
            "left of": ("to the left of", "left of"),
            "right of": ("to the right of", "right of"),
            "above": ("above", "over"),
            "below": ("below", "under"),
        },
        grounds={
            name: tuple(f"{before} a {name} background" for before in ("on", "in front of", "with"))
            for name in BACKGROUNDS
        },
        skies={},
        also_read={**_WORDS, **_BACKGROUND_WORDS},
    )
    opposite: ClassVar = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    changes = ("colour", "noun", "colour", "noun", "size", "count", "ground")
    relation_changes = 7  # half of the changes, because relations are the hardest to learn

    def related(self, a: Item, relation: str, b: Item) -> bool:
        """Return whether the centres are at least :data:`RELATION_MARGIN` apart in this direction."""
        dx, dy = b.x - a.x, b.y - a.y
        return {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation] >= RELATION_MARGIN

    def relation_of(self, a: Item, b: Item, rng: random.Random) -> str:
        """Return the relation along the axis on which two objects are farther apart."""
        if abs(a.x - b.x) >= abs(a.y - b.y):
            return "left of" if a.x < b.x else "right of"
        return "above" if a.y < b.y else "below"

    def name_of(self, item: Item) -> Phrase:
        """Return the shape and colour of an object."""
        return Phrase(item.shape, item.colour)

    def phrase_for(self, item: Item, rng: random.Random, full: bool) -> Phrase:
        """Return a phrase with colour and size, or if it is not ``full``, with each of them at random."""
        colour = item.colour if full or rng.random() < 0.9 else None
        return Phrase(item.shape, colour, item.size if full or rng.random() < 0.4 else None)

    def place_of(self, scene: Scene, rng: random.Random, full: bool) -> tuple[str | None, None]:
        """Return the background, always or in three of ten descriptions."""
        return scene.ground if full or rng.random() < 0.3 else None, None

    def other_colours(self, phrase: Phrase) -> Sequence[str]:
        """Return all colours. A phrase without colour does not get one."""
        return tuple(COLOURS) if phrase.colour is not None else ()


LANGUAGE = ShapesLanguage()
RELATIONS = tuple(LANGUAGE.grammar.relations)
read, wording, true_of, describe = LANGUAGE.read, LANGUAGE.wording, LANGUAGE.true_of, LANGUAGE.describe
