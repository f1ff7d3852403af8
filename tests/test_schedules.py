"""The built-in schedules against the formulas of Kong & Kwak (2023)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from guidelens import PluginManager, UsageError
from guidelens.contracts import Schedule
from guidelens.runs.resolve import default_components
from guidelens.schedules import tabulate
from guidelens_schedules import Blend, Curve, Shift, SingleObjective, Unguided
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
    [
        SingleObjective("itc"),
        SingleObjective("xyz"),
        Shift(),
        Shift("itm", "cap"),
        Blend(cap=1, itc=1 / 3),
        Curve({"itc": [(0, 0), (0.25, 1), (0.25, 0.5)], "cap": [(0.5, 1)]}),
    ],
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
        ("blend:itc", "is not key=value"),
        ("curve", "there are no curves; write curve:itc=0@0/1@1"),
        ("curve:itc=1", "'1' in the curve of 'itc' is not a point; write weight@progress"),
        ("curve:itc=0@0/x@1", "'x@1' in the curve of 'itc' is not a point"),
        ("curve:itc=nan@0", "needs finite numbers, got nan"),
        ("curve:itc=0@0.5/1@0.2", "progress must go from 0 to 1 along the curve of 'itc', got 0.5, 0.2"),
        ("curve:itc=1@1.5", "progress must go from 0 to 1"),
        ("curve:itc=0@0,cap=0@1", "every weight is 0"),
        ("curve:file=nowhere.json", "cannot read the curves nowhere.json: No such file"),
        ("curve:file=x.json,itc=1@0", "give file=x.json or curves by objective, not both"),
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


point = st.tuples(st.integers(0, 1000).map(lambda n: n / 1000), st.floats(-5, 5))


@given(st.lists(point, min_size=1, unique_by=lambda p: p[0]).map(sorted), progress)
def test_a_curve_interpolates(points: list[tuple[float, float]], p: float) -> None:
    curve = Curve({"itc": points, "cap": [(0, 1)]})
    expected = np.interp(p, *zip(*points, strict=True))
    assert curve.weights(p)["itc"] == pytest.approx(expected, abs=1e-9)
    assert curve.weights(p)["cap"] == 1


def test_a_curve_jumps_where_two_points_are_at_one_place(manager: PluginManager) -> None:
    curve = manager.build("schedule", "curve:cap=1@0/1@0.3/0@0.3,itc=0@0.3/1@0.3")
    assert curve.weights(0.2999) == {"cap": 1.0, "itc": 0.0}
    assert curve.weights(0.3) == {"cap": 0.0, "itc": 1.0}
    assert curve.weights(1.0) == {"cap": 0.0, "itc": 1.0}


def test_a_curve_can_draw_shift(manager: PluginManager) -> None:
    curve = manager.build("schedule", "curve:itc=0@0/1@1,cap=1@0/0@1")
    assert [curve.weights(p) for p in (0.0, 0.25, 1.0)] == [Shift().weights(p) for p in (0.0, 0.25, 1.0)]


def test_a_curve_is_read_from_a_file(manager: PluginManager, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"itc": [[0, 0], [0.5, 1]], "cap": [[0, 1], [1, 0]]}))
    assert manager.build("schedule", f"curve:file={file}") == manager.build(
        "schedule", "curve:cap=1@0/0@1,itc=0@0/1@0.5"
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"itc": 1}', '{"itc": [[0]]}', '{"itc": [["a", 1]]}', "{}"])
def test_files_that_are_not_curves(manager: PluginManager, tmp_path: Path, content: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="curve"):
        manager.build("schedule", f"curve:file={file}")


def test_a_curve_is_drawn_only_when_it_is_named(manager: PluginManager) -> None:
    names = [component.spec for component in default_components(manager, "schedule")]
    assert "curve" not in names
    assert {"itc", "shift", "blend"} <= set(names)


def test_none_guides_nothing(manager: PluginManager) -> None:
    schedule = manager.build("schedule", "none")
    assert schedule == Unguided()
    assert repr(schedule) == "none"
    assert tabulate(schedule, 5).by_objective == {}
