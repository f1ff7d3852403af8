"""The design is balanced, seeded, and says what it cannot do."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from guidelens.errors import UsageError
from guidelens_survey.design import CHECK, REAL, REPEAT, Item, Plan, Unit, answers, draw
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("itc", "itm", "cap", "shift", "blend", "none")


def units(prompts: int, seeds: int) -> list[Unit]:
    return [Unit(f"prompt {p}", s) for p in range(prompts) for s in range(seeds)]


def spread(counts: Counter, keys: object = None) -> int:  # type: ignore[type-arg]
    """How far apart counts are; keys that never occurred count as 0."""
    values = [counts[key] for key in (keys if keys is not None else counts)]  # type: ignore[attr-defined]
    return max(values) - min(values)


def real(plan: Plan) -> list[Item]:
    return [item for seat in plan.seats for item in seat if item.kind == REAL]


sizes = st.tuples(
    st.integers(2, 6),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 30),
    st.integers(1, 14),
    st.integers(0, 99),
)


@given(sizes)
@settings(max_examples=150, deadline=None)
def test_pairwise_is_balanced(numbers: tuple[int, ...]) -> None:
    conditions, prompts, seeds, items, raters, seed = numbers
    names, there = NAMES[:conditions], units(prompts, seeds)
    pairs = [frozenset(pair) for pair in combinations(names, 2)]
    items = min(items, len(pairs) * len(there))
    plan = draw("pairwise", names, there, items=items, raters=raters, repeats=0, checks=0, seed=seed)
    shown = real(plan)
    assert len(shown) == items * raters
    assert spread(Counter(frozenset(i.shown) for i in shown), pairs) <= 1
    used = list(dict.fromkeys(unit.prompt for unit in plan.units))
    assert set(used) == {unit.prompt for unit in there}
    for pair in pairs:
        mine = [i for i in shown if frozenset(i.shown) == pair]
        assert spread(Counter(i.unit.prompt for i in mine), used) <= 1
        assert spread(Counter(i.unit for i in mine), plan.units) <= 1
        assert spread(Counter(i.shown[0] for i in mine), pair) <= 1
        for prompt in used:  # nor does a side go with a prompt, or a seed of it
            assert spread(Counter(i.shown[0] for i in mine if i.unit.prompt == prompt), pair) <= 1
        for unit in plan.units:
            assert spread(Counter(i.shown[0] for i in mine if i.unit == unit), pair) <= 1
    for seat in plan.seats:
        assert spread(Counter(frozenset(i.shown) for i in seat), pairs) <= 1
        assert max(Counter((i.unit, frozenset(i.shown)) for i in seat).values()) == 1


@given(sizes)
@settings(max_examples=100, deadline=None)
def test_ratings_and_choices_are_balanced(numbers: tuple[int, ...]) -> None:
    conditions, prompts, seeds, items, raters, seed = numbers
    names, there = NAMES[:conditions], units(prompts, seeds)
    rated = draw(
        "rating",
        names,
        there,
        items=min(items, conditions * len(there)),
        raters=raters,
        repeats=0,
        checks=0,
        seed=seed,
    )
    assert spread(Counter(i.shown for i in real(rated)), [(n,) for n in names]) <= 1
    chosen = draw(
        "forced-choice",
        names,
        there,
        items=min(items, len(there)),
        raters=raters,
        repeats=0,
        checks=0,
        seed=seed,
    )
    assert all(sorted(i.shown) == sorted(names) for i in real(chosen))
    assert spread(Counter(i.unit for i in real(chosen)), chosen.units) <= 1
    for place in range(conditions):  # every condition as often in every place, up to what is left of a round
        assert spread(Counter(i.shown[place] for i in real(chosen)), names) <= 2 * conditions


def test_no_prompt_is_tied_to_a_side() -> None:
    """With an even number of prompts and of seeds, plain alternation would always show one side of a prompt."""
    plan = draw("pairwise", ("a", "b"), units(4, 2), items=8, raters=8, repeats=0, checks=0, overlap=8)
    for unit in units(4, 2):
        left = Counter(item.shown[0] for item in real(plan) if item.unit == unit)
        assert left["a"] == left["b"] == 4


def test_repeats_swap_sides_and_come_late() -> None:
    plan = draw("pairwise", NAMES[:4], units(5, 2), items=20, raters=9, repeats=3, checks=3)
    for seat in plan.seats:
        assert Counter(item.kind for item in seat) == {REAL: 20, REPEAT: 3, CHECK: 3}
        for at, item in enumerate(seat):
            if item.kind == REPEAT:
                original = seat[item.repeats]
                assert (original.kind, original.unit) == (REAL, item.unit)
                assert item.shown == original.shown[::-1]
                assert at - item.repeats >= 6
            if item.kind == CHECK:
                assert at > 0
                assert item.expected in answers("pairwise", 2)
                assert item.expected != 0


def test_the_seed_decides() -> None:
    def plan(seed: int) -> Plan:
        return draw("pairwise", NAMES[:4], units(5, 2), items=12, raters=3, repeats=1, checks=1, seed=seed)

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    orders = [[item.unit for item in seat] for seat in plan(1).seats]
    assert orders[0] != orders[1]


def test_overlap_gives_items_several_raters() -> None:
    plan = draw("pairwise", NAMES[:3], units(2, 20), items=12, raters=10, repeats=0, checks=0, overlap=5)
    met = Counter((i.unit, frozenset(i.shown)) for i in real(plan))
    assert 4 <= sum(met.values()) / len(met) <= 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"items": 0}, "--items 0"),
        ({"items": 37}, "at most 36"),
        ({"raters": 0}, "--raters 0"),
        ({"repeats": 4}, "--repeats 4: at most half"),
        ({"kind": "ranking"}, "unknown design"),
        ({"conditions": ("a",)}, "two conditions"),
        ({"units": []}, "every condition"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, object], message: str) -> None:
    values: dict[str, object] = {
        "kind": "pairwise", "conditions": NAMES[:4], "units": units(3, 2), "items": 6, "raters": 2, "repeats": 1,
        "checks": 1, **options,
    }  # fmt: skip
    with pytest.raises(UsageError, match=message):
        draw(values.pop("kind"), values.pop("conditions"), values.pop("units"), **values)  # type: ignore[arg-type]
