"""The hook register_claims: claims of plugins are asked of studies, from the command line and from Python."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny world

import tiny_world
from guidelens import PluginManager, load_study
from guidelens.claims.conditions import Condition
from guidelens.claims.evaluate import evaluate
from guidelens.claims.questions import Claim, Question, difference, role
from guidelens.cli.main import cli
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from guidelens_paper.claims import CLAIMS

PLUGIN = """
from guidelens import hookimpl
from guidelens.claims.conditions import Condition
from guidelens.claims.questions import Claim, Question, difference, column

TURN, ITC = Condition("shift:cap,itc"), Condition("itc")
CLAIM = Claim("B", "it is bright", (Question("B.1", "brighter", difference(TURN, ITC, column("bright"))),), "me")

@hookimpl
def register_claims(register):
    register(CLAIM)
"""

STUDY = """
name = "toy"
schedules = ["only-itc", "turn"]
prompts = ["one", "two", "three"]
seeds = 1
steps = 3
device = "cpu"
metrics = ["brightness"]
[[grid]]
name = "g"
claims = ["B"]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "bright_claims.py"
    path.write_text(PLUGIN)
    return path


def run(plugins: list[str], out: Path) -> None:
    manager = PluginManager.load((tiny_world.__file__, *plugins), environment={})
    assert run_study(parse_study(STUDY), out=out, plugins=manager).complete


def test_the_papers_claims_come_from_a_plugin() -> None:
    assert PluginManager.load(environment={}).claims() == list(CLAIMS)
    assert PluginManager.load(["no:paper"], environment={}).claims() == []


def test_a_plugin_asks_a_question_of_its_own(plugin: Path, tmp_path: Path) -> None:
    """Its study names its claim alone, so the paper's are not asked. The report finds the plugin by itself."""
    run([str(plugin)], tmp_path / "run")
    done = CliRunner().invoke(cli, ["study", "report", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    (verdict,) = json.loads(done.stdout)
    assert (verdict["claim"], verdict["source"], verdict["verdict"]) == ("B", "me", "undecided")
    assert verdict["questions"][0]["note"].startswith("no outcome can decide it: with 3 prompts")
    assert "<h3>me</h3>" in (tmp_path / "run" / "report.html").read_text()


def test_a_plugin_that_is_gone_costs_no_report(plugin: Path, tmp_path: Path) -> None:
    run([str(plugin)], tmp_path / "run")
    plugin.unlink()
    done = CliRunner().invoke(cli, ["study", "report", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "claims of plugins of this study are not asked" in done.stderr


def test_two_claims_of_one_name_name_their_plugin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "impostor.py"
    path.write_text(PLUGIN.replace('"B", "it', '"F1", "it'))
    manager = PluginManager.load((str(path),), environment={"GUIDELENS_PLUGINS": ""})
    with pytest.raises(Exception, match=re.escape("another Claim is called 'F1' in plugin 'paper'")):
        manager.claims()


def test_a_dry_run_warns_of_what_no_outcome_can_decide(plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text(STUDY)
    plugins = ["-p", tiny_world.__file__, "-p", str(plugin)]
    done = CliRunner().invoke(
        cli,
        [*plugins, "study", "run", str(tmp_path / "few.toml"), "--dry-run", "--out", str(tmp_path / "out")],
    )
    assert done.exit_code == 0, done.output
    assert "B.1: no outcome can decide it: with 3 prompts the corrected p is 0.25 or more" in done.stderr


def test_without_plugins_to_ask_claims_are_those_installed(tmp_path: Path) -> None:
    run([], tmp_path / "run")
    study = load_study(tmp_path / "run")
    for grid in study.config["grids"]:
        grid.pop("claims", None)
    assert [verdict.claim.id for verdict in evaluate(study)] == [claim.id for claim in CLAIMS]
    own = Claim(
        "C", "c", (Question("C.1", "q", difference(Condition("itc"), Condition("cap"), role("recall"))),)
    )
    assert [verdict.claim.id for verdict in evaluate(study, [own])] == ["C"]
