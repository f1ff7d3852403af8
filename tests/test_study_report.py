"""The report of a study: what the page holds, that it asks for nothing elsewhere, and that its commands are right."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))  # the tiny world

import tiny_world
from guidelens import load_study
from guidelens.claims.evaluate import evaluate
from guidelens.claims.paper import ITC, SHIFT
from guidelens.claims.questions import Claim, Question, difference
from guidelens.cli.main import cli
from guidelens.errors import GuidelensError
from guidelens.plugins import PluginManager
from guidelens.report.curves import Curve, band_chart, interval_chart
from guidelens.report.study import write_study_report
from guidelens.report.study_cells import read_telemetry
from guidelens.runs.stats import Estimate
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from PIL import Image

STUDY = """
name = "toy"
summary = "two schedules of a toy"
schedules = ["only-itc", "turn"]
prompts = ["a red circle", "</script><b>a 'dot'</b> & more", "three", "four", "five", "six"]
seeds = 2
batch_size = 5
device = "cpu"
snapshots = 3

[[grid]]
name = "objects"
claims = ["F6", "B1"]
steps = 4

[[grid]]
name = "steps"
claims = ["F5"]
summary = "few steps and more"
steps = [3, 5]
seeds = 1
options = { dose = ["plain", "matched"], dose_steps = 5, through = "x0" }
"""


BRIGHT = Claim(
    "B1",
    "SHIFT is brighter",
    (Question("B1.bright", "turn is brighter", difference(SHIFT, ITC, ("bright",))),),
)
"""A claim about what the toy's metric measures."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    plugins = PluginManager.load((tiny_world.__file__,), environment={})
    assert run_study(parse_study(STUDY, label="s.toml"), out=out, plugins=plugins).complete
    study = load_study(out)
    write_study_report(study, [*evaluate(study), *evaluate(study, [BRIGHT])])
    return out


class Page(HTMLParser):
    """Collects what a page refers to, its ids and its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labelless: list[str] = []
        self._inside = ""
        self.data: Any = None
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.sources += [found[name] for name in ("src", "srcset", "poster", "data") if name in found]
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img" and not found.get("alt"):
            self.labelless.append(str(found))
        self._inside = found.get("id", tag) if tag == "script" else ("" if tag != "style" else tag)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data = json.loads(data)
        elif not self._inside:
            self.words.append(data)


@pytest.fixture(scope="module")
def page(done: Path) -> Page:
    return Page((done / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_asked_of_anyone(done: Path, page: Page) -> None:
    text = (done / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text)
    assert "default-src 'none'" in text
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert page.sources
    assert all((done / source).is_file() for source in page.sources)
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids) | set(page.data["cells"])
    assert len(page.ids) == len(set(page.ids))
    assert not page.labelless


def test_the_verdicts_come_first(page: Page) -> None:
    text = " ".join(" ".join(page.words).split())
    headings = [text.rindex(name) for name in ("What the paper claims", "Means with", "How this was made")]
    assert headings == sorted(headings)
    places = [text.index(f"{name} ") for name in ("F1", "F2", "F3", "F4", "F5", "F6")]
    assert places == sorted(places)
    assert "needs cells of ITM" in text
    assert "60 of 60 pictures" in text


def test_pictures_behind_a_number(done: Path, page: Page) -> None:
    """Of each question those that speak most for it and most against it, both sides of the pair."""
    (verdict,) = evaluate(load_study(done), [BRIGHT])
    (answer,) = verdict.answers
    keys = load_study(done).keys
    for unit in answer.units:
        sides = {keys[key]["schedule"]: keys[key]["metrics"]["bright"] for key in unit.keys}
        assert unit.value == pytest.approx(sides["turn"] - sides["only-itc"])
    best = max(answer.units, key=lambda unit: unit.value)
    assert {f"samples/{key}.png" for key in best.keys} <= set(page.sources)


def numbers(series: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in series]


def test_every_picture_is_in_the_data(done: Path, page: Page) -> None:
    study = load_study(done)
    assert set(page.data["cells"]) == set(study.keys)
    assert len(page.data["members"]) == len(study.cells)
    for key, cell in page.data["cells"].items():
        assert (done / cell["image"]).is_file()
        assert cell["metrics"] == pytest.approx(study.keys[key]["metrics"], abs=1e-4)
        losses = study.telemetry(key).losses
        assert set(cell["steps"]["losses"]) == set(losses)
        for name, values in losses.items():
            assert numbers(cell["steps"]["losses"][name]) == pytest.approx(
                values.tolist(), rel=1e-3, nan_ok=True
            )
    turning = next(c for c in page.data["cells"].values() if "cap|itc" in c["steps"]["cosines"])
    assert turning["frames"] == sorted(turning["frames"])
    assert page.data["axes"] == {"objects": [], "steps": ["steps", "dose"]}
    values = {tuple(m["values"]) for m in page.data["members"] if m["grid"] == "steps"}
    assert values == {(f"{n} steps", f"dose {dose}") for n in (3, 5) for dose in ("plain", "matched")}


def test_trajectories_lie_beside_the_page(done: Path) -> None:
    study = load_study(done)
    for key, steps in read_telemetry(study).items():
        assert steps.snapshots is not None
        strip = np.asarray(Image.open(done / "trajectories" / f"{key}.png"))
        count, height, width, _ = steps.snapshots.shape
        assert strip.shape[:2] == (height, count * width)
        assert (strip[:, -width:].reshape(steps.snapshots[-1].shape) == steps.snapshots[-1]).all()


def test_the_command_draws_the_same_picture(
    done: Path, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = next(m for m in page.data["members"] if "script" in m["prompt"])
    matched = next(m for m in page.data["members"] if m["values"] == ["3 steps", "dose matched"])
    for member in (hostile, matched):
        words = shlex.split(page.data["cells"][member["key"]]["command"])
        assert words[0] == "guidelens"
        result = CliRunner().invoke(cli, [*words[1:], "--device", "cpu"])
        assert result.exit_code == 0, result.output
        again = np.asarray(Image.open(words[-1]))
        assert (again == np.asarray(load_study(done).image(member["key"]))).all()


def test_the_command_line(done: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["study", "report", str(done)])
    assert run.exit_code == 0, run.output
    assert "F6  " in run.output
    assert run.output.splitlines()[-1].startswith("report: ")
    verdicts = json.loads(CliRunner().invoke(cli, ["study", "report", str(done), "--json"]).stdout)
    assert [v["claim"] for v in verdicts] == ["F1", "F2", "F3", "F4", "F5", "F6"]
    missing = CliRunner().invoke(cli, ["study", "report", str(tmp_path)])
    assert missing.exit_code == 2
    assert "holds no study" in missing.stderr


def test_a_study_that_grows(done: Path, tmp_path: Path) -> None:
    """With half of the rows the page is about these; with none there is no page."""
    half = tmp_path / "half"
    shutil.copytree(done, half)
    rows = (half / "results.jsonl").read_text().splitlines(keepends=True)
    (half / "results.jsonl").write_text("".join(rows[:10]))
    page = Page(write_study_report(load_study(half)).read_text(encoding="utf-8"))
    assert len(page.data["cells"]) == 10
    assert "The study is not finished" in " ".join(page.words)
    (half / "results.jsonl").write_text("")
    with pytest.raises(GuidelensError, match="no finished cell"):
        write_study_report(load_study(half))


def test_damaged_telemetry_costs_no_report(done: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    for path in (copy / "telemetry").glob("*.npz"):
        path.write_bytes(b"x")
    page = Page(write_study_report(load_study(copy)).read_text(encoding="utf-8"))
    assert all(cell["steps"] == {} for cell in page.data["cells"].values())


def test_a_comparison_has_a_report_as_well(tmp_path: Path) -> None:
    from guidelens import compare

    plugins = PluginManager.load((tiny_world.__file__,), environment={})
    compare(
        prompts=["a red circle"],
        schedules=["only-itc", "turn"],
        seeds=2,
        steps=3,
        out=tmp_path / "c",
        plugins=plugins,
    )
    page = Page(write_study_report(load_study(tmp_path / "c")).read_text(encoding="utf-8"))
    assert len(page.data["cells"]) == 4
    assert {m["grid"] for m in page.data["members"]} == {"comparison"}


def test_charts_stay_inside_their_frame_and_skip_what_is_missing() -> None:
    nan = float("nan")
    points = [
        Estimate(0.5, 0.2, 0.9, 4, 4),
        None,
        Estimate(1.0, nan, nan, 1, 1),
        Estimate(nan, nan, nan, 0, 0),
    ]
    for svg in (
        interval_chart([Curve("a", 0, points)], ["1", "2", "3", "4"], "t <&>", "steps"),
        band_chart([Curve("a", 0, points)], "t <&>", "progress", (-1.0, 1.0)),
    ):
        assert "nan" not in svg
        assert "<&>" not in svg
        numbers = re.findall(r"[ML]([\d.]+) ([\d.]+)", svg)
        assert numbers
        assert all(0 <= float(x) <= 320 and 0 <= float(y) <= 170 for x, y in numbers)
    assert (
        interval_chart([Curve("a", 0, points)], ["1", "2", "3", "4"], "t", "steps").count("V") == 2
    )  # axis, whisker


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser")
def test_in_a_browser(done: Path, tmp_path: Path) -> None:
    """The script runs: pictures are listed, and a link to a cell opens it."""
    key = next(iter(load_study(done).keys))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", f"file://{done / 'report.html'}#{key}"]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    assert "pictures of 6 prompts" in seen
    assert re.search(r"<dialog[^>]* open", seen)
    assert "guidelens -p" in seen.split("draw it again")[1]
