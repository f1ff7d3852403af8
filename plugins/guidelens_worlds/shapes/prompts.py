"""Prompts of the shapes world, by category."""

from __future__ import annotations

import random

from guidelens.contracts import Prompt

from ..description import Description, Phrase
from ..prompts import PromptSet, misspelt
from .language import RELATIONS, read, wording
from .world import BACKGROUNDS, COLOURS, SHAPES, SIZES, place

DEMO = (
    Prompt("a red circle above a blue square", "positional"),
    Prompt("two small green triangles", "counting"),
    Prompt("a large yellow cross on a pink background", "single"),
    Prompt("a white circle, a black square and an orange triangle", "multi-object"),
)


def _phrase(rng: random.Random, *, size: float = 0.0, count: int = 1) -> Phrase:
    """Return a phrase of a random kind, with its size with probability ``size``."""
    return Phrase(
        rng.choice(SHAPES),
        rng.choice(tuple(COLOURS)),
        rng.choice(tuple(SIZES)) if rng.random() < size else None,
        count,
    )


def _phrases(rng: random.Random, count: int, *, size: float = 0.0) -> tuple[Phrase, ...]:
    """Return phrases that differ in colour or shape."""
    chosen: list[Phrase] = []
    while len(chosen) < count:
        phrase = _phrase(rng, size=size)
        if (phrase.colour, phrase.noun) not in [(p.colour, p.noun) for p in chosen]:
            chosen.append(phrase)
    return tuple(chosen)


def _single(rng: random.Random) -> Prompt:
    background = rng.choice(tuple(BACKGROUNDS)) if rng.random() < 0.4 else None
    return Prompt(wording(Description((_phrase(rng, size=0.4),), None, background)))


def _colors(rng: random.Random) -> Prompt:
    return Prompt(wording(Description(_phrases(rng, 2))))


def _counting(rng: random.Random) -> Prompt:
    count = rng.choice((2, 3))
    while True:
        phrase = _phrase(rng, size=0.5, count=count)
        if _has_room((phrase,)):
            return Prompt(wording(Description((phrase,))))


def _has_room(phrases: tuple[Phrase, ...]) -> bool:
    """Return whether such a scene is likely: three large objects or two large squares rarely fit."""
    kinds = [(p.colour or "red", p.noun, p.size or "small") for p in phrases for _ in range(p.count)]
    return place(random.Random(0), kinds, tries=150) is not None


def _positional(rng: random.Random) -> Prompt:
    return Prompt(wording(Description(_phrases(rng, 2), rng.choice(RELATIONS))))


def _size(rng: random.Random) -> Prompt:
    first, second = _phrases(rng, 2)
    sizes = rng.sample(tuple(SIZES), 2)
    pair = tuple(
        Phrase(phrase.noun, phrase.colour, size) for phrase, size in zip((first, second), sizes, strict=True)
    )
    return Prompt(wording(Description(pair if rng.random() < 0.5 else pair[:1])))


def _multi(rng: random.Random) -> Prompt:
    return Prompt(wording(Description(_phrases(rng, 3))))


def _long(rng: random.Random) -> Prompt:
    count = rng.choice((2, 3))
    relation = rng.choice(RELATIONS) if count == 2 else None
    while not _has_room(phrases := _phrases(rng, count, size=1.0)):
        pass
    return Prompt(wording(Description(phrases, relation, rng.choice(tuple(BACKGROUNDS)))))


PROMPTS = PromptSet(
    DEMO,
    {
        "single": _single,
        "colors": _colors,
        "counting": _counting,
        "positional": _positional,
        "size": _size,
        "multi-object": _multi,
        "misspellings": misspelt((_single, _positional), read),
        "long": _long,
    },
)
