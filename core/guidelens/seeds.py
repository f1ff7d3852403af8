"""Read seeds and lists of seeds. Does not load torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .errors import UsageError, concerning

MAX_SEEDS = 100_000
"""Largest number of seeds in one text."""

_SEED_PART = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


def read_seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds for a number of seeds, a text (:func:`parse_seeds`) or a list.

    :raises UsageError: no seed is given, or a seed is out of range.
    """
    if isinstance(seeds, (int, str)) and not isinstance(seeds, bool):
        return parse_seeds(str(seeds))
    if isinstance(seeds, bool) or not isinstance(seeds, Iterable):
        raise UsageError(f"seeds must be a number of seeds, a text or a list, got {seeds!r}", setting="seeds")
    listed = list(dict.fromkeys(seeds))
    if not listed:
        raise UsageError("the list of seeds is empty; give at least one", setting="seeds")
    with concerning("seeds"):
        return tuple(checked_seed(seed) for seed in listed)


def checked_seed(seed: int) -> int:
    """Return ``seed`` if it is valid.

    :raises UsageError: if it is not a whole number from 0 to 2**63 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UsageError(f"a seed must be a whole number from 0 to 2**63 - 1, got {seed!r}", setting="seed")
    return seed


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read a number of seeds, such as ``4`` (the seeds 0 to 3), or a list of seeds and ranges, such as ``0,3,7-9``.

    A single seed is written as a range: ``7-7``.

    :raises UsageError: if the text is neither, or names more than :data:`MAX_SEEDS` seeds.
    """
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        count = int(text) if len(text) < 20 else MAX_SEEDS + 1  # Python refuses thousands of digits
        if not 1 <= count <= MAX_SEEDS:
            hint = f"; for the one seed {text} write {text}-{text}" if len(text) < 20 else ""
            raise UsageError(
                f"the number of seeds must be from 1 to {MAX_SEEDS}, got {text[:40]}{hint}", setting="seeds"
            )
        return tuple(range(count))
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = _SEED_PART.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"cannot read the seeds {text[:40]!r}: give a number of seeds (4) or a list such as 0,3,7-9",
                setting="seeds",
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first or last - first >= MAX_SEEDS or last >= 2**63:
            raise UsageError(
                f"cannot read the seeds {text!r}: {part.strip()!r} is not a rising range of at most {MAX_SEEDS} seeds",
                setting="seeds",
            )
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return tuple(seeds)
