"""The design of a survey: a balanced, seeded plan of the pictures that each rater sees, with order and place.

A design is drawn from names only, without files or pictures, so that tests can check its balance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil, gcd, inf, isfinite
from typing import TypeVar

from guidelens.errors import UsageError

PAIRWISE, RATING, FORCED_CHOICE = "pairwise", "rating", "forced-choice"
KINDS = (PAIRWISE, RATING, FORCED_CHOICE)

REAL, REPEAT, CHECK = "real", "repeat", "check"
"""Kinds of items: one that counts, its repetition with swapped sides, and an attention check."""

T = TypeVar("T")

TIE = 0
RATINGS = 5


@dataclass(frozen=True)
class Unit:
    """Pictures that differ only in the condition: one prompt and one seed."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Item:
    """One screen of one rater.

    :param shown: the conditions, in the order of places on the screen (first, second, ...).
    :param repeats: position of the item that this one asks again, or -1.
    :param expected: the answer that a check asks for, or -1.
    """

    kind: str
    unit: Unit
    shown: tuple[str, ...]
    repeats: int = -1
    expected: int = -1


@dataclass(frozen=True)
class Plan:
    """A drawn design: ``seats[r]`` are the items of rater r, in order."""

    kind: str
    conditions: tuple[str, ...]
    seats: tuple[tuple[Item, ...], ...]
    units: tuple[Unit, ...] = field(default=())


def answers(kind: str, places: int) -> range:
    """Return the possible answers to an item: 1..places (0 for a tie of two), or 1..5 for a rating."""
    if kind == PAIRWISE:
        return range(TIE, 3)
    return range(1, 1 + (RATINGS if kind == RATING else places))


def draw(
    kind: str,
    conditions: Sequence[str],
    units: Sequence[Unit],
    *,
    items: int,
    raters: int,
    repeats: int,
    checks: int,
    overlap: int = 3,
    seed: int = 0,
) -> Plan:
    """Draw a design of ``raters`` seats with ``items`` items each, plus ``repeats`` and ``checks``.

    A **contrast** is what one item compares: two conditions (pairwise), one (rating) or all (forced choice). The
    following numbers differ by at most one:

    - how often each contrast occurs, in the survey and for each rater;
    - how often a contrast uses each of its units, and so each prompt;
    - how often each condition of a pair is on the left.

    No rater sees an item twice, except for repeats. The number of units is chosen to get about ``overlap`` raters
    per item. Every prompt is used.

    :raises UsageError: the numbers are not possible.
    """
    contrasts = _contrasts(kind, conditions)
    pool = _pool(units, len(contrasts), items, raters, overlap, seed)
    rng = random.Random(f"guidelens survey {seed}")
    order = _shuffled(contrasts, rng)
    prompts = list(dict.fromkeys(unit.prompt for unit in pool))
    starts = [k * len(prompts) // len(order) for k in range(len(order))]
    signs = [rng.randrange(len(contrast)) for contrast in order]
    seats = []
    for rater in range(raters):
        mine = []
        for slot in range(rater * items, (rater + 1) * items):
            visit, which = divmod(slot, len(order))
            unit, turn = _place(visit, starts[which], pool, len(prompts), len(order[which]))
            mine.append(Item(REAL, unit, _rotated(order[which], turn + signs[which])))
        rng.shuffle(mine)
        seats.append(_with_extras(mine, kind, repeats, checks, rng))
    return Plan(kind, tuple(conditions), tuple(seats), tuple(pool))


def _contrasts(kind: str, conditions: Sequence[str]) -> list[tuple[str, ...]]:
    if kind not in KINDS:
        raise UsageError(f"unknown design {kind!r}; there are {', '.join(KINDS)}")
    if len(set(conditions)) < 2:
        raise UsageError(f"a survey needs at least two conditions, found {', '.join(conditions) or 'none'}")
    if kind == PAIRWISE:
        return list(combinations(conditions, 2))
    return [(name,) for name in conditions] if kind == RATING else [tuple(conditions)]


def most_items(kind: str, conditions: Sequence[str], units: Sequence[Unit]) -> int:
    """Return how many different items one rater can get, or 1 without any units.

    :raises UsageError: the design is unknown, or there are fewer than two conditions.
    """
    seeds: dict[str, int] = {}
    for unit in units:
        seeds[unit.prompt] = seeds.get(unit.prompt, 0) + 1
    return max(1, min(seeds.values(), default=0) * len(seeds) * len(_contrasts(kind, conditions)))


def _pool(
    units: Sequence[Unit], contrasts: int, items: int, raters: int, overlap: int, seed: int
) -> list[Unit]:
    """Choose units in rounds over all prompts, the same number for each prompt."""
    for name, value in (("items", items), ("raters", raters), ("overlap", overlap)):
        if value < 1:
            raise UsageError(f"--{name} {value}: give a number from 1 on")
    rng = random.Random(f"guidelens survey units {seed}")
    by_prompt: dict[str, list[Unit]] = {}
    for unit in units:
        by_prompt.setdefault(unit.prompt, []).append(unit)
    if not by_prompt:
        raise UsageError("no prompt and seed has a picture under every condition")
    there = min(map(len, by_prompt.values()))
    needed = ceil(items / contrasts)
    most = there * len(by_prompt) * contrasts
    if needed * contrasts > most:
        raise UsageError(f"--items {items}: these pictures give each rater at most {most} different items")
    wanted = max(needed, raters * items / (contrasts * overlap))
    rounds = min(there, max(1, ceil(wanted / len(by_prompt))))
    names = _shuffled(list(by_prompt), rng)
    chosen = {name: _shuffled(by_prompt[name], rng)[:rounds] for name in names}
    return [chosen[name][i] for i in range(rounds) for name in names]


def _place(visit: int, start: int, pool: Sequence[Unit], prompts: int, places: int) -> tuple[Unit, int]:
    """Return the unit of a contrast's ``visit``-th occurrence, and how far its places are rotated.

    Visits go through rounds of prompts, and contrasts start at different prompts. Places rotate by one from visit to
    visit. A further rotation per round or cycle keeps prompts and units from always having the same place.
    """
    cycle, within = divmod(visit, len(pool))
    round_, position = divmod(within, prompts)
    unit = pool[round_ * prompts + (position + start) % prompts]
    return unit, within + cycle + (round_ if gcd(prompts, places) > 1 else 0)


def _with_extras(
    items: list[Item], kind: str, repeats: int, checks: int, rng: random.Random
) -> tuple[Item, ...]:
    """Insert repeats, far from the items that they repeat, and checks, spread over the session."""
    if repeats > len(items) // 2:
        raise UsageError(f"--repeats {repeats}: at most half of the {len(items)} items")
    early = len(items) // 2 or 1
    again = [(i, _again(items[i])) for i in sorted(rng.sample(range(early), repeats))]
    sequence: list[tuple[Item, int]] = [(item, -1) for item in items]
    for original, item in again:
        # A repeat comes half a session later, so that raters are unlikely to recognise it.
        position = next(i for i, (found, _) in enumerate(sequence) if found is items[original])
        low = min(len(sequence), position + max(1, len(items) // 3))
        sequence.insert(rng.randint(low, len(sequence)), (item, original))
    for i in range(checks):
        like = rng.choice(items)
        possible = [a for a in answers(kind, len(like.shown)) if a != TIE]
        check = Item(CHECK, like.unit, like.shown, expected=rng.choice(possible))
        width = len(sequence) / checks
        sequence.insert(min(len(sequence), max(1, int((i + rng.uniform(0.3, 0.9)) * width))), (check, -1))
    at = {id(item): i for i, (item, _) in enumerate(sequence)}
    return tuple(
        item if original < 0 else Item(item.kind, item.unit, item.shown, at[id(items[original])])
        for item, original in sequence
    )


def _again(item: Item) -> Item:
    return Item(REPEAT, item.unit, tuple(reversed(item.shown)))


def _rotated(names: tuple[str, ...], by: int) -> tuple[str, ...]:
    by %= len(names)
    return names[by:] + names[:by]


def _shuffled(values: Sequence[T], rng: random.Random) -> list[T]:
    copy = list(values)
    rng.shuffle(copy)
    return copy


@dataclass(frozen=True)
class Rules:
    """Exclusion rules for raters, fixed when the survey is created, before the first answer.

    :param failed_checks: exclude raters with more failed checks.
    :param seconds: exclude raters with a smaller median time per item.
    :param answered: exclude raters with a smaller share of answered items.
    :param same_answer: exclude raters who give one answer in a larger share of at least ten items.
    :param consistency: exclude raters with a smaller share of consistent repeats. 0 excludes nobody.
    :raises UsageError: a number is out of range, such as NaN or a share above 1.
    """

    failed_checks: int = 1
    seconds: float = 1.0
    answered: float = 0.5
    same_answer: float = 0.95
    consistency: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_share = name not in ("failed_checks", "seconds")
            if not (isfinite(value) and 0 <= value <= (1 if is_share else inf)):
                wanted = "a share from 0 to 1" if is_share else "a number from 0 on"
                raise UsageError(f"exclusion rule {name} {value}: give {wanted}")

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Rules:
        """Read stored rules."""
        return cls(**values)  # type: ignore[arg-type]
