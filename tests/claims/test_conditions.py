"""What a schedule does, read off its weights."""

from __future__ import annotations

import pytest
from claim_worlds import WEIGHTS
from guidelens.claims.conditions import pattern_of


@pytest.mark.parametrize(
    ("schedule", "pattern"),
    [("itc", "itc"), ("mine", "shift:cap,itc"), ("both", "blend:cap,itc")],
)
def test_schedules_are_known_by_what_they_do(schedule: str, pattern: str) -> None:
    assert pattern_of(WEIGHTS[schedule]) == pattern


def test_other_schedules_have_no_pattern() -> None:
    assert pattern_of({"itc": [0.0, 1.0, 0.0], "cap": [1.0, 0.0, 1.0]}) == ""
    assert pattern_of({"itc": [0.0, 0.0]}) == ""
    assert pattern_of({"itc": [0.0, 1.0, 0.5], "cap": [1.0, 0.5, 0.0]}) == ""
    assert pattern_of({"itc": [0.0, 1.0], "cap": [1.0, 0.0]}) == "shift:cap,itc"
    assert pattern_of({"itc": [1.0, 0.0], "cap": [0.0, 1.0]}) == "shift:itc,cap"
    assert pattern_of({"itc": [None, 1.0]}) == "itc"
