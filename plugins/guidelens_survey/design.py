"""The design of a survey: which rater sees which pictures, in what order and place; balanced and seeded.

Nothing here touches files or pictures: a design is drawn from names alone, so its balance can be tested.
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
"""Kinds of items: what counts; the same again, sides swapped; one that says what to answer."""

T = TypeVar("T")

TIE = 0
RATINGS = 5


@dataclass(frozen=True)
class Unit:
    """Pictures that differ in nothing but the condition: one prompt, one seed."""

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
    """What is drawn: ``seats[r]`` are the items of rater r, in order."""

    kind: str
    conditions: tuple[str, ...]
    seats: tuple[tuple[Item, ...], ...]
    units: tuple[Unit, ...] = field(default=())


def answers(kind: str, places: int) -> range:
    """Return the answers an item may have: 1..places (0 for a tie of two), or 1..5 for a rating."""
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

    A **contrast** is what one item compares: two conditions (pairwise), one (rating) or all (forced choice).
    Over the whole survey, and for each rater, contrasts occur equally often up to one; each contrast meets its
    units (so, its prompts) equally often up to one, and each condition of a pair stands left equally often up to
    one. No rater meets one item twice, repeats aside. As many units are used as leave about ``overlap`` raters
    per item, but every prompt is used.

    :raises UsageError: for numbers that cannot be met.
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
        raise UsageError(
            f"a survey compares two conditions or more, here there is {', '.join(conditions) or 'none'}"
        )
    if kind == PAIRWISE:
        return list(combinations(conditions, 2))
    return [(name,) for name in conditions] if kind == RATING else [tuple(conditions)]


def most_items(kind: str, conditions: Sequence[str], units: Sequence[Unit]) -> int:
    """Return how many different items one rater can get; 1 where there are no units at all.

    :raises UsageError: for an unknown design, or fewer than two conditions.
    """
    seeds: dict[str, int] = {}
    for unit in units:
        seeds[unit.prompt] = seeds.get(unit.prompt, 0) + 1
    return max(1, min(seeds.values(), default=0) * len(seeds) * len(_contrasts(kind, conditions)))


def _pool(
    units: Sequence[Unit], contrasts: int, items: int, raters: int, overlap: int, seed: int
) -> list[Unit]:
    """Choose units, the same number of each prompt, in rounds that go through all prompts."""
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

    Visits go through rounds of prompts; contrasts start at different prompts. Places rotate by one from visit to
    visit; where that would tie a prompt to a place, or a unit, another turn per round or cycle undoes it.
    """
    cycle, within = divmod(visit, len(pool))
    round_, position = divmod(within, prompts)
    unit = pool[round_ * prompts + (position + start) % prompts]
    return unit, within + cycle + (round_ if gcd(prompts, places) > 1 else 0)


def _with_extras(
    items: list[Item], kind: str, repeats: int, checks: int, rng: random.Random
) -> tuple[Item, ...]:
    """Insert repeats, far from what they repeat, and checks, spread over the session."""
    if repeats > len(items) // 2:
        raise UsageError(f"--repeats {repeats}: at most half of the {len(items)} items")
    early = len(items) // 2 or 1
    again = [(i, _again(items[i])) for i in sorted(rng.sample(range(early), repeats))]
    sequence: list[tuple[Item, int]] = [(item, -1) for item in items]
    for original, item in again:
        # A repeat comes half a session later: late enough not to be remembered as such.
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
    """When a rater is left out: fixed when the survey is made, before there is any answer.

    :raises UsageError: for a number that no rule can have, such as NaN or a share above 1.

    :param failed_checks: more failed checks than this exclude.
    :param seconds: a median time per item below this excludes.
    :param answered: a share of answered items below this excludes.
    :param same_answer: giving one answer in more than this share of items (ten or more) excludes.
    :param consistency: a share of repeats answered alike below this excludes; 0 never does.
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
        """Read what is stored."""
        return cls(**values)  # type: ignore[arg-type]
