"""Scores are of one version of a metric's code: they are computed again, or the command that does is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens import Column
from guidelens.cli.main import cli
from guidelens.contracts import Prompt
from guidelens.plugins import PluginManager
from study_worlds import rows_of
from torch import Tensor

PLUGIN = """
from guidelens import Column, hookimpl

class Constant:
    columns = (Column("constant", "always the same"),)

    def score(self, images, prompts):
        return [{"constant": VALUE} for _ in prompts]

@hookimpl
def register_metrics(register):
    register("constant", Constant, summary="a constant")
"""
STUDY = """
name = "t"
generator = "tiny"
guidance = "tiny-vl"
schedules = ["turn"]
metrics = ["constant", "brightness"]
prompts = ["a red circle"]
seeds = 2
device = "cpu"
steps = 2
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(STUDY)


def guidelens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-p", tiny_world.__file__, "-p", "metric.py", *arguments])


def metric(value: float) -> None:
    Path("metric.py").write_text(PLUGIN.replace("VALUE", str(value)))


def test_a_changed_metric_scores_all_pictures_again() -> None:
    metric(1.0)
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    before = rows_of(Path("out"))
    assert {row["scorers"]["constant"] for row in before} == {before[0]["scorers"]["constant"]}
    assert before[0]["scorers"]["constant"].startswith("metric sha256 ")

    metric(2.0)
    Path("s.toml").write_text(STUDY.replace("seeds = 2", "seeds = 3"))
    done = guidelens("study", "run", "s.toml", "--out", "out")
    assert "metric constant: 2 pictures scored by metric sha256" in " ".join(done.stderr.split())
    rows = rows_of(Path("out"))
    assert [row["metrics"]["constant"] for row in rows] == [2.0] * 3
    assert len({row["scorers"]["constant"] for row in rows}) == 1
    assert [row["scorers"]["brightness"] for row in rows[:2]] == [
        row["scorers"]["brightness"] for row in before
    ]
    assert "scored again" not in guidelens("study", "resume", "out").stderr


def test_scores_of_two_versions_are_refused_with_the_command_that_scores_again() -> None:
    metric(1.0)
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    rows = rows_of(Path("out"))
    rows[0]["scorers"]["constant"] = "metric sha256 other"
    Path("out/results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for command in (("study", "report"), ("study", "export")):
        refused = guidelens(*command, "out")
        assert refused.exit_code == 1
        assert "the scores of metric constant in out are of different versions of its code" in refused.stderr
        assert "score all again: guidelens study resume out" in refused.stderr
    assert guidelens("study", "resume", "out").exit_code == 0
    assert guidelens("study", "report", "out").exit_code == 0


def test_rows_without_versions_are_reported_and_scored_again_by_the_next_run() -> None:
    metric(1.0)
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    rows = [{k: v for k, v in row.items() if k != "scorers"} for row in rows_of(Path("out"))]
    Path("out/results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert guidelens("study", "report", "out").exit_code == 0
    assert "scored by an unknown version" in " ".join(guidelens("study", "resume", "out").stderr.split())
    assert all("scorers" in row for row in rows_of(Path("out")))


def test_a_changed_metric_that_fails_keeps_no_old_score() -> None:
    metric(1.0)
    assert guidelens("study", "run", "s.toml", "--out", "out").exit_code == 0
    Path("metric.py").write_text(PLUGIN.replace("VALUE", "1 / 0"))
    assert guidelens("study", "resume", "out").exit_code == 1
    for row in rows_of(Path("out")):
        assert "constant" not in row["metrics"]
        assert row["scored"] == ["brightness"]
        assert row["metric_errors"] == {"constant": "ZeroDivisionError: division by zero"}


class Object:
    columns = (Column("m", "nothing"),)

    def score(self, images: Tensor, prompts: list[Prompt]) -> list[dict[str, float]]:
        return [{"m": 0.0} for _ in prompts]


def test_metrics_given_as_objects_are_known_by_the_code_of_their_module() -> None:
    from guidelens.runs.resolve import resolve_components

    plugins = PluginManager.load([tiny_world.__file__], environment={})
    parts = resolve_components(
        plugins, prompts=["x"], generator="tiny", guidance="tiny-vl", schedules="turn", metrics=[Object()]
    )
    assert parts.metrics[0].version.startswith("object sha256 ")


def test_versions_of_a_judge_name_the_plugins_of_judge_and_model() -> None:
    plugins = PluginManager.load([tiny_world.__file__], environment={})
    found = plugins.version_of("metric", "judge:guidance=tiny-vl")
    assert set(found) == {"model-judges", "tiny_world"}
    assert found["model-judges"].startswith("guidelens ")
    assert ", sha256 " in found["model-judges"]
