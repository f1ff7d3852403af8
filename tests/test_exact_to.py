"""Every command moves components by ``to(device, dtype)`` as documented, and by no other signature."""

from __future__ import annotations

import json
from pathlib import Path

import exact_world
import pytest
from click.testing import CliRunner
from guidelens.bench import machine
from guidelens.cli.main import cli
from guidelens.testing import check_generator, check_guidance_model

STUDY = """
name = "exact"
schedules = ["itc", "shift"]
metrics = ["judge:guidance=exact-vl,device=cpu"]
prompts = ["a red circle", "rain"]
seeds = 2
steps = 2
"""


@pytest.fixture(autouse=True)
def small_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 64})
    monkeypatch.setattr(machine, "_CHANNELS", 8)
    monkeypatch.setattr(machine, "_PIXELS", 8)


def guidelens(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["-p", exact_world.__file__, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_kit() -> None:
    assert check_generator(exact_world.ExactGenerator())["gradient"].status == "passed"
    assert check_guidance_model(exact_world.ExactGuidance())["gradient"].status == "passed"


def test_calibrate(tmp_path: Path) -> None:
    guidelens("calibrate", "a red circle", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "s"))


def test_bench() -> None:
    guidelens("bench", "--device", "cpu", "--repeats", "1", "--batch-size", "1", "--threads", "1")


def test_gpu_check(tmp_path: Path) -> None:
    sizes = ("--device", "cpu", "--batch-size", "1", "--steps", "2", "--repeats", "1")
    guidelens("gpu-check", "--out", str(tmp_path / "out"), *sizes, "--schedule", "itc")


def test_a_judge_and_the_features_of_a_study(tmp_path: Path) -> None:
    study, run = tmp_path / "exact.toml", tmp_path / "run"
    study.write_text(STUDY, encoding="utf-8")
    guidelens("study", "run", str(study), "--out", str(run), "--device", "cpu")
    drawn = [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(drawn) == 8
    assert all("itc@exact-vl" in row["metrics"] and not row["metric_errors"] for row in drawn)
    for extractor in ("exact-vl", f"{exact_world.__file__}:features"):
        options = ("--features", extractor, "--device", "cpu", "--count", "4", "--json")
        rows = json.loads(guidelens("study", "distribution", str(run), *options))
        assert [(row["n"], row["n_reference"]) for row in rows] == [(4, 4)] * 2
