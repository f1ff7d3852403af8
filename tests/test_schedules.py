"""The built-in schedules against the formulas of Kong & Kwak (2023)."""

from __future__ import annotations

import pytest
from guidelens import PluginManager, UsageError
from guidelens.contracts import Schedule
from guidelens_schedules import Blend, Shift, SingleObjective
from hypothesis import given
from hypothesis import strategies as st

progress = st.floats(0.0, 1.0)


@pytest.fixture(scope="module")
def manager() -> PluginManager:
    return PluginManager.load(environment={})


@pytest.mark.parametrize("name", ["itc", "itm", "cap"])
def test_single_objectives(manager: PluginManager, name: str) -> None:
    schedule = manager.build("schedule", name)
    assert isinstance(schedule, Schedule)
    assert [schedule.weights(p) for p in (0.0, 0.3, 1.0)] == [{name: 1.0}] * 3
    assert repr(schedule) == name
    assert schedule == manager.build("schedule", f"objective:name={name}")


def test_any_objective(manager: PluginManager) -> None:
    assert manager.build("schedule", "objective:name=coca").weights(0.5) == {"coca": 1.0}


def test_shift_turns_from_caption_to_contrast(manager: PluginManager) -> None:
    schedule = manager.build("schedule", "shift")
    assert schedule.weights(0.0) == {"cap": 1.0, "itc": 0.0}
    assert schedule.weights(0.25) == {"cap": 0.75, "itc": 0.25}
    assert schedule.weights(1.0) == {"cap": 0.0, "itc": 1.0}
    turned = manager.build("schedule", "shift:start=itc,end=itm")
    assert turned.weights(0.25) == {"itc": 0.75, "itm": 0.25}


@given(progress)
def test_shift_weights_sum_to_one(p: float) -> None:
    assert sum(Shift().weights(p).values()) == pytest.approx(1.0, abs=1e-15)


def test_blend_is_constant(manager: PluginManager) -> None:
    assert manager.build("schedule", "blend").weights(0.1) == {"itc": 0.5, "cap": 0.5}
    given = manager.build("schedule", "blend:itc=0.25,itm=2,cap=-1")
    for p in (0.0, 0.5, 1.0):
        assert given.weights(p) == {"itc": 0.25, "itm": 2.0, "cap": -1.0}


def test_blend_hands_out_copies() -> None:
    blend = Blend(itc=1.0)
    dict(blend.weights(0.0)).clear()
    handed_out = blend.weights(0.0)
    assert isinstance(handed_out, dict)
    handed_out["itc"] = 7.0
    assert blend.weights(0.0) == {"itc": 1.0}


@pytest.mark.parametrize(
    "schedule",
    [SingleObjective("itc"), SingleObjective("xyz"), Shift(), Shift("itm", "cap"), Blend(cap=1, itc=1 / 3)],
)
def test_the_repr_is_the_spelling(manager: PluginManager, schedule: Schedule) -> None:
    assert manager.build("schedule", repr(schedule)) == schedule
    assert hash(manager.build("schedule", repr(schedule))) == hash(schedule)


def test_schedules_compare_by_what_they_do() -> None:
    assert Blend(itc=1, cap=2) == Blend(cap=2.0, itc=1.0)
    assert Blend(itc=1) != Blend(itc=2)
    assert Shift() != Shift("itc", "cap")
    assert SingleObjective("itc") != Blend(itc=1)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("objective", "cannot do without name"),
        ("objective:name=", "an objective is named by a text"),
        ("shift:start=itc", "shift from 'itc' to itself"),
        ("blend:itc=0,cap=0", "every weight is 0"),
        ("blend:itc=inf", "expected float, not 'inf'"),
        ("blend:itc", "no key=value"),
        ("itc:scale=2", "has no option 'scale'; it has none"),
    ],
)
def test_mistakes(manager: PluginManager, spelling: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        manager.build("schedule", spelling)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1", None, True])
def test_weights_from_python_are_checked(weight: object) -> None:
    with pytest.raises(UsageError, match="the weight of 'itc' must be a finite number"):
        Blend(itc=weight)  # type: ignore[arg-type]
