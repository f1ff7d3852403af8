"""The report of a study: what the page holds, that it asks for nothing elsewhere, and that its commands are right."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections import Counter
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
from guidelens.claims.questions import Claim, Question, column, difference
from guidelens.cli.main import cli
from guidelens.colours import NEUTRAL, colour_number, palette
from guidelens.errors import GuidelensError
from guidelens.hookspecs import RegisterReportSections, hookimpl
from guidelens.metrics.matrix import judge_matrix
from guidelens.plugins import PluginManager
from guidelens.report.curves import Curve, band_chart, interval_chart
from guidelens.report.page import signed_text
from guidelens.report.study import write_study_report
from guidelens.report.study_cells import _peaks
from guidelens.report.study_charts import panels
from guidelens.report.study_judges import HEAT, inflated, matrix_views
from guidelens.runs.telemetry import Telemetry
from guidelens.sampling import Sampling
from guidelens.stats import Estimate
from guidelens.studies.file import parse_study
from guidelens.studies.results import CellRecords
from guidelens.studies.run import run_study
from guidelens_paper.claims import ITC, SHIFT
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
metrics = ["brightness", "judge:guidance=tiny-vl,device=cpu"]

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
    (Question("B1.bright", "turn is brighter", difference(SHIFT, ITC, column("bright"))),),
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
    headings = [
        text.rindex(name) for name in ("Kong & Kwak (2023)", "Paired differences where", "How this was made")
    ]
    assert headings == sorted(headings)
    places = [text.index(f"{name} ") for name in ("F1", "F2", "F3", "F4", "F5", "F6")]
    assert places == sorted(places)
    assert "needs cells of ITM" in text
    assert "Kong & Kwak (2023)" in text
    assert "60 pictures" in text
    assert "interim" not in text


def test_pictures_behind_a_number(done: Path, page: Page) -> None:
    """Of each question those that speak most for it and most against it, both sides of the pair."""
    (verdict,) = evaluate(load_study(done), [BRIGHT])
    (answer,) = verdict.answers
    keys = load_study(done).keys
    for pair in answer.pairs:
        sides = {keys[key]["schedule"]: keys[key]["metrics"]["bright"] for key in pair.keys}
        assert pair.value == pytest.approx(sides["turn"] - sides["only-itc"])
    best = max(answer.pairs, key=lambda pair: pair.value)
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
    for key, steps in study.all_telemetry().items():
        assert steps.snapshots is not None
        strip = np.asarray(Image.open(done / "trajectories" / f"{key}.png"))
        count, height, width, _ = steps.snapshots.shape
        assert strip.shape[:2] == (height, count * width)
        assert (strip[:, -width:].reshape(steps.snapshots[-1].shape) == steps.snapshots[-1]).all()


def test_animations_lie_beside_the_page(done: Path) -> None:
    """They show the kept predictions, enlarged pixel by pixel, and end on the last."""
    for key, steps in load_study(done).all_telemetry().items():
        assert steps.snapshots is not None
        with Image.open(done / "trajectories" / f"{key}.webp") as animation:
            assert animation.n_frames == len(steps.snapshots)  # type: ignore[attr-defined]
            for i, frame in enumerate(steps.snapshots):
                animation.seek(i)
                shown = np.asarray(animation.convert("RGB"))
                assert shown.shape == (128, 128, 3)
                assert (shown[8::16, 8::16] == frame).all()


def test_maps_lie_beside_the_page_and_their_peaks_in_it(done: Path, page: Page) -> None:
    """A sheet has a row for each objective, a column for each kept step; where one had no weight there is no peak."""
    turning = 0
    for key, steps in load_study(done).all_telemetry().items():
        told = page.data["cells"][key]["saliency"]
        assert list(told) == list(steps.saliency)
        assert steps.snapshots is not None
        assert steps.snapshot_steps is not None
        with Image.open(done / "trajectories" / f"{key}-saliency.png") as sheet:
            assert sheet.size == (8 * len(steps.snapshots), 8 * len(told))
        for name, peaks in told.items():
            weights = steps.weights[name][steps.snapshot_steps]
            assert [peak is not None for peak in peaks] == [bool(w > 0) for w in np.nan_to_num(weights)]
            kept = [p for p in steps.saliency_peaks[name].tolist() if p == p]
            assert [p for p in peaks if p is not None] == pytest.approx(kept, rel=0.01)
            turning += None in peaks
    assert turning  # "turn" begins without ITC and ends without CAP


def test_a_gradient_that_was_not_finite_is_told_from_an_objective_without_weight() -> None:
    nan = float("nan")
    steps = Telemetry(
        losses={"itc": np.array([1.0, 2.0, nan])},
        snapshot_steps=np.array([0, 1, 2]),
        snapshots=np.zeros((3, 8, 8, 3), np.uint8),
        saliency={"itc": np.zeros((3, 8, 8), np.uint8)},
        saliency_peaks={"itc": np.array([0.5, nan, nan], np.float32)},
    )
    assert _peaks(steps) == {"itc": [0.5, -1.0, None]}


def test_telemetry_without_maps_says_nothing_of_them(done: Path, tmp_path: Path) -> None:
    """As of studies that were run before maps were kept."""
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    shutil.rmtree(copy / "trajectories")
    for path in (copy / "telemetry").glob("*.npz"):
        with np.load(path) as arrays:
            kept = {name: values for name, values in arrays.items() if not name.startswith("saliency")}
        np.savez_compressed(path, **kept)
    rows = [json.loads(line) for line in (copy / "results.jsonl").read_text().splitlines()]
    for row in rows:
        del row["sha256"]
    (copy / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_study_report(load_study(copy)).read_text(encoding="utf-8"))
    assert not any("saliency" in cell for cell in page.data["cells"].values())
    assert all(cell["frames"] for cell in page.data["cells"].values())
    assert not list((copy / "trajectories").glob("*-saliency.png"))


def test_guides_and_judges(done: Path, page: Page) -> None:
    """The page's table holds the matrix's numbers, and marks who judges its own pictures."""
    matrix = judge_matrix(load_study(done))
    text = (done / "report.html").read_text(encoding="utf-8")
    table = text[text.index('<table class="matrix">') : text.index("</table>", text.index('class="matrix"'))]
    fields = re.findall(r'<td class="(up|down)( \w+)?" style="--share: (\d+)%"><b>(.*?)</b>', table)
    assert len(fields) == len(matrix.guides) * len(matrix.judges)
    expected = [matrix.entries[guide.name, judge] for guide in matrix.guides for judge in matrix.judges]
    largest = max(abs(entry.score.mean) for entry in expected)
    for (sign, own, share, number), entry in zip(fields, expected, strict=True):
        assert own.strip() == entry.own
        assert sign == ("up" if entry.score.mean >= 0 else "down")
        assert int(share) == round(HEAT * abs(entry.score.mean) / largest)
        assert float(number.replace("\N{MINUS SIGN}", "-")) == pytest.approx(entry.score.mean, abs=0.006)
    assert {entry.own for entry in expected} == {"objective", "model", ""}
    assert "#judges" in page.links
    assert signed_text(matrix.inflation["objective"].mean) in text[text.index('<ul class="inflation">') :]


def test_without_two_judges_nothing_is_said_of_judges(done: Path) -> None:
    study = load_study(done)
    assert matrix_views(study)
    study.config["metrics"] = study.config["metrics"][:1]
    assert matrix_views(study) == []


def test_grids_without_guides_in_common_have_a_matrix_each(done: Path) -> None:
    """A third schedule in a grid of its own leaves no prompt that all guides have drawn."""
    study = load_study(done)
    objects = [cell for cell in study.cells if cell["grid"] == "objects"]
    alone = [
        {**cell, "grid": "alone", "schedule": "third", "prompt": "q", "clean": "q"} for cell in objects[:2]
    ]
    study.__dict__["cells"] = CellRecords([*objects, *alone])
    (view,) = matrix_views(study)
    assert view.grid == "objects"
    assert len(view.rows) == 2


def test_charts_come_with_their_numbers(done: Path) -> None:
    """Every mean in a chart's table is that of the cells it names."""
    study = load_study(done)
    found = panels(study, study.all_telemetry(), palette(["only-itc", "turn"]))
    panel = next(p for p in found if p.grid == "steps" and p.title.endswith("equal dose"))
    assert panel.places == ["3", "5"]
    column = panel.title.split()[0]
    for (schedule, _), row in zip(panel.schedules, panel.rows, strict=True):
        for place, told in zip(panel.places, row, strict=True):
            cells = study.cells.where(grid="steps", dose="matched", schedule=schedule, steps=int(place))
            values = [c["metrics"][column] for c in cells]
            assert told is not None
            assert told.mean == pytest.approx(sum(values) / len(values))
    text = (done / "report.html").read_text(encoding="utf-8")
    assert text.count('<table class="numbers-table">') == len(found)


@pytest.mark.parametrize(
    ("low", "high", "prompts", "words"),
    [
        (0.1, 0.4, 12, "more"),
        (-0.4, -0.1, 12, "less"),
        (-0.1, 0.4, 12, "undecided"),
        (0.1, 0.4, 5, "too few"),
    ],
)
def test_what_an_inflation_means(low: float, high: float, prompts: int, words: str) -> None:
    assert words in inflated(Estimate((low + high) / 2, low, high, 2 * prompts, prompts))


def test_large_pictures_are_not_shown_pixel_by_pixel(done: Path, tmp_path: Path) -> None:
    assert "<body>" in (done / "report.html").read_text(encoding="utf-8")
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    config = json.loads((copy / "config.json").read_text())
    next(iter(config["settings"].values()))["image_shape"] = [3, 256, 512]
    (copy / "config.json").write_text(json.dumps(config))
    text = write_study_report(load_study(copy)).read_text(encoding="utf-8")
    assert '<body class="fine">' in text
    assert 2.0 in Page(text).data["ratios"].values()


def test_schedules_and_objectives_share_their_colours(done: Path) -> None:
    data = Page((done / "report.html").read_text(encoding="utf-8")).data
    assert data["colours"]["itc"] == colour_number("itc")
    assert {"only-itc", "turn"} <= data["colours"].keys()
    assert data["neutral"] == NEUTRAL


def test_what_people_said(done: Path, tmp_path: Path) -> None:
    """Surveys beside the study are part of its page, one that is damaged as well; without one nothing is said."""
    from guidelens_survey.create import create_survey

    assert "#section-people" not in Page((done / "report.html").read_text(encoding="utf-8")).links
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    survey = create_survey(
        copy, copy / "people.db", items=6, raters=3, repeats=1, checks=1, where={"grid": "objects"}
    )
    for number in range(3):
        rater = survey.join(f"visit {number}")
        assert rater is not None
        for item in survey.items(rater.seat):
            answers = dict.fromkeys(
                ("realism", "alignment"), item.expected or 1 + item.shown.index(min(item.shown))
            )
            survey.vote(rater, item, answers, seconds=4.0)
    survey.close()
    (copy / "survey.db").write_text("what was a survey")
    sections = PluginManager.load().report_sections()
    text = write_study_report(load_study(copy), sections=sections).read_text(encoding="utf-8")
    page = Page(text)
    assert "#section-people" in page.links
    assert len(page.ids) == len(set(page.ids))
    said = " ".join(page.words)
    assert "What people said: people.db" in said
    assert "Which picture looks more real?" in said
    assert "of 3 raters" in said
    assert "cannot be read" in said
    assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9-]+\.[a-z]", text)


class Sections:
    """A plugin with sections: two parts, none, one that raises, one that returns nothing."""

    @hookimpl
    def register_report_sections(self, register: RegisterReportSections) -> None:
        register(
            "speed", lambda study: [("Fast", "<h3>fast</h3>"), (study.name, "<p>slow</p>")], title="Speed"
        )
        register("empty", lambda study: [], title="Not shown")
        register("broken", lambda study: [("x", str(1 // 0))], title="Broken")
        register("nothing", lambda study: None, title="Nothing")  # type: ignore[arg-type, return-value]


def test_sections_of_plugins(done: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    study = load_study(copy)
    sections = PluginManager.load([Sections()]).report_sections()
    text = write_study_report(study, sections=sections).read_text(encoding="utf-8")
    page = Page(text)
    assert {"#section-speed", "#section-broken", "#section-nothing"} <= set(page.links)
    assert "#section-empty" not in page.links
    assert "<h3>fast</h3>" in text
    assert f"<h2>{study.name}</h2>" in text
    failure = "failed in the report section 'broken': ZeroDivisionError"
    assert failure in " ".join(page.words).replace("’", "'")
    assert failure in caplog.text
    assert "section 'nothing': TypeError" in caplog.text


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
    assert "holds neither a study nor a comparison" in missing.stderr


def test_a_study_that_grows(done: Path, tmp_path: Path) -> None:
    """With half of the rows the page is about these; with none there is no page."""
    half = tmp_path / "half"
    shutil.copytree(done, half)
    rows = (half / "results.jsonl").read_text().splitlines(keepends=True)
    (half / "results.jsonl").write_text("".join(rows[:10]))
    page = Page(write_study_report(load_study(half)).read_text(encoding="utf-8"))
    assert len(page.data["cells"]) == 10
    assert "The study is not finished" in " ".join(page.words)
    assert (half / "report.html").read_text().count(", interim</span>") >= 6
    run = CliRunner().invoke(cli, ["study", "report", str(half)])
    assert "pictures missing: every verdict is interim" in run.stderr
    claims = [line for line in run.stdout.splitlines() if re.match(r"F\d  ", line)]
    assert len(claims) == 6
    assert all(", INTERIM: " in line for line in claims)
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


def test_a_report_reads_each_file_once(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner
    from guidelens.cli.main import cli

    copy = shutil.copytree(done, tmp_path / "copy")
    opened: Counter[str] = Counter()
    original = Path.read_bytes

    def counted(path: Path) -> bytes:
        opened[path.relative_to(copy).as_posix() if path.is_relative_to(copy) else ""] += 1
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert CliRunner().invoke(cli, ["study", "report", str(copy)]).exit_code == 0
    files = [
        p.relative_to(copy).as_posix() for kind in ("samples", "telemetry") for p in (copy / kind).iterdir()
    ]
    assert len(files) > 2
    assert {name: opened[name] for name in files} == dict.fromkeys(files, 1)


def test_a_comparison_has_a_report_as_well(tmp_path: Path) -> None:
    from guidelens import compare

    plugins = PluginManager.load((tiny_world.__file__,), environment={})
    compare(
        sampling=Sampling(steps=3),
        prompts=["a red circle"],
        schedules=["only-itc", "turn"],
        seeds=2,
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
