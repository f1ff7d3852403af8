"""What a survey concludes in words, and how it asks about realism in a world of its own."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from guidelens.colours import colour
from guidelens.errors import GuidelensError
from guidelens_survey.create import create_survey
from guidelens_survey.design import Rules
from guidelens_survey.drawing import figure, figure_png
from guidelens_survey.statistics import Interval, QuestionResult, RaterReport, SurveyResults
from guidelens_survey.wording import conclusion
from guidelens_worlds.shapes.metrics import COLUMNS
from PIL import Image
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
    column: dict[str, object] = {
        "name": "fidelity",
        "meaning": "m",
        "role": "realism",
        "low": None,
        "high": None,
    }
    column |= {"higher_is_better": True, "looks": declared}
    config["metrics"] = [{"name": "m", "columns": [column]}]
    (run / "config.json").write_text(json.dumps(config))
    survey = create_survey(run, tmp_path / "s.db", raters=2)
    assert {q.name: q.text for q in survey.questions}["realism"] == text


def test_a_dot_is_in_the_same_place_in_both_files_and_has_the_colour_of_its_schedule() -> None:
    asked = question(itc=(0.3, 0.2, 0.4), cap=(0.7, 0.6, 0.8), none=(NAN, NAN, NAN))
    found = SurveyResults("t", "pairwise", ["itc", "cap", "none"], Rules(), [], [asked], 0.5)
    svg = figure(found)
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5" fill="(#\w+)"', svg)
    assert [fill for _, _, fill in dots] == [colour("itc").light, colour("cap").light]
    xs = [float(x) for x, _, _ in dots]
    (chance,) = re.findall(r'd="M([\d.]+) [\d.]+v[\d.]+"[^>]*stroke-dasharray', svg)
    assert sum(xs) / 2 == pytest.approx(float(chance), abs=0.2)  # 0.3 and 0.7 lie around 0.5
    picture = Image.open(io.BytesIO(figure_png(found)))
    for x, y, fill in dots:
        inside = picture.getpixel((round(4 * float(x)), round(4 * float(y))))
        assert "#{:02x}{:02x}{:02x}".format(*inside) == fill  # type: ignore[misc]
    assert "nan" not in svg


def test_results_save_and_show_themselves(tmp_path: Path) -> None:
    asked = question(itc=(0.3, 0.2, 0.4), cap=(0.7, 0.6, 0.8))
    scored = replace(
        asked, name="alignment", scores={"itc": Interval(-1.0, -2.0, 0.5), "cap": Interval(1.0, -0.5, 2.0)}
    )
    rater = RaterReport(1, "server", 10, 10, True, 1, 1, None, 3.0, ())
    found = SurveyResults("t", "pairwise", ["itc", "cap"], Rules(), [rater], [asked, scored], 0.5)
    assert found.save(tmp_path / "a.svg").read_text() == str(figure(found))
    assert found.save(tmp_path / "a.png").read_bytes() == found._repr_png_() == figure_png(found)
    assert json.loads(found.save(tmp_path / "a.json").read_text()) == found.as_dict()
    assert found._repr_html_() in found.save(tmp_path / "a.html").read_text()
    assert "<svg" in found._repr_html_()
    with pytest.raises(
        GuidelensError, match=r"x\.csv: the file name must end in \.html, \.svg, \.png, \.json"
    ):
        found.save(tmp_path / "x.csv")
    frame = found.to_pandas()
    assert list(frame["question"]) == ["realism", "realism", "alignment", "alignment"]
    assert list(frame["condition"]) == ["itc", "cap"] * 2
    assert frame.loc[1, ["value", "low", "high"]].tolist() == [0.7, 0.6, 0.8]
    assert frame.loc[2, ["score_value", "score_low", "score_high"]].tolist() == [-1.0, -2.0, 0.5]
    assert frame["score_value"].isna().tolist() == [True, True, False, False]


def test_the_shapes_world_declares_its_word() -> None:
    assert [column.looks for column in COLUMNS if column.looks] == ["cleanly drawn"]
