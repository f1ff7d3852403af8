"""What ``guidelens survey create`` takes from a directory, and the commands around it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.errors import UsageError
from guidelens_survey.create import create_survey, pad, read_where
from guidelens_survey.design import Rules
from guidelens_survey.store import SurveyFile
from survey_runs import PROMPTS, SCHEDULES, make_run


def run_command(*args: str) -> Result:
    return CliRunner().invoke(cli, ["survey", *args])


def edit_rows(run: Path, change: Callable[[dict], dict | None]) -> None:  # type: ignore[type-arg]
    path = run / "results.jsonl"
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def test_only_whole_sets_of_pictures_are_used(run: Path, tmp_path: Path) -> None:
    """A seed that lacks a picture under one schedule is left out, and each prompt has as many seeds as the others."""
    edit_rows(run, lambda r: None if (r["prompt"], r["schedule"], r["seed"]) == (PROMPTS[0], "cap", 1) else r)
    survey = create_survey(run, tmp_path / "s.db", items=6, raters=4)
    used = {(about["prompt"], about["seed"]) for about in survey.images().values()}
    assert (PROMPTS[0], 1) not in used
    assert (PROMPTS[0], 0) in used
    assert {prompt for prompt, _ in used} == set(PROMPTS)
    assert survey.conditions == list(SCHEDULES)


def test_another_column_and_a_choice_of_cells(run: Path, tmp_path: Path) -> None:
    def steps(row: dict) -> dict:  # type: ignore[type-arg]
        return {
            **row,
            "steps": 10 if row["schedule"] in ("itc", "cap") else 50,
            "schedule": "itc" if row["schedule"] in ("itc", "itm") else "cap",
        }

    edit_rows(run, steps)
    survey = create_survey(
        run, tmp_path / "a.db", compare="steps", where={"schedule": "cap"}, items=3, raters=2
    )
    assert survey.conditions == ["10", "50"]
    with pytest.raises(UsageError, match=r"several pictures .* differ in steps; choose with --where"):
        create_survey(run, tmp_path / "b.db", items=3, raters=2)
    with pytest.raises(UsageError, match="no column 'stepz'"):
        create_survey(run, tmp_path / "b.db", compare="stepz")
    with pytest.raises(UsageError, match="no picture has schedule=none"):
        create_survey(run, tmp_path / "b.db", where={"schedule": "none"})
    assert not (tmp_path / "b.db").exists()


@pytest.mark.parametrize(("design", "most"), [("pairwise", 20), ("rating", 20), ("forced-choice", 6)])
def test_as_many_items_as_there_are(run: Path, tmp_path: Path, design: str, most: int) -> None:
    """Three prompts of two seeds: 36 pairs, 24 pictures, 6 choices; 20 unless there are fewer."""
    survey = create_survey(run, tmp_path / "s.db", design=design)
    assert survey.meta["items"] == most
    real = [(i.prompt, i.seed, frozenset(i.shown)) for i in survey.items(0) if i.kind == "real"]
    assert len(set(real)) == len(real) == most
    with pytest.raises(UsageError, match="at most"):
        create_survey(run, tmp_path / "t.db", design=design, items=37)


def test_a_file_is_never_overwritten(make: Callable[..., SurveyFile], run: Path, tmp_path: Path) -> None:
    before = make().meta
    with pytest.raises(UsageError, match="exists"):
        create_survey(run, tmp_path / "survey.db")
    assert SurveyFile(tmp_path / "survey.db").meta == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_votes_are_made_durable(make: Callable[..., SurveyFile]) -> None:
    survey = make()
    assert survey._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert survey._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_the_seed_gives_the_design_but_no_name(make: Callable[..., SurveyFile]) -> None:
    one, two, other = make("1.db", seed=3), make("2.db", seed=3), make("3.db", seed=4)

    def design(survey: SurveyFile) -> list[tuple[object, ...]]:
        return [(i.seat, i.position, i.kind, i.prompt, i.seed, i.shown) for i in survey.items()]

    assert design(one) == design(two)
    assert design(one) != design(other)
    assert one.images().keys().isdisjoint(two.images())
    assert {r.code for r in one.raters()}.isdisjoint(r.code for r in two.raters())


def test_files_that_are_no_surveys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        SurveyFile(tmp_path / "absent.db")
    (tmp_path / "text.db").write_text("hello " * 500)
    with pytest.raises(UsageError, match="not a survey's file"):
        SurveyFile(tmp_path / "text.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.executescript("CREATE TABLE t (x); PRAGMA user_version = 1;")
    with pytest.raises(UsageError, match="not a survey's file"):
        SurveyFile(tmp_path / "other.db")


def test_padding_keeps_the_picture(run: Path) -> None:
    import io

    from PIL import Image

    content = next((run / "samples").iterdir()).read_bytes()
    padded = pad(content, 4000)
    assert len(padded) == 4000
    assert Image.open(io.BytesIO(padded)).tobytes() == Image.open(io.BytesIO(content)).tobytes()


def test_where_is_read() -> None:
    assert read_where(["schedule=itc", "prompt=a = b"]) == {"schedule": "itc", "prompt": "a = b"}
    with pytest.raises(UsageError, match="COLUMN=VALUE"):
        read_where(["schedule"])


def test_the_commands(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = str(tmp_path / "s.db")
    made = run_command(
        "create", str(run), "--out", file, "--items", "6", "--raters", "3", "--checks", "2",
        "--question", "mood=Which is calmer?", "--questions", "realism", "--exclude-faster", "2.5",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "3 raters, 8 screens each: 6 items, 0 repeats, 2 checks" in made.output
    survey = SurveyFile(file)
    assert survey.rules == Rules(failed_checks=0, seconds=2.5)
    assert [q.name for q in survey.questions] == ["realism", "mood"]
    links = run_command("links", file, "--url", "https://rate.example/")
    assert len(links.output.splitlines()) == 4
    assert f"https://rate.example/r/{survey.raters()[0].code}" in links.output
    rater = survey.join("v")
    assert rater is not None
    for item in survey.items(rater.seat):
        survey.vote(rater, item, {"realism": item.expected or 1, "mood": item.expected or 0}, seconds=5)
    shown = run_command("results", file, "--out", str(tmp_path / "out"))
    assert shown.exit_code == 0, shown.output
    assert "1 rater included" in shown.output
    assert (tmp_path / "out" / "figure.svg").is_file()
    numbers = json.loads(run_command("results", file, "--json").output)
    assert [q["n"] for q in numbers["questions"]] == [6, 6]
    assert run_command("export", file, "--format", "csv", "--out", str(tmp_path / "v.csv")).exit_code == 0
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 1 + 8 * 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("create", "RUN", "--items", "0"), "--items 0"),
        (("create", "RUN", "--questions", "beauty"), "unknown question 'beauty'"),
        (("create", "RUN", "--questions", ""), "one or more"),
        (("create", "RUN", "--question", "realism=Again?"), "each once"),
        (
            (
                "create",
                "RUN/samples",
            ),
            "holds neither a study nor a comparison",
        ),
        (("results", "RUN/config.json"), "not a survey's file"),
        (("serve", "absent.db"), "no such file"),
        (("export", "absent.db", "--format", "mturk", "--out", "x"), "needs --url"),
    ],
)
def test_bad_requests_are_one_line(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    run = make_run(tmp_path / "run")
    done = run_command(*(arg.replace("RUN", str(run)) for arg in args))
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (run / "survey.db").exists()
