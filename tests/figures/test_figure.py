"""Figures of a finished study: layouts, formats, LaTeX and animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from guidelens import load_study
from guidelens.claims.conditions import Condition
from guidelens.claims.evaluate import evaluate
from guidelens.claims.questions import Claim, Question, difference, role
from guidelens.cli.main import cli
from guidelens.figures.animation import animate
from guidelens.figures.latex import escape, verdict_table
from guidelens.figures.layouts import draw
from guidelens.plugins import PluginManager
from PIL import Image

STUDY = """
name = "tiny"
prompts = ["a red circle", "a blue square"]
generator = "shapes"
guidance = "shapes"
seeds = 1
snapshots = 2
metrics = ["shapes"]

[[grid]]
name = "steps"
schedules = ["itc", "shift"]
steps = [2, 3]

[[grid]]
name = "typos"
schedules = ["itc", "shift"]
steps = [3]
perturbations = ["typo:edits=1"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    (folder / "tiny.toml").write_text(STUDY)
    words = ["study", "run", str(folder / "tiny.toml"), "--out", str(folder / "run"), "--device", "cpu"]
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 0, shown.output
    return folder / "run"


def figure(*words: str | Path):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(cli, ["figure", *map(str, words)])


def axes_with_pictures(drawn) -> int:  # type: ignore[no-untyped-def]
    return sum(bool(axes.images) for axes in drawn.axes)


def texts(drawn) -> set[str]:  # type: ignore[no-untyped-def]
    return {text.get_text().replace("\n", " ") for text in drawn.texts}


def test_paper_puts_steps_across(run: Path) -> None:
    drawn = draw("paper", load_study(run), list, width=3.25)
    assert axes_with_pictures(drawn) == 4
    assert {"2 steps", "3 steps", "itc", "shift", "a red circle"} <= texts(drawn)
    study = load_study(run)
    cell = next(
        c for c in study.cells if c["schedule"] == "itc" and c["steps"] == 2 and c["prompt"] == "a red circle"
    )
    first = next(axes for axes in drawn.axes if axes.images)
    np.testing.assert_array_equal(first.images[0].get_array(), np.asarray(study.image(cell["key"])))


def test_paper_puts_perturbations_across(run: Path) -> None:
    drawn = draw("paper", load_study(run), list, width=3.25, grid="typos")
    clean, misspelt = (
        c["prompt"]
        for c in load_study(run).cells
        if c["grid"] == "typos" and c["schedule"] == "itc" and c["clean"] == "a red circle"
    )
    assert {clean, misspelt} <= texts(drawn)
    assert axes_with_pictures(drawn) == 4


def test_grid_puts_prompts_down(run: Path) -> None:
    drawn = draw("grid", load_study(run), list, width=6.75, schedules=["shift"], rows=2)
    assert axes_with_pictures(drawn) == 2
    assert drawn.get_figwidth() == 6.75
    assert "itc" not in texts(drawn)


def test_curves_use_the_colours_of_the_pages(run: Path) -> None:
    from guidelens.colours import colour

    drawn = draw("curves", load_study(run), list, width=6.75)
    titles = [axes.get_title() for axes in drawn.axes]
    assert titles[:3] == ["alignment", "fidelity", "cosine of cap and itc"]
    lines = {line.get_label() or "": line.get_color() for line in drawn.axes[2].lines}
    assert lines["shift"] == colour("shift").light


def test_the_forest_shows_what_the_claim_predicts_on_the_right(run: Path) -> None:
    terms = difference(Condition("shift:cap,itc"), Condition("itc"), role("alignment"))
    questions = (
        Question("T1.fit", "SHIFT fits better than ITC", terms),
        Question("T1.unfit", "SHIFT fits worse than ITC", terms, -1),
    )
    study = load_study(run)
    verdicts = evaluate(study, [Claim("T1", "SHIFT fits", questions)])
    drawn = draw("forest", study, lambda: verdicts, width=6.75)
    (axes,) = drawn.axes
    dots = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    means = [answer.result.estimate.mean for answer in verdicts[0].answers if answer.result]
    assert dots == pytest.approx([means[0], -means[1]])
    assert [label.get_text().split(":")[0] for label in axes.get_yticklabels()] == ["T1", "T1"]


@pytest.mark.parametrize(("layout", "kind"), [("grid", "pdf"), ("grid", "svg"), ("curves", "png")])
def test_files_are_reproducible_and_self_contained(run: Path, tmp_path: Path, layout: str, kind: str) -> None:
    for name in ("a", "b"):
        shown = figure(run, "--layout", layout, "--out", tmp_path / f"{name}.{kind}")
        assert shown.exit_code == 0, shown.output
    written = (tmp_path / f"a.{kind}").read_bytes()
    assert written == (tmp_path / f"b.{kind}").read_bytes()
    if kind == "pdf":
        assert b"/FontFile2" in written
        assert b"/Type3" not in written
    if kind == "svg":
        assert b"<text" not in written


def test_the_table_has_a_line_per_question(run: Path) -> None:
    shown = figure(run, "--layout", "table")
    assert shown.exit_code == 0, shown.output
    verdicts = evaluate(load_study(run), PluginManager.load(environment={}).claims())
    table = (run / "figures" / "table.tex").read_text()
    assert table.count(r" \\") == 1 + sum(len(verdict.answers) for verdict in verdicts)


def test_latex_is_escaped() -> None:
    assert escape(r"50 % of a_b & {c}") == r"50 \% of a\_b \& \{c\}"
    assert verdict_table([]).startswith("% Made by")


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_animations_have_a_frame_per_snapshot(run: Path, tmp_path: Path, kind: str) -> None:
    animate(load_study(run), tmp_path / f"a.{kind}")
    with Image.open(tmp_path / f"a.{kind}") as picture:
        assert picture.n_frames == 2
        assert picture.width == 2 * 200 + 8
        height = picture.height
    animate(load_study(run), tmp_path / f"b.{kind}", rows=1)
    with Image.open(tmp_path / f"b.{kind}") as picture:
        assert picture.height < height


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layout", "table", "--format", "pdf"], "the layout table has no format 'pdf'; choose tex"),
        (["--out", "x.txt"], "has no format 'txt'"),
        (["--out", "x.png", "--format", "pdf"], "must end in .pdf"),
        (["--grid", "none"], "no finished picture is of the grid 'none'; choose steps, typos"),
        (["--prompt", "a cat"], "no picture here has the prompt 'a cat'"),
        (["--seed", "9"], "no picture has the seed 9; choose 0"),
        (["--schedule", "cap"], "has no finished picture to show"),
    ],
)
def test_mistakes_take_one_line(run: Path, words: list[str], message: str) -> None:
    shown = figure(run, *words)
    assert shown.exit_code == 2, shown.output
    assert message in " ".join(shown.output.split())


def test_without_matplotlib_the_error_names_the_extra(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = figure(run, "--layout", "grid")
    assert shown.exit_code == 1
    assert "guidelens[figures]" in shown.output
