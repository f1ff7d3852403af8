"""Prompt sets of the shapes world, by category after DrawBench (Saharia et al. 2022).

Prompts are drawn with a seed. A hash of the text assigns each prompt to one of two splits: ``sweep`` (a quarter) for
choosing settings, ``test`` for scores.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from guidelens.contracts import Prompt
from guidelens.errors import UsageError

from .categories import Category, Split
from .language import RELATIONS, Description, Phrase, misspell, read, wording
from .world import BACKGROUNDS, COLOURS, SHAPES, SIZES, place

_MISSES = 5000
"""A category is exhausted after this many draws in a row without a new prompt."""

DEMO = (
    ("a red circle above a blue square", "positional"),
    ("two small green triangles", "counting"),
    ("a large yellow cross on a pink background", "single"),
    ("a white circle, a black square and an orange triangle", "multi-object"),
)


def shapes_prompts(
    category: Category = "demo", limit: int | None = None, seed: int = 0, split: Split = "test"
) -> list[Prompt]:
    """Draw ``limit`` different prompts of a category, or of each category for ``all``.

    :param category: ``demo`` has four fixed prompts. In ``misspellings``, metrics use the clean prompt.
    :param limit: number of prompts. None: 20, or all four of ``demo``.
    :param seed: seed of the prompts. A larger ``limit`` continues the list.
    :param split: ``test``, or ``sweep`` for prompts that never appear under ``test``.
    :raises UsageError: the category has fewer than ``limit`` prompts, or an option is out of range.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    if category == "demo":
        if limit is not None and limit > len(DEMO):
            raise UsageError(
                f"the category 'demo' has {len(DEMO)} prompts, not {limit}; choose a category for more"
            )
        return [Prompt(text, kind) for text, kind in DEMO[:limit]]
    limit = 20 if limit is None else limit
    if category == "all":
        return [prompt for name in _DRAW for prompt in _drawn(name, limit, seed, split)]
    if category not in _DRAW:
        raise UsageError(f"unknown category {category!r}; choose demo, all, {', '.join(_DRAW)}")
    return _drawn(category, limit, seed, split)


def split_of(text: str) -> Split:
    """Return the split of a prompt, by a hash of its text."""
    return "sweep" if hashlib.sha256(text.encode()).digest()[0] % 4 == 0 else "test"


def _drawn(category: str, limit: int, seed: int, split: Split) -> list[Prompt]:
    rng = random.Random(f"{category}/{seed}")
    found: dict[str, Prompt] = {}
    misses = 0
    while misses < _MISSES:
        prompt = _DRAW[category](rng)
        if split_of(prompt.target) == split and prompt.text not in found:
            found[prompt.text] = Prompt(prompt.text, category, prompt.reference)
            misses = 0
        misses += 1
        if len(found) == limit:
            return list(found.values())
    raise UsageError(
        f"the category {category!r} has only {len(found)} prompts in the split {split}, not {limit}"
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
        if (phrase.colour, phrase.shape) not in [(p.colour, p.shape) for p in chosen]:
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
    kinds = [(p.colour or "red", p.shape, p.size or "small") for p in phrases for _ in range(p.count)]
    return place(random.Random(0), kinds, tries=150) is not None


def _positional(rng: random.Random) -> Prompt:
    return Prompt(wording(Description(_phrases(rng, 2), rng.choice(RELATIONS))))


def _size(rng: random.Random) -> Prompt:
    first, second = _phrases(rng, 2)
    sizes = rng.sample(tuple(SIZES), 2)
    pair = tuple(
        Phrase(phrase.shape, phrase.colour, size) for phrase, size in zip((first, second), sizes, strict=True)
    )
    return Prompt(wording(Description(pair if rng.random() < 0.5 else pair[:1])))


def _multi(rng: random.Random) -> Prompt:
    return Prompt(wording(Description(_phrases(rng, 3))))


def _misspelt(rng: random.Random) -> Prompt:
    clean = rng.choice((_single, _positional))(rng).text
    while True:
        text = misspell(clean, rng)
        if read(text) is None:  # "grey" for "gray" is not a typo
            return Prompt(text, reference=clean)


def _long(rng: random.Random) -> Prompt:
    count = rng.choice((2, 3))
    relation = rng.choice(RELATIONS) if count == 2 else None
    while not _has_room(phrases := _phrases(rng, count, size=1.0)):
        pass
    return Prompt(wording(Description(phrases, relation, rng.choice(tuple(BACKGROUNDS)))))


_DRAW: dict[str, Callable[[random.Random], Prompt]] = {
    "single": _single,
    "colors": _colors,
    "counting": _counting,
    "positional": _positional,
    "size": _size,
    "multi-object": _multi,
    "misspellings": _misspelt,
    "long": _long,
}
