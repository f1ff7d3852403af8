"""The forest plot of a study's page, the pictures beside a claim, and ``study show`` and ``new``."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import tiny_world
from click.testing import CliRunner
from guidelens.claims.asking import Pair
from guidelens.claims.conditions import Condition
from guidelens.claims.evaluate import Answer, Verdict
from guidelens.claims.questions import Claim, Question, difference, role
from guidelens.claims.statistics import paired
from guidelens.cli.main import cli
from guidelens.report.study_charts import panels
from guidelens.report.study_verdicts import forest, toward, typical_pair
from guidelens.stats import paired_differences
from guidelens.studies.file import parse_study
from guidelens.studies.results import load_study


def answer(
    name: str, values: list[float], verdict: str = "undecided", direction: int = 1, against: float = 0.0
) -> Answer:
    terms = difference(Condition("cap"), Condition("itc"), role("alignment"))
    question = Question(f"F.{name}", f"text of {name}", terms, direction, against)
    pairs = tuple(Pair(v, f"p{i}", 0, (f"{name}{i}a", f"{name}{i}b")) for i, v in enumerate(values))
    if not values:
        return Answer(question, "not measured", needs="more")
    return Answer(question, verdict, True, pairs, paired(values, [pair.prompt for pair in pairs]))


def verdict(*answers: Answer) -> Verdict:
    return Verdict(Claim("F", "text", tuple(a.question for a in answers)), "undecided", answers)


def test_what_agrees_is_to_the_right() -> None:
    values = [0.1, 0.3, 0.2, 0.4]
    plain, turned = answer("x", values), answer("x", values, direction=-1)
    assert toward(plain).mean == pytest.approx(0.25)
    assert toward(turned).mean == pytest.approx(-0.25)
    assert (toward(turned).low, toward(turned).high) == (-toward(plain).high, -toward(plain).low)
    assert toward(answer("x", values, against=0.2)).mean == pytest.approx(0.05)
    with pytest.raises(ValueError, match="not measured"):
        toward(answer("x", []))


def test_the_forest_has_one_axis_and_counts_what_was_not_measured() -> None:
    found = forest([verdict(answer("a", [0.1, 0.3]), answer("b", [])), verdict(answer("c", [-0.52, -0.5]))])
    assert found.edge == pytest.approx(0.6)
    assert found.unmeasured == 1
    first = found.verdicts[0]
    assert [view.answer.question.part for view in first.measured] == ["a"]
    assert 'class="rail zero" d="M50 0V12"' in first.measured[0].mark
    assert math.isfinite(forest([]).edge)


def test_the_pictures_beside_a_claim_follow_the_rule() -> None:
    first = answer("first", [-0.5, 0.0, 0.0, 0.2, 0.4, 0.9])
    chosen = typical_pair(verdict(first))
    assert chosen is not None
    assert chosen[1].value == 0.4  # the median of those above 0, the side of the mean
    decided = answer("second", [0.5, 0.7, 0.9], "supported")
    chosen = typical_pair(verdict(first, decided))
    assert chosen is not None
    assert (chosen[0], chosen[1].keys) == (decided, ("second1a", "second1b"))
    assert typical_pair(verdict(answer("none", []))) is None
    assert typical_pair(verdict(answer("flat", [0.0, 0.0]))) is None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner()


def test_a_new_study_can_be_shown_and_read(run: CliRunner) -> None:
    made = run.invoke(cli, ["study", "new", "mine.toml"])
    assert made.exit_code == 0, made.output
    assert "guidelens study run mine.toml" in made.stdout
    found = parse_study(Path("mine.toml").read_text(), label="mine.toml")
    assert (found.name, len(found.grids)) == ("mine", 1)
    shown = run.invoke(cli, ["study", "show", "mine.toml"])
    assert shown.stdout.startswith("mine: ")
    assert "scales = [0.3, 1.0, 3.0]" in shown.stdout
    again = run.invoke(cli, ["study", "new", "mine.toml"])
    assert (again.exit_code, "exists: choose another name" in again.stderr) == (2, True)
    wrong = run.invoke(cli, ["study", "new", "mine.txt"])
    assert (wrong.exit_code, "must end in .toml" in wrong.stderr) == (2, True)


def test_a_study_of_a_plugin_can_be_shown_and_copied(run: CliRunner) -> None:
    shown = run.invoke(cli, ["study", "show", "findings"])
    assert shown.stdout.startswith("findings: the paper's claims on the shapes world")
    assert (
        "  objects    three objects: details of the first, and which of the others appear (F1)"
        in shown.stdout
    )
    assert run.invoke(cli, ["study", "new", "copy.toml", "--from", "findings"]).exit_code == 0
    assert parse_study(Path("copy.toml").read_text(), label="copy.toml").name == "findings"


STUDY = """
name = "tiny"
generator = "tiny"
guidance = "tiny-vl"
metrics = ["brightness"]
schedules = ["turn", "only-itc"]
prompts = ["a dot", "a circle"]
steps = 3
seeds = 2

[[grid]]
name = "first"
"""


def test_run_writes_the_report_and_charts_of_differences(run: CliRunner) -> None:
    Path("tiny.toml").write_text(STUDY)
    done = run.invoke(cli, ["-p", tiny_world.__file__, "study", "run", "tiny.toml", "--out", "tiny"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"report: {Path('tiny', 'report.html')}"
    study = load_study("tiny")
    panel = panels(study, {}, {"turn": 0, "only-itc": 1})[0]
    assert panel.title == "difference to turn: bright"
    expected = paired_differences(study.cells, "bright", "turn")["only-itc"]
    ((found,),) = panel.rows
    assert found is not None
    assert (found.mean, found.n) == (pytest.approx(expected.mean), 4)
