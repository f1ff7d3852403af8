"""Make a scene from a description, for ``guidelens things draw`` and as an oracle for tests."""

from __future__ import annotations

import random

from guidelens.errors import UsageError

from ..description import Description, Phrase
from .language import true_of, wording
from .vocabulary import GROUNDS, HORIZONS, NATURAL, SIZES, SKIES, THINGS
from .world import MAX_ITEMS, Kind, Scene, place

_TRIES = 3000
_ARRANGEMENTS = {
    "left of": ("beside",),
    "right of": ("beside",),
    "next to": ("beside",),
    "above": ("above", "on"),
    "below": ("below",),
    "on": ("on",),
    "in front of": ("in front",),
    None: (None, None, "beside"),
}
"""Possible arrangements of the first thing relative to the second, by their relation."""


def scene_for(description: Description, rng: random.Random) -> Scene:
    """Draw a random scene that shows exactly what ``description`` names.

    Attributes that it does not give (colour, size, ground, sky, place) are random.

    :raises UsageError: found no scene of at most three things, for lack of room or because of a contradiction.
    """
    if sum(phrase.count for phrase in description.phrases) <= MAX_ITEMS:
        for _ in range(_TRIES):
            if (scene := _tried(description, rng)) is not None:
                return scene
    raise UsageError(
        f"found no scene of at most {MAX_ITEMS} things that shows {wording(description)!r}: they must fit into the "
        "picture (two large ones hardly do), have a colour of this world, and not contradict each other"
    )


def _tried(description: Description, rng: random.Random) -> Scene | None:
    """Try once to place the things. Return None if this fails or the description is not true of the result."""
    kinds = [kind for phrase in description.phrases for kind in [_kind(phrase, rng)] * phrase.count]
    horizon = rng.choice(HORIZONS)
    if description.relation is None:
        items = place(rng, kinds, horizon, tries=1)
    else:
        # The second thing is placed first, because the first one may be on top of it.
        arrangement = rng.choice(_ARRANGEMENTS[description.relation])
        items = place(rng, [kinds[1], kinds[0], *kinds[2:]], horizon, arrangement, tries=1)
    if items is None:
        return None
    ground = description.ground or rng.choice(THINGS[kinds[0][0]].grounds)
    if rng.random() < 0.3 and description.ground is None:
        ground = rng.choice(GROUNDS)
    scene = Scene(ground, description.sky or rng.choice(SKIES), horizon, items)
    return scene if true_of(description, scene) else None


def _kind(phrase: Phrase, rng: random.Random) -> Kind:
    thing = THINGS[phrase.noun]
    looks = {colour: thing.looks if colour == NATURAL else colour for colour in thing.colours}
    fitting = [colour for colour, look in looks.items() if phrase.colour in (None, look)]
    colour = rng.choice(fitting or [NATURAL])
    return phrase.noun, colour, phrase.size or rng.choice(tuple(SIZES))
