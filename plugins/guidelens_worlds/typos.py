"""Typing errors."""

from __future__ import annotations

import random

SHORTEST = 4
"""Number of letters of the shortest word that is misspelt."""


def can_be_misspelt(text: str) -> bool:
    """Return whether :func:`misspell` finds a word that is long enough."""
    return any(len(word) >= SHORTEST for word in text.split(" "))


def misspell(text: str, rng: random.Random) -> str:
    """Swap, drop, double or replace one letter of a word of at least four letters. The text always changes.

    :raises ValueError: no word has four letters.
    """
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= SHORTEST]
    if not long:
        raise ValueError(f"{text!r} has no word of four letters or more to misspell")
    which = rng.choice(long)
    word = words[which]
    at = rng.randrange(len(word) - 1)
    words[which] = rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[: at + 1] + word[at:],
            word[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :],
        )
    )
    if words[which] == word:  # two equal letters swapped, or a letter replaced by itself
        words[which] = word[: at + 1] + word[at:]
    return " ".join(words)
