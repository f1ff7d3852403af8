"""The comparison page's tables and headline, and lines of charts that coincide."""

from __future__ import annotations

import re
from typing import Any

import pytest
from guidelens.report.charts import Line, dash_kinds, interval_mark, line_chart
from guidelens.report.page_tables import headline, score_bounds, tables
from guidelens.stats import Estimate, paired_differences

METRICS = [
    {
        "name": "judge",
        "columns": [
            {"name": "fit", "meaning": "how well it fits", "role": "alignment", "low": 0.0, "high": 1.0},
            {"name": "size", "meaning": "pixels", "role": "", "low": None, "high": None},
            {"name": "stars", "meaning": "of ten", "role": "", "low": 0.0, "high": 10.0},
        ],
    }
]
OFFSETS = {"itc": 0.0, "cap": 0.5, "none": -0.1}
COLOURS = {"itc": 0, "cap": 2, "none": 9}


def rows() -> list[dict[str, Any]]:
    """Scores of 4 prompts and 2 seeds: ``fit`` differs by :data:`OFFSETS`."""
    return [
        {
            "prompt": prompt,
            "reference": None,
            "schedule": schedule,
            "seed": seed,
            "metrics": {
                "fit": 0.3 + 0.05 * place + 0.01 * seed * place + offset,
                "size": 1000.0 * place + 300 * (schedule == "cap") * (1 + place),
                "stars": 2.0 + seed,
            },
        }
        for place, prompt in enumerate("abcd")
        for schedule, offset in OFFSETS.items()
        for seed in range(2)
    ]


def test_differences_are_those_of_the_pairs_both_ways() -> None:
    found = tables(rows(), list(OFFSETS), METRICS, COLOURS)
    assert [table.against for table in found.differences] == list(OFFSETS)
    for table in found.differences:
        for line in table.lines:
            for head, score in zip(found.difference_heads, line.scores, strict=True):
                expected = paired_differences(rows(), head.name, table.against)[line.schedule]
                assert score.estimate is not None
                assert score.estimate.mean == pytest.approx(expected.mean)
                assert score.estimate.n == expected.n == 8


def test_differences_are_against_the_unguided_first() -> None:
    assert tables(rows(), list(OFFSETS), METRICS, COLOURS).default == 2
    guided = [row for row in rows() if row["schedule"] != "none"]
    assert tables(guided, ["itc", "cap"], METRICS, COLOURS).default == 0


def test_headline_is_the_largest_difference_for_the_range_of_its_column() -> None:
    found = tables(rows(), list(OFFSETS), METRICS, COLOURS).headline
    assert found is not None
    assert (found.column, found.more, found.less) == ("fit", "cap", "itc")
    assert found.estimate.mean == pytest.approx(OFFSETS["cap"] - OFFSETS["itc"])
    assert found.compared == 3


def test_headline_compares_with_the_unguided_where_one_schedule_guides() -> None:
    two = [row for row in rows() if row["schedule"] != "itc"]
    found = tables(two, ["cap", "none"], METRICS, COLOURS).headline
    assert found is not None
    assert (found.column, found.more, found.less) == ("fit", "cap", "none")
    assert found.estimate.mean == pytest.approx(OFFSETS["cap"] - OFFSETS["none"])


def test_a_difference_whose_interval_excludes_zero_leads() -> None:
    declared = {column["name"]: column for column in METRICS[0]["columns"]}
    found = {
        ("cap", "itc", "fit"): Estimate(0.5, -0.1, 1.1, 8, 4),
        ("itc", "cap", "fit"): Estimate(-0.5, -1.1, 0.1, 8, 4),
        ("cap", "itc", "stars"): Estimate(2.0, 1.0, 3.0, 8, 4),
        ("itc", "cap", "stars"): Estimate(-2.0, -3.0, -1.0, 8, 4),
        ("cap", "itc", "size"): Estimate(900.0, 800.0, 950.0, 8, 4),
    }
    chosen = headline(found, declared)
    assert chosen is not None
    assert (chosen.column, chosen.more, chosen.less) == ("stars", "cap", "itc")


def test_headline_is_absent_where_nothing_differs() -> None:
    same = [row for row in rows() if row["schedule"] == "itc"]
    assert tables(same, ["itc"], METRICS, COLOURS).headline is None
    assert tables([], ["itc"], METRICS, COLOURS).heads == []


def test_heads_say_meaning_ends_of_the_axis_and_n() -> None:
    found = tables(rows(), list(OFFSETS), METRICS, COLOURS)
    fit, size, stars = found.heads
    assert (fit.meaning, fit.low, fit.high, fit.zero, fit.n) == ("how well it fits", "0", "1", None, 8)
    assert (stars.low, stars.high) == ("0", "10")
    assert size.high != "1"
    assert all(head.zero == pytest.approx(50) for head in found.difference_heads)
    partial = rows()
    del partial[0]["metrics"]["fit"]
    heads = {head.name: head for head in tables(partial, list(OFFSETS), METRICS, COLOURS).heads}
    assert (heads["fit"].n, heads["size"].n) == (None, 8)


def test_bounds_without_a_declared_range() -> None:
    assert score_bounds([Estimate(0.5, 0.2, 0.9, 4, 2)], {}) == (0.0, 1.0)
    assert score_bounds([Estimate(5.0, 2.0, 9.0, 4, 2)], {}) == (2.0, 9.0)


def test_rail_has_the_colour_of_the_schedule_and_a_tick_at_zero() -> None:
    mark = interval_mark(Estimate(0.5, 0.0, 1.0, 4, 2), (-1.0, 1.0), 3)
    assert 'class="rail zero" d="M50 0V12"' in mark
    assert 'class="dot line c3" d="M73 1V11"' in mark
    assert "zero" not in interval_mark(Estimate(0.5, 0.0, 1.0, 4, 2), (0.0, 1.0))


def test_a_line_that_covers_another_is_dashed() -> None:
    assert dash_kinds([[0.5] * 8, [0.5] * 8, [0.5] * 8], 1.0) == ["", " over1", " over2"]
    apart = [[i / 8 for i in range(8)], [1 - i / 8 for i in range(8)]]
    assert dash_kinds(apart, 1.0) == ["", ""]
    assert dash_kinds([[0.1, None], [None, 0.1]], 1.0) == ["", ""]
    svg = line_chart([Line([0.5, 0.5], 0), Line([0.5, 0.5], 2)], "blend", (0.0, 1.0))
    assert re.findall(r'class="(line [^"]+)"', svg) == ["line c0", "line c2 over1"]
