"""docs/studies.md is held to the program: its keys, its columns, its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from guidelens.plugins import PluginManager
from guidelens.studies.export import table
from guidelens.studies.file import parse_study
from guidelens.studies.keys import AXES, CONDITIONS, GRID_KEYS, STUDY_KEYS
from guidelens.studies.results import flat, load_study
from guidelens.studies.run import run_study
from study_worlds import EXPLOSIVE

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def first_column(after: str) -> list[str]:
    """Return the names in the first column of the first table that follows a text."""
    rows = re.findall(
        r"^\| (`.*?) \|", PAGE[PAGE.index(after) :].partition("\n\n")[2].partition("\n\n")[0], re.M
    )
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_the_keys_are_complete() -> None:
    assert set(first_column("**For the whole study**")) == set(STUDY_KEYS)
    assert set(first_column("**Of a grid, or at the top for all grids**")) == set(AXES)
    rest = set(GRID_KEYS) - set(AXES)
    assert rest == {"name", "summary", "claims"}
    told = PAGE[PAGE.index("**`[[exclude]]`**") :].partition("\n\n")[0]
    assert set(re.findall(r"`([^`]+)`", told)) - {"[[exclude]]"} == set(CONDITIONS)


def test_the_columns_are_complete(plugins: PluginManager, tmp_path: Path) -> None:
    text = EXPLOSIVE.replace('"a red circle"', '"something unscorable"')
    run_study(parse_study(text), out=tmp_path, plugins=plugins)
    columns, _ = table([flat(cell) for cell in load_study(tmp_path).cells])
    names = {re.sub(r"\..*", "", name) for name in first_column("frame = study.cells")}
    assert {re.sub(r"\..*", "", name) for name in columns} == names


def test_the_second_file_is_a_study() -> None:
    _, mine = blocks("toml")
    study = parse_study(mine)
    assert study.plugins == ("my_model.py",)


@pytest.mark.slow
def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first study, with fewer steps and prompts, and then the code that reads and runs it."""
    text, _ = blocks("toml")
    for whole, part in (("[10, 25, 50]", "[2, 3]"), ("= 50", "= 3"), ("limit=4", "limit=1")):
        assert whole in text
        text = text.replace(whole, part)
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(text, encoding="utf-8")
    asking, reading, running = blocks("python")
    exec(compile(running, "docs/studies.md", "exec"), {})
    assert capsys.readouterr().out == "44 cells drawn, 0 failed\n"
    names: dict[str, object] = {}
    exec(compile(reading, "docs/studies.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == 16
    assert len(names["frame"]) == 64  # type: ignore[arg-type]
    exec(compile(asking, "docs/studies.md", "exec"), {})
    assert "F3 undecided, measured in part\nF3.relation" in capsys.readouterr().out
