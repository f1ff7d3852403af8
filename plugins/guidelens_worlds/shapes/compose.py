"""Make a scene from a description, for ``guidelens shapes draw`` and as an oracle for tests."""

from __future__ import annotations

import random

from guidelens.errors import UsageError

from ..description import Description, Phrase
from .language import true_of, wording
from .world import BACKGROUNDS, COLOURS, MAX_OBJECTS, SIZES, Item, Scene, place

_TRIES = 400


def scene_for(description: Description, rng: random.Random) -> Scene:
    """Draw a random scene that shows exactly what ``description`` names.

    Attributes that it does not give (colour, size, background, place) are random. A phrase without a number means
    one object. If phrases overlap ("a red circle and two circles"), one object may match several of them.

    :raises UsageError: found no scene of at most three objects, for lack of room or because of a contradiction.
    """
    kinds_only = Description(description.phrases)
    for attempt in range(_TRIES):
        kinds = _kinds(description.phrases, rng, share=attempt % 2 == 1)
        # Check the kinds first, as finding places takes time.
        unplaced = Scene("", tuple(Item(c, shape, SIZES[size][0], 0, 0) for c, shape, size in kinds))
        if len(kinds) > MAX_OBJECTS or not true_of(kinds_only, unplaced):
            continue
        items = place(rng, kinds)
        if items is None:
            continue
        scene = Scene(description.ground or rng.choice(tuple(BACKGROUNDS)), items)
        if true_of(description, scene):
            return scene
    raise UsageError(
        f"found no scene of at most {MAX_OBJECTS} objects that shows {wording(description)!r}: "
        "objects must fit into the picture (three large ones rarely do) and must not contradict each other"
    )


def _kinds(phrases: tuple[Phrase, ...], rng: random.Random, *, share: bool) -> list[tuple[str, str, str]]:
    """Choose (colour, shape, size) per object. With ``share``, existing objects count for later phrases."""
    kinds: list[tuple[str, str, str]] = []
    for phrase in phrases:
        there = sum(_is(phrase, kind) for kind in kinds) if share else 0
        new = (
            phrase.colour or rng.choice(tuple(COLOURS)),
            phrase.noun,
            phrase.size or rng.choice(tuple(SIZES)),
        )
        kinds += [new] * max(0, phrase.count - there)
    return kinds


def _is(phrase: Phrase, kind: tuple[str, str, str]) -> bool:
    colour, shape, size = kind
    return shape == phrase.noun and phrase.colour in (None, colour) and phrase.size in (None, size)
