"""``compare --perturb``: clean and perturbed prompts from the same noise, recorded, scored against the clean one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from guidelens import load_study
from guidelens.cli.main import cli
from guidelens.prompts import perturb

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny world

import tiny_world


def compare(*words: str, stdin: str | None = None) -> Result:
    settings = [
        "--steps=8",
        "--scale=100",
        "--seeds=2",
        "--device=cpu",
        "--schedule=only-itc",
        "--metric=brightness",
    ]
    return CliRunner().invoke(cli, ["-p", tiny_world.__file__, "compare", *settings, *words], input=stdin)


TEXT = "a dot above a blorp"
SPECS = ("typo:edits=2", "order", "typo:edits=4,kind=drop")
PERTURB = [word for spec in SPECS for word in ("--perturb", spec)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("perturbed") / "run"
    return out, compare(*PERTURB, "--out", str(out), TEXT, "the cat")


def test_clean_and_perturbed_are_paired(done: tuple[Path, Result]) -> None:
    out, result = done
    assert result.exit_code == 0
    cells = load_study(out).cells
    typo = perturb(TEXT, "typo:edits=2")
    drawn = cells.where(prompt=typo.text)
    assert [cell["seed"] for cell in drawn] == [0, 1]
    assert {(c["perturbation"], c["edits"], c["reference"]) for c in drawn} == {("typo:edits=2", 2, TEXT)}
    assert [c["pair"] for c in drawn] == [c["pair"] for c in cells.where(prompt=TEXT)]
    assert all("above" in cell["metrics"] for cell in drawn)  # the clean prompt names it
    assert {c["perturbation"] for c in cells} == {"none", *SPECS}
    assert "'the cat': typo:edits=2 finds nothing to perturb" in result.stderr
    assert not cells.where(clean="the cat", perturbation="typo:edits=2")


def test_the_change_is_printed_and_right(done: tuple[Path, Result]) -> None:
    out, result = done
    cells = load_study(out).cells
    changes = [
        cell["metrics"]["bright"]
        - cells.where(prompt=cell["clean"], seed=cell["seed"])[0]["metrics"]["bright"]
        for cell in cells.where(perturbation="typo:edits=4,kind=drop")
    ]
    assert len(changes) == 2
    mean = sum(changes) / 2
    assert abs(mean) > 0.01
    assert f"typo:edits=4,kind=drop  {mean:+.2f}" in result.stdout
    assert "n=2" in result.stdout


def test_notes_reach_the_rows_and_the_page(done: tuple[Path, Result]) -> None:
    out, result = done
    note = "does not know the word 'blorp'"
    assert note in result.stderr
    assert load_study(out).cells.where(prompt=TEXT)[0]["notes"] == [note]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "does not know the word" in page
    assert "typo:edits=2, edit distance 2" in page


def test_the_recorded_command_repeats_it(done: tuple[Path, Result]) -> None:
    command = json.loads((done[0] / "config.json").read_text())["commands"][0]
    assert "--perturb typo:edits=2 --perturb order" in command
    again = compare(*PERTURB, "--out", str(done[0]), TEXT, "the cat")
    assert "were there" in again.stdout
    assert "(0 drawn" in again.stdout


def test_standard_input(tmp_path: Path) -> None:
    result = compare("--prompts", "-", "--out", str(tmp_path / "run"), stdin="prompt,category\na cat,x\n")
    assert result.exit_code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [(p["text"], p["category"]) for p in config["prompts"]] == [("a cat", "x")]
    assert config["commands"][0].endswith("-- 'a cat'")


def test_mistakes(tmp_path: Path) -> None:
    result = compare("--perturb", "tpyo", "--out", str(tmp_path / "run"), "a cat")
    assert result.exit_code == 2
    assert "unknown perturbation 'tpyo' (did you mean 'typo'?)" in result.stderr
