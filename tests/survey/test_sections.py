"""The parts of a run's report that tell what people said: found by what files hold, read without touching them."""

from __future__ import annotations

import builtins
import html.parser
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from guidelens_survey.create import create_survey
from guidelens_survey.exchange import write_results
from guidelens_survey.figure import fragment, study_sections
from guidelens_survey.statistics import results
from guidelens_survey.store import StoredItem, SurveyFile, find_surveys


def make_in(run: Path, name: str = "survey.db", **options: object) -> SurveyFile:
    return create_survey(run, run / name, **{"items": 6, "raters": 4, "repeats": 1, "checks": 1, **options})  # type: ignore[arg-type]


def answer(survey: SurveyFile, raters: int = 3, hasty: int = 0) -> None:
    """Let raters answer who prefer what comes first in the alphabet; the last ``hasty`` ones are too fast."""
    for number in range(raters):
        rater = survey.join(f"visit {number}")
        assert rater is not None
        for item in survey.items(rater.seat):
            value = item.expected or opinion(item, number)
            seconds = 0.1 if number >= raters - hasty else 4.0
            survey.vote(rater, item, dict.fromkeys(("realism", "alignment"), value), seconds=seconds)


def opinion(item: StoredItem, rater: int) -> int:
    """The first in the alphabet; for one picture, what differs a little from rater to rater."""
    return 1 + (
        item.shown.index(min(item.shown)) if len(item.shown) > 1 else len(item.shown[0]) % 3 + rater % 3
    )


class Whole(html.parser.HTMLParser):
    """Fails where tags do not close as they open; keeps ids, headings and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Whole:
    whole = Whole()
    whole.feed(str(text))
    whole.close()
    assert whole.open == []
    return whole


@pytest.mark.parametrize("design", ["pairwise", "rating", "forced-choice"])
def test_a_section_tells_all(run: Path, design: str) -> None:
    answer(make_in(run, design=design), raters=4, hasty=1)
    ((title, text),) = study_sections(run)
    found = read(text)
    assert title == "What people said"
    assert found.seen.count("svg") == 1
    assert {"h1", "h2", "main", "style", "script"}.isdisjoint(found.seen)
    assert found.ids == []
    for words in (
        "itc",
        "realism",
        "alignment",
        "Krippendorff",
        "median of 0.1 s per screen",
        "answered alike",
    ):
        assert words in found.text
    assert "Included: 3 of 4 raters (1 excluded" in found.text
    assert ("Bradley-Terry score" in found.text) == (design == "pairwise")


def test_the_section_and_the_page_are_one(run: Path, tmp_path: Path) -> None:
    survey = make_in(run)
    answer(survey)
    ((_, text),) = study_sections(run)
    page, *_ = write_results(survey, results(survey), tmp_path / "out")
    assert text == fragment(results(survey))
    assert str(text) in page.read_text()
    assert '<h2 id="survey-title">What people said</h2>' in page.read_text()


def test_surveys_are_found_by_what_they_hold(run: Path) -> None:
    assert study_sections(run) == []
    assert study_sections(run / "absent") == []
    make_in(run, "votes.bin")
    make_in(run, "second.db", design="rating")
    with closing(sqlite3.connect(run / "other.db")) as db:
        db.executescript("CREATE TABLE t (x); PRAGMA application_id = 7;")
    (run / "empty.db").touch()
    (run / "folder.db").mkdir()
    assert [path.name for path in find_surveys(run)] == ["second.db", "votes.bin"]
    titles = [title for title, _ in study_sections(run)]
    assert titles == ["What people said: second.db", "What people said: votes.bin"]
    regions = [text.count("aria-label") for _, text in study_sections(run)]
    assert regions == [0, 0]


def test_no_answers_are_said(run: Path) -> None:
    make_in(run)
    ((_, text),) = study_sections(run)
    found = read(text)
    assert "Nobody has answered yet" in found.text
    assert "svg" not in found.seen


def test_nobody_who_counts_is_said(run: Path) -> None:
    answer(make_in(run), raters=2, hasty=2)
    ((_, text),) = study_sections(run)
    found = read(text)
    assert "Included: 0 of 2 raters (2 excluded" in found.text
    assert "svg" not in found.seen
    assert found.text.count("median of 0.1 s per screen") == 2


@pytest.mark.parametrize("how", ["cut", "overwritten", "not sqlite", "meta", "later", "rows"])
def test_a_broken_file_is_one_line(run: Path, how: str) -> None:
    survey = make_in(run)
    answer(survey)
    survey.close()
    content = survey.path.read_bytes()
    if how == "cut":
        survey.path.write_bytes(content[:4096])
    elif how == "overwritten":
        survey.path.write_bytes(content[:100] + bytes(len(content) - 100))
    elif how == "not sqlite":
        survey.path.write_text("<b>gone</b>")
    else:
        change = {
            "meta": "UPDATE meta SET value = '{' WHERE name = 'design'",
            "later": "UPDATE meta SET value = '99' WHERE name = 'format'",
            "rows": "DELETE FROM item WHERE position = 2",
        }[how]
        with sqlite3.connect(survey.path) as db:
            db.execute(change)
        db.close()
    ((_, text),) = study_sections(run)
    found = read(text)
    assert found.seen == ["p"]
    assert "survey.db" in found.text
    assert "\n" not in found.text.strip()


def test_a_missing_library_is_said_and_the_rest_is_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(make_in(run))
    real = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name == "krippendorff":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    ((_, text),) = study_sections(run)
    found = read(text)
    assert 'pip install "guidelens[survey]"' in found.text
    assert "svg" in found.seen


def state(run: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.iterdir() if p.is_file()}


def test_reading_leaves_everything_as_it_was(run: Path) -> None:
    survey = make_in(run)
    answer(survey)
    survey.close()
    before = state(run)
    assert "survey.db-wal" not in before
    (run / "survey.db").chmod(0o444)
    study_sections(run)
    assert state(run) == before


def test_a_server_goes_on_while_its_file_is_read(run: Path) -> None:
    """A reader in the middle of its work holds up no vote, sees those that came before it, and leaves the log there."""
    survey = make_in(run)
    answer(survey, raters=1)
    reader = SurveyFile(survey.path, read_only=True)
    reader._db.execute("BEGIN")
    assert len(reader.votes()) == 16
    rater = survey.join("another")
    assert rater is not None
    for item in survey.items(rater.seat):
        value = item.expected or opinion(item, 0)
        assert survey.vote(rater, item, {"realism": value, "alignment": value}, seconds=4.0) == 2
    assert len(reader.votes()) == 16
    reader._db.execute("COMMIT")
    assert len(reader.votes()) == 32
    with pytest.raises(Exception, match="readonly"):
        reader.mark(rater, "finished")
    reader.close()
    assert (run / "survey.db-wal").stat().st_size > 0
    assert "Included: 2 of 2 raters" in study_sections(run)[0][1]


def test_what_a_killed_server_left_is_read_and_left(run: Path) -> None:
    """Votes are in the log only; reading finds them there and does not move them."""
    survey = make_in(run)
    survey.close()
    program = (
        "import os, sys; from guidelens_survey.store import SurveyFile\n"
        "s = SurveyFile(sys.argv[1]); r = s.join('v')\n"
        "for i in s.items(r.seat):\n"
        "    s.vote(r, i, {'realism': i.expected or 2, 'alignment': i.expected or 1}, seconds=4.0)\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(survey.path)], check=True, env={**os.environ})
    before = state(run)
    assert before["survey.db-wal"][0]
    assert "Included: 1 of 1 rater" in read(study_sections(run)[0][1]).text
    after = state(run)
    assert {name: after[name][0] for name in ("survey.db", "survey.db-wal")} == {
        name: before[name][0] for name in ("survey.db", "survey.db-wal")
    }
    shutil.rmtree(run)


def test_titles_of_raters_cannot_break_the_page(run: Path) -> None:
    nasty = "<script>alert(1)</script>"
    survey = make_in(run, questions=[f"taste={nasty}", "realism"])
    rater = survey.join("v")
    assert rater is not None
    for item in survey.items(rater.seat):
        survey.vote(rater, item, {"taste": item.expected or 1, "realism": item.expected or 0}, seconds=4.0)
    ((_, text),) = study_sections(run)
    assert "script" not in read(text).seen
    assert nasty in read(text).text
