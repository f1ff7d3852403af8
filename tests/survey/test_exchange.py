"""Offline pages, Label Studio and MTurk files, and the files of results, go out blinded and come back whole."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guidelens.errors import UsageError
from guidelens_survey.create import create_survey
from guidelens_survey.exchange import export, import_answers, votes_csv, write_results
from guidelens_survey.statistics import results
from guidelens_survey.store import SurveyFile
from PIL import Image
from survey_runs import SCHEDULES


@pytest.fixture(params=["pairwise", "rating", "forced-choice"])
def survey(make: Callable[..., SurveyFile], request: pytest.FixtureRequest) -> SurveyFile:
    return make(design=request.param)


def offline_content(path: Path) -> dict[str, Any]:
    found = re.search(r'id="content">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def offline_answers(content: dict[str, Any]) -> dict[str, Any]:
    given = [
        {
            "item": item["id"],
            "answers": {q["name"]: item["choices"][-1][0] for q in content["questions"]},
            "seconds": 3.5,
        }
        for item in content["items"]
    ]
    return {"survey": content["survey"], "code": content["code"], "answers": given}


def test_offline_pages_are_whole_and_blinded(survey: SurveyFile, tmp_path: Path) -> None:
    files = export(survey, "offline", tmp_path / "pages")
    assert len(files) == 4
    for file in files:
        text = file.read_text()
        assert not re.search(r'(src|href)="(?!data:|#)', text)
        assert not re.search(r"https?://(?!www\.w3\.org)", text)
        words = re.sub(r"data:image/png;base64,[\w+/=]+", "", text)
        assert not re.search(rf"\b({'|'.join(SCHEDULES)})\b", words)
        assert '"kind": "check"' not in words


def test_offline_answers_come_back_once(survey: SurveyFile, tmp_path: Path) -> None:
    files = export(survey, "offline", tmp_path / "pages")
    content = offline_content(files[0])
    back = tmp_path / "answers.json"
    back.write_text(json.dumps(offline_answers(content)))
    done = import_answers(survey, "offline", back)
    assert (done.raters, done.stored, done.known) == (1, 16, 0)
    done = import_answers(survey, "offline", back)
    assert (done.raters, done.stored, done.known) == (1, 0, 16)
    rater = survey.rater(content["code"])
    assert rater is not None
    assert rater.finished
    assert rater.completion == content["completion"]
    assert {v["seconds"] for v in survey.votes()} == {3.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(survey="other"), "another survey"),
        (lambda a: a.update(code="nobody"), "no rater"),
        (lambda a: a["answers"][1].update(item=10**6), "not this rater's"),
        (lambda a: a["answers"][1]["answers"].update(realism=9), "9 is not one of"),
        (lambda a: a["answers"][1]["answers"].pop("realism"), "answers to alignment"),
        (lambda a: a.pop("answers"), "answers: Field required"),
        (lambda a: a.update(answers=7), "answers: Input should be a valid array"),
        (lambda a: a["answers"][1]["answers"].update(realism=1.9), r"valid integer.*got '1\.9'"),
        (lambda a: a["answers"][1]["answers"].update(realism=True), "valid integer.*got 'True'"),
        (lambda a: a["answers"][1]["answers"].update(realism="1"), "valid integer"),
        (lambda a: a["answers"][1].update(seconds=float("inf")), "finite number"),
        (lambda a: a["answers"][1].update(seconds=float("nan")), "finite number"),
        (lambda a: a["answers"][1].update(seconds=-1), "greater than or equal to 0"),
        (lambda a: a["answers"][1].update(item=10**4000), "answers.1.item"),
        (lambda a: a["answers"][1]["answers"].update({"\ud800": 1}), "Invalid JSON"),
    ],
)
def test_wrong_answers_store_nothing(
    make: Callable[..., SurveyFile], tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    survey = make()
    answers = offline_answers(offline_content(export(survey, "offline", tmp_path / "pages")[0]))
    change(answers)
    (tmp_path / "a.json").write_text(json.dumps(answers))
    with pytest.raises(UsageError, match=message):
        import_answers(survey, "offline", tmp_path / "a.json")
    assert survey.votes() == []


def labelled(survey: SurveyFile, folder: Path) -> list[Any]:
    """Return all tasks of Label Studio, each with one annotation."""
    tasks_file, _ = export(survey, "label-studio", folder)
    tasks: list[Any] = json.loads(tasks_file.read_text())
    for task in tasks:
        parts = [
            {"from_name": name, "type": "choices", "value": {"choices": ["Left"]}}
            for name in ("realism", "alignment")
        ]
        task["annotations"] = [{"completed_by": 7, "lead_time": 4.0, "result": parts}]
    return tasks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["annotations"][0].update(lead_time="abc"), r"lead_time: .*got 'abc'"),
        (lambda t: t["annotations"][0].update(lead_time=float("inf")), "lead_time: .*finite"),
        (lambda t: t["annotations"][0].update(completed_by=None), "completed_by"),
        (lambda t: t["annotations"][0]["result"][0]["value"].update(choices=[]), "choices: "),
        (
            lambda t: t["annotations"][0]["result"][0]["value"].update(choices=["Up"]),
            "'Up' is not one of Left",
        ),
        (lambda t: t["annotations"][0]["result"].pop(), "asked: realism, alignment"),
        (lambda t: t["data"].update(item=10**6), "no item 1000000"),
        (lambda t: t["data"].update(item=True), "item"),
        (lambda t: t.update(annotations=None), "annotations: "),
    ],
)
def test_wrong_labels_store_nothing(
    make: Callable[..., SurveyFile], tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    """One wrong task at the end of a file: the ones before it are not stored either, nor are their raters."""
    survey = make()
    tasks = labelled(survey, tmp_path / "ls")
    change(tasks[-1])
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    before = survey.raters()
    with pytest.raises(UsageError, match=message) as caught:
        import_answers(survey, "label-studio", tmp_path / "back.json")
    assert "\n" not in str(caught.value)
    assert survey.votes() == []
    assert survey.raters() == before
    assert results(survey).questions[0].n == 0


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"Answer.realism": ""}, "row 3: no answer to the question 'realism'"),
        ({"Answer.realism": "1.9"}, r"row 3: '1\.9' is not an answer"),
        ({"Answer.realism": "9"}, "9 is not one of 0, 1, 2"),
        ({"Answer.realism": "", "Answer.realism.1": "true", "Answer.realism.2": "true"}, "row 3: 2 answers"),
        ({"WorkTimeInSeconds": "nan"}, "WorkTimeInSeconds: .*finite"),
        ({"WorkTimeInSeconds": "soon"}, "WorkTimeInSeconds: .*got 'soon'"),
        ({"WorkerId": ""}, "WorkerId: Field required"),
        ({"Input.item": "1.5"}, "Input.item"),
    ],
)
def test_wrong_rows_store_nothing(
    make: Callable[..., SurveyFile], tmp_path: Path, cells: dict[str, str], message: str
) -> None:
    survey = make()
    table, _ = export(survey, "mturk", tmp_path / "mturk", url="https://rate.example/")
    rows = [
        {"WorkerId": "W", "WorkTimeInSeconds": "12", "Input.survey": row["survey"], "Input.item": row["item"],
         "Answer.realism": "1", "Answer.alignment": "1", "Answer.realism.1": "", "Answer.realism.2": ""}
        for row in list(csv.DictReader(io.StringIO(table.read_text())))[:2]
    ]  # fmt: skip
    rows[1].update(cells)
    back = io.StringIO()
    writer = csv.DictWriter(back, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "back.csv").write_text(back.getvalue())
    before = survey.raters()
    with pytest.raises(UsageError, match=message):
        import_answers(survey, "mturk", tmp_path / "back.csv")
    assert survey.votes() == []
    assert survey.raters() == before


def test_files_that_are_no_answers(make: Callable[..., SurveyFile], tmp_path: Path) -> None:
    survey = make()
    for form in ("offline", "label-studio", "mturk"):
        for content in (b"", b"[1, 2]", b"\xff\xfe", b"a,b\n1,2\n", b"null"):
            (tmp_path / "x").write_bytes(content)
            with pytest.raises(UsageError):
                import_answers(survey, form, tmp_path / "x")
    with pytest.raises(UsageError, match="cannot read"):
        import_answers(survey, "offline", tmp_path / "absent")


def test_label_studio_there_and_back(survey: SurveyFile, tmp_path: Path) -> None:
    tasks_file, config = export(survey, "label-studio", tmp_path / "ls")
    tasks = json.loads(tasks_file.read_text())
    root = ET.fromstring(config.read_text())
    values = {e.get("value", "")[1:] for e in root.iter() if e.tag in ("Text", "Image")}
    assert len(tasks) == len(survey.items())
    assert all(values <= task["data"].keys() for task in tasks)
    labels = {c.get("name"): [e.get("value") for e in c.iter("Choice")] for c in root.iter("Choices")}
    assert set(labels) == {"realism", "alignment"}
    for number, task in enumerate(tasks):
        task["annotations"] = [
            {
                "completed_by": {"id": 7 + number % 2, "email": "someone@example.org"},
                "lead_time": 4.0,
                "result": [
                    {"from_name": name, "type": "choices", "value": {"choices": [choices[0]]}}
                    for name, choices in labels.items()
                ],
            },
            {"completed_by": 9, "was_cancelled": True, "result": []},
        ]
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    done = import_answers(survey, "label-studio", tmp_path / "back.json")
    assert (done.raters, done.stored) == (2, 2 * len(tasks))
    assert import_answers(survey, "label-studio", tmp_path / "back.json").stored == 0
    assert {v["answer"] for v in survey.votes()} == {1}
    survey.close()
    for file in survey.path.parent.glob("survey.db*"):
        assert b"someone@" not in file.read_bytes()


def test_mturk_there_and_back(survey: SurveyFile, tmp_path: Path) -> None:
    table, layout = export(survey, "mturk", tmp_path / "mturk", url="https://rate.example/")
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == len(survey.items())
    used = set(re.findall(r"\$\{(\w+)\}", layout.read_text()))
    assert used <= rows[0].keys()
    token = rows[0]["picture_1"].removeprefix("https://rate.example/i/")
    assert survey.image(token) is not None
    back = io.StringIO()
    names = ["WorkerId", "AssignmentStatus", "WorkTimeInSeconds", "Input.survey", "Input.item"]
    writer = csv.DictWriter(back, [*names, "Answer.realism.1", "Answer.realism.2", "Answer.alignment"])
    writer.writeheader()
    for number, row in enumerate(rows):
        writer.writerow(
            {
                "WorkerId": f"WORKER{number % 3}", "AssignmentStatus": "Rejected" if number == 0 else "Approved",
                "WorkTimeInSeconds": "12", "Input.survey": row["survey"], "Input.item": row["item"],
                "Answer.realism.1": "false", "Answer.realism.2": "true", "Answer.alignment": "1",
            }
        )  # fmt: skip
    (tmp_path / "back.csv").write_text(back.getvalue())
    done = import_answers(survey, "mturk", tmp_path / "back.csv")
    assert (done.raters, done.stored) == (3, 2 * (len(rows) - 1))
    assert {(v["question"], v["answer"]) for v in survey.votes()} == {("realism", 2), ("alignment", 1)}
    for file in survey.path.parent.glob("survey.db*"):
        assert b"WORKER" not in file.read_bytes()


def test_results_are_files(survey: SurveyFile, tmp_path: Path) -> None:
    for file in export(survey, "offline", tmp_path / "pages"):
        (tmp_path / "a.json").write_text(json.dumps(offline_answers(offline_content(file))))
        import_answers(survey, "offline", tmp_path / "a.json")
    page, figure, raster, numbers, votes = write_results(survey, results(survey), tmp_path / "out")
    ET.fromstring(figure.read_text())
    assert all(name in figure.read_text() for name in (*SCHEDULES, "realism", "alignment"))
    picture, size = (
        Image.open(io.BytesIO(raster.read_bytes())),
        re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', figure.read_text()),
    )
    assert size
    assert picture.size == tuple(round(4 * float(side)) for side in size.groups())
    assert not re.search(r"https?://(?!www\.w3\.org)", page.read_text())
    assert len(json.loads(numbers.read_text())["raters"]) == 4
    rows = list(csv.DictReader(io.StringIO(votes.read_text())))
    assert votes.read_text() == votes_csv(survey)
    assert len(rows) == 4 * 8 * 2
    images = survey.images()
    items = {item.id: item for item in survey.items()}
    for row in rows:
        item = items[int(row["item"])]
        assert row["shown"].split("|") == [images[token]["condition"] for token in item.tokens]
        if survey.kind != "rating":
            assert row["chosen"] == row["shown"].split("|")[int(row["answer"]) - 1]


def test_votes_hold_no_formula(run: Path, tmp_path: Path) -> None:
    """A prompt that a spreadsheet would run is text in it."""
    prompt = '=cmd|" /C calc"!A0'
    rows = (run / "results.jsonl").read_text().replace('"a red circle"', json.dumps(prompt))
    (run / "results.jsonl").write_text(rows)
    survey = create_survey(run, tmp_path / "formula.db", items=9, raters=3, repeats=0, checks=1)
    for rater in survey.raters():
        for item in survey.items(rater.seat):
            survey.vote(rater, item, dict.fromkeys(("realism", "alignment"), 1))
    prompts = {row["prompt"] for row in csv.DictReader(io.StringIO(votes_csv(survey)))}
    assert f"'{prompt}" in prompts
    assert not [text for text in prompts if text.startswith("=")]


def test_nasty_texts_stay_texts(make: Callable[..., SurveyFile], tmp_path: Path) -> None:
    nasty = "</script><script>alert('x')</script>"
    survey = make(title=nasty, questions=[f"taste={nasty}"], contact=nasty, consent=nasty)
    (first, *_) = export(survey, "offline", tmp_path / "pages")
    text = first.read_text()
    assert "<script>alert" not in text
    assert offline_content(first)["questions"][0]["text"] == nasty
    _, config = export(survey, "label-studio", tmp_path / "ls")
    ET.fromstring(config.read_text())
    page, *_ = write_results(survey, results(survey), tmp_path / "out")
    assert "<script>" not in page.read_text()
