"""Prompts of the things world, by category after DrawBench (Saharia et al. 2022), and words easily confused."""

from __future__ import annotations

import random
import re

from guidelens.contracts import Prompt

from ..description import Description, Phrase
from ..prompts import PromptSet, misspelt
from .language import RELATIONS, read, wording
from .vocabulary import GROUNDS, NATURAL, SIZES, SKIES, THINGS

CONFUSABLE = (
    ("car", "cat"),
    ("cat", "car"),
    ("bear", "pear"),
    ("pear", "bear"),
    ("house", "horse"),
    ("boat", "goat"),
    ("flower", "flour"),
    ("desert", "dessert"),
    ("sea", "see"),
)
"""Pairs of a word of this world and a word that differs by a letter or sounds alike.

If the second word can be drawn as well (a pear for a bear), the prompt means it. Otherwise metrics use the first word
as the reference.
"""

DEMO = (
    Prompt("a camel in the desert", "place"),
    Prompt("a blue dog next to a red car", "colors"),
    Prompt("two yellow fish on the sea at night", "counting"),
    Prompt("a cat on a house in the snow", "positional"),
)


def _phrase(rng: random.Random, *, size: float = 0.0, count: int = 1, coloured: bool = False) -> Phrase:
    """Return a phrase of a random kind. It has its size with probability ``size``, and its colour if several are
    possible."""
    choices = [name for name, thing in THINGS.items() if thing.paint is not None] if coloured else THINGS
    noun = rng.choice(tuple(choices))
    colours = [colour for colour in THINGS[noun].colours if colour != NATURAL]
    colour = rng.choice(colours) if colours and (coloured or rng.random() < 0.6) else None
    return Phrase(noun, colour, rng.choice(tuple(SIZES)) if rng.random() < size else None, count)


def _phrases(rng: random.Random, count: int, **options: bool) -> tuple[Phrase, ...]:
    """Return phrases of different things, with different colours if colours are named."""
    chosen: list[Phrase] = []
    while len(chosen) < count:
        phrase = _phrase(rng, **options)
        clash = any(p.noun == phrase.noun or (p.colour and p.colour == phrase.colour) for p in chosen)
        if not clash:
            chosen.append(phrase)
    return tuple(chosen)


def _prompt(description: Description) -> Prompt:
    return Prompt(wording(description))


def _single(rng: random.Random) -> Prompt:
    return _prompt(Description((_phrase(rng, size=0.3),)))


def _place(rng: random.Random) -> Prompt:
    sky = rng.choice(SKIES) if rng.random() < 0.2 else None
    return _prompt(Description((_phrase(rng),), None, rng.choice(GROUNDS), sky))


def _colors(rng: random.Random) -> Prompt:
    return _prompt(Description(_phrases(rng, 2, coloured=True)))


def _counting(rng: random.Random) -> Prompt:
    ground = rng.choice(GROUNDS) if rng.random() < 0.4 else None
    return _prompt(Description((_phrase(rng, count=rng.choice((2, 3))),), None, ground))


def _positional(rng: random.Random) -> Prompt:
    return _prompt(Description(_phrases(rng, 2), rng.choice(RELATIONS)))


def _size(rng: random.Random) -> Prompt:
    first, second = _phrases(rng, 2)
    main = Phrase(first.noun, first.colour, "large")
    lesser = Phrase(second.noun, second.colour, "small")
    return _prompt(Description((main, lesser) if rng.random() < 0.5 else (rng.choice((main, lesser)),)))


def _multi(rng: random.Random) -> Prompt:
    return _prompt(Description(_phrases(rng, 3)))


def _long(rng: random.Random) -> Prompt:
    phrases = _phrases(rng, rng.choice((2, 3)))
    relation = rng.choice(RELATIONS) if len(phrases) == 2 else None
    return _prompt(Description(phrases, relation, rng.choice(GROUNDS), rng.choice(SKIES)))


def _confusable(rng: random.Random) -> Prompt:
    word, other = rng.choice(CONFUSABLE)
    ground = word if word in GROUNDS else rng.choice(GROUNDS)
    phrase = _phrase(rng) if word in GROUNDS else Phrase(word)
    clean = wording(Description((phrase,), None, ground))
    text = re.sub(rf"\b{word}\b", other, clean)
    return Prompt(text) if read(text) is not None else Prompt(text, reference=clean)


PROMPTS = PromptSet(
    DEMO,
    {
        "single": _single,
        "place": _place,
        "colors": _colors,
        "counting": _counting,
        "positional": _positional,
        "size": _size,
        "multi-object": _multi,
        "confusable": _confusable,
        "misspellings": misspelt((_single, _place, _positional), read),
        "long": _long,
    },
)
