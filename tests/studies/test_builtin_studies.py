"""The studies that built-in plugins offer: they expand, ask about every claim, and are no larger than they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens.claims.evaluate import evaluate, undecidable
from guidelens.cli.main import cli
from guidelens.plugins import PluginManager
from guidelens.studies.expand import Expansion, expand
from guidelens.studies.file import parse_study
from guidelens.studies.forecast import PlannedStudy
from guidelens.studies.outlook import outlook
from guidelens.studies.run import find_study, plugin_component_cache

CLAIMS = {"F1", "F2", "F3", "F4", "F5", "F6"}
STEPS = {"findings": 66_000, "findings-quick": 11_000, "replication": 66_000}
"""Steps of a picture, at 11 ms each (two cores, see docs/performance.md): 12, 2 and 12 minutes."""


@pytest.fixture(scope="module")
def installed() -> PluginManager:
    return PluginManager.load(environment={})


def expanded(name: str, plugins: PluginManager) -> Expansion:
    return expand(find_study(name, plugins), plugins, plugin_component_cache(plugins, "cpu"))


@pytest.mark.parametrize("name", ["findings", "findings-quick", "paper"])
def test_every_claim_has_its_grid(name: str, installed: PluginManager) -> None:
    study = find_study(name, installed)
    assert study.name == name
    assert {claim.partition(".")[0] for grid in study.grids for claim in grid.claims} == CLAIMS
    assert all(grid.summary for grid in study.grids)


@pytest.mark.parametrize("name", STEPS)
def test_the_findings_are_asked_within_their_time(name: str, installed: PluginManager) -> None:
    study = expanded(name, installed)
    steps = sum(len(group.cells) * group.settings.steps for group in study.groups)
    assert STEPS[name] / 2 < steps < STEPS[name]
    assert [note for _, note in study.notes if "unknown" in note] == []


@pytest.mark.parametrize("name", STEPS)
def test_every_question_is_asked_and_could_be_decided(name: str, installed: PluginManager) -> None:
    planned = PlannedStudy.of(find_study(name, installed), expanded(name, installed))
    assert undecidable(planned, installed.claims()) == {}
    exploratory = (".plain", ".2") if name == "findings-quick" else ()
    lacking = [
        a.question.id for v in evaluate(planned, installed.claims()) for a in v.answers if not a.planned
    ]
    assert [question for question in lacking if not question.endswith(exploratory)] == []


def test_a_study_with_few_prompts_is_warned_of(installed: PluginManager) -> None:
    """The quick study once had 5 prompts a grid: no outcome could decide most of what it asked."""
    study = parse_study(find_study("findings-quick", installed).text.replace("limit=12", "limit=5"))
    planned = PlannedStudy.of(study, expand(study, installed, plugin_component_cache(installed, "cpu")))
    found = undecidable(planned, installed.claims())
    assert len(found) == 31
    assert found["F2.binding"] == "no outcome can decide it: with 5 prompts the corrected p is 1 or more"
    planned.config["grids"] = [{**grid, "claims": []} for grid in planned.config["grids"]]
    assert undecidable(planned, installed.claims()) == {}


def test_the_replication_has_its_own_prompts_and_noise(installed: PluginManager) -> None:
    first, second = (expanded(name, installed).members for name in ("findings", "replication"))
    assert not {m["seed"] for m in first} & {m["seed"] for m in second}
    again = {m["clean"] for m in first} & {m["clean"] for m in second}
    assert len(again) <= 5  # the count that docs/findings.md tells


def test_the_paper_study_measures_every_role_that_the_claims_ask_for(installed: PluginManager) -> None:
    """The generator's plugin offers no metric, so that the study has to name them."""
    from guidelens.metrics.facts import ROLES

    names = find_study("paper", installed).metrics or ()
    found = [installed.resolve("metric", name).info.name for name in names]
    assert found == ["facts", "vqascore", "realism", "clip-score"]
    roles = {role for role, _ in ROLES.values()} | {"realism"}
    asked = {
        term.measure.name
        for claim in installed.claims()
        for question in claim.questions
        for term in question.terms
        if term.measure.kind == "role"
    }
    assert asked
    assert asked <= roles


def test_the_dry_run_of_the_paper_works_without_any_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GUIDELENS_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("GUIDELENS_PROMPTS", raising=False)
    done = CliRunner().invoke(cli, ["study", "run", "paper", "--dry-run", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "scale      at most     60 cells" in done.output
    assert "in all     at most   4952 cells, 469,200 steps of a picture" in done.output
    assert "on one GPU, at the 0.05 s a step that the study assumes" in done.output
    assert "to measure it on this machine:" in done.output
    assert not (tmp_path / "run").exists()


def test_a_grid_of_unlimited_prompts_is_not_counted(installed: PluginManager) -> None:
    text = find_study("paper", installed).text.replace(", limit = 35 }", " }")
    sized = outlook(parse_study(text))
    assert sized.grids["binding"] is None
    assert sized.grids["relations"] == 39 * 4 * 2
    assert sized.seconds == pytest.approx(0.05 * sized.steps)
