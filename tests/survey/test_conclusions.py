"""What a survey concludes in words, and how it asks about realism in a world of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from guidelens_shapes.metrics import COLUMNS
from guidelens_survey.create import create_survey
from guidelens_survey.statistics import Interval, QuestionResult, conclusion
from survey_runs import make_run

NAN = math.nan


def question(**means: tuple[float, float, float]) -> QuestionResult:
    found = {name: Interval(*values) for name, values in means.items()}
    return QuestionResult("realism", "?", 10, found, None, None, None, None)


@pytest.mark.parametrize(
    ("means", "chance", "said"),
    [
        (
            {"itc": (0.5, 0.4, 0.6), "cap": (0.52, 0.41, 0.7)},
            0.5,
            "Nothing differs from chance: the interval of every condition includes it.",
        ),
        (
            {"itc": (0.3, 0.2, 0.4), "cap": (0.7, 0.6, 0.8), "itm": (0.5, 0.4, 0.6)},
            0.5,
            "cap: more often chosen than chance; itc: less often chosen than chance; "
            "the rest does not differ from chance.",
        ),
        ({"cap": (0.7, 0.6, 0.8)}, 0.5, "cap: more often chosen than chance."),
        ({"itc": (0.5, NAN, NAN)}, 0.5, "Too few answers for intervals: nothing can be concluded yet."),
        (
            {"itc": (3.0, 2.5, 3.5), "cap": (3.2, 2.9, 3.6)},
            None,
            "Nothing differs: the intervals of all conditions overlap.",
        ),
        (
            {"itc": (2.0, 1.5, 2.5), "cap": (3.2, 2.9, 3.6), "itm": (3.0, 2.6, 3.4)},
            None,
            "cap is rated higher than itc: their intervals do not overlap.",
        ),
    ],
)
def test_conclusions(means: dict[str, tuple[float, float, float]], chance: float | None, said: str) -> None:
    assert conclusion(question(**means), chance) == said


def test_ratings_compare_the_intervals_that_are_farthest_apart() -> None:
    """The highest mean may have the widest interval; another pair may be apart nevertheless."""
    found = question(itc=(2.0, 1.5, 2.5), cap=(3.2, 2.0, 4.4), itm=(3.0, 2.6, 3.4))
    assert conclusion(found, None) == "itm is rated higher than itc: their intervals do not overlap."


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("cleanly drawn", "Which picture looks more cleanly drawn?"),
        ("", "Which picture looks more real?"),
    ],
)
def test_realism_is_asked_in_the_words_of_the_world(tmp_path: Path, declared: str, text: str) -> None:
    run = make_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    column = {"name": "fidelity", "meaning": "m", "role": "realism", "looks": declared}
    config["metrics"] = [{"name": "m", "columns": [column]}]
    (run / "config.json").write_text(json.dumps(config))
    survey = create_survey(run, tmp_path / "s.db", raters=2)
    assert {q.name: q.text for q in survey.questions}["realism"] == text


def test_the_shapes_world_declares_its_word() -> None:
    assert [column.looks for column in COLUMNS if column.looks] == ["cleanly drawn"]
