"""Reading a study back: cells, telemetry against the engine's own steps, pictures, tables, status."""

from __future__ import annotations

import csv
import io
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import guidelens
import numpy as np
import pytest
import torch
from brittle_world import BrittleGuidance
from filelock import FileLock
from guidelens.comparison import compare
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.pictures import to_picture
from guidelens.runs.telemetry import SNAPSHOT_SIDE, StepRecorder
from guidelens.sampling import Sampling
from guidelens.studies.export import table
from guidelens.studies.results import StudyResults, flat, load_study
from guidelens.studies.run import StudyRun
from guidelens.studies.status import Counts, status, statuses
from PIL import Image
from study_worlds import EXPLOSIVE, TOY
from tiny_world import Brightness, TinyGenerator, TinyGuidance, Weights


@pytest.fixture(scope="module")
def study(toy: Path) -> StudyResults:
    return guidelens.load_study(toy)


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    compare(
        ["a dot above", "rain"],
        sampling=Sampling(steps=3),
        out=tmp_path / "compared",
        generator=TinyGenerator(),
        guidance=TinyGuidance(),
        schedules=[Weights("turn", {"cap": 1.0}, {"itc": 1.0})],
        metrics=[Brightness()],
        seeds=2,
        device="cpu",
    )
    return tmp_path / "compared"


def test_cells_are_there_once_per_grid(study: StudyResults) -> None:
    assert (study.name, len(study.cells), len(study.keys)) == ("toy", 32, 24)
    assert {cell["status"] for cell in study.cells} == {"done"}
    both = study.cells.where(grid="steps", steps=4)
    assert [c["key"] for c in both] == [c["key"] for c in study.cells.where(grid="through", through="unet")]
    assert len(study.cells.where(schedule="turn", seed=[1], grid=("steps",))) == 4
    with pytest.raises(UsageError, match=r"cells have no column 'schedul' \(did you mean 'schedule'\?\)"):
        study.cells.where(schedul="turn")
    assert study.cells.where(steps=99).where(schedul="turn") == []
    assert study.cells.where(schedule="turn").where(grid="steps").where(steps=3)[0]["metrics"].keys() == {
        "bright"
    }


def test_settings_are_whole(study: StudyResults) -> None:
    (cell, *_) = study.cells.where(through="x0")
    settings = study.settings(cell["key"])
    assert (settings["through"], settings["steps"], settings["guidance"]["name"]) == ("x0", 4, "brittle")


def test_telemetry_is_what_the_engine_yields(study: StudyResults) -> None:
    cell = study.cells.where(schedule="turn", through="x0", seed=1)[0]
    engine = Engine(
        TinyGenerator(), BrittleGuidance(), replace(Sampling(through="x0"), steps=4), device="cpu"
    )
    schedule = Weights("turn", {"cap": 1.0}, {"itc": 1.0})
    steps = list(engine.stream([Sample(cell["prompt"], schedule, 1)]))
    telemetry = study.telemetry(cell["key"])
    for name in ("itc", "cap"):
        for kind in ("losses", "gradient_norms", "weights"):
            expected = [float(getattr(step, kind)[name][0]) for step in steps]
            np.testing.assert_allclose(getattr(telemetry, kind)[name], expected, rtol=1e-5)
    assert np.isnan(telemetry.losses["itc"][0])
    assert np.isnan(telemetry.losses["cap"][3])
    expected = [float(step.cosines["cap", "itc"][0]) for step in steps]
    np.testing.assert_allclose(telemetry.cosines["cap|itc"], expected, rtol=1e-5)
    assert telemetry.nonfinite.tolist() == [False] * 4
    assert telemetry.snapshot_steps.tolist() == [0, 3]
    for kept, step in zip(telemetry.snapshots, (steps[0], steps[3]), strict=True):
        assert np.abs(kept.astype(int) - np.asarray(to_picture(step.pred_x0[0])).astype(int)).max() <= 1
    assert cell["losses"]["cap"] == pytest.approx(float(telemetry.losses["cap"][2]), rel=1e-5)
    finite = telemetry.gradient_norms["itc"][1:]
    assert cell["gradient_norms"]["itc"] == pytest.approx(float(finite.mean()), rel=1e-5)
    cosines = telemetry.cosines["cap|itc"]
    assert cell["conflicts"]["cap|itc"] == pytest.approx(float(np.mean(cosines[np.isfinite(cosines)] < 0)))
    assert cell["cosines"]["cap|itc"] == pytest.approx(
        float(np.nanmean(telemetry.cosines["cap|itc"])), rel=1e-5
    )


def test_an_objective_that_a_cell_does_not_use_is_absent(study: StudyResults) -> None:
    cell = study.cells.where(schedule="only-itc")[0]
    telemetry = study.telemetry(cell["key"])
    assert telemetry.losses.keys() == telemetry.weights.keys() == {"itc"}
    assert telemetry.cosines == {}
    assert cell["losses"].keys() == {"itc"}


def test_nonfinite_steps_are_kept_step_by_step(
    tmp_path: Path, run: Callable[..., StudyRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = BrittleGuidance.losses

    def breaking(self: Any, images: Any, text: Any, objectives: Any) -> Any:
        nonlocal calls
        calls += 1
        losses = real(self, images, text, objectives)
        factor = torch.tensor([math.nan if calls == 2 and p == "rain" else 1.0 for p in text.prompts])
        return {name: loss * factor for name, loss in losses.items()}

    monkeypatch.setattr(BrittleGuidance, "losses", breaking)
    text = 'guidance = "brittle"\nprompts = ["a dot", "rain"]\nschedules = "only-itc"\nseeds = 1\nsteps = 4'
    run(text, tmp_path)
    loaded = load_study(tmp_path)
    told = {c["prompt"]: loaded.telemetry(c["key"]).nonfinite.tolist() for c in loaded.cells}
    assert told == {"a dot": [False] * 4, "rain": [False, True, False, False]}
    assert {c["prompt"]: c["nonfinite_steps"] for c in loaded.cells} == {"a dot": 0, "rain": 1}


def test_snapshots_of_large_pictures_are_reduced() -> None:
    pred_x0 = torch.linspace(-1, 1, 256).expand(1, 3, 128, 256)
    recorder = StepRecorder(1, (0.0,))
    recorder(SimpleNamespace(index=0, nonfinite=torch.tensor([False]), preview=pred_x0, gradients={}))  # type: ignore[arg-type]
    kept = recorder.snapshots()
    assert kept.shape == (1, 1, SNAPSHOT_SIDE // 2, SNAPSHOT_SIDE, 3)
    np.testing.assert_allclose(kept[0, 0, 0, [0, -1], 0], [1.5, 253.5], atol=0.6)  # means of four levels


def test_pictures_are_those_on_disk(study: StudyResults, toy: Path) -> None:
    cell = study.cells[0]
    assert study.image(cell["key"]).size == (8, 8)
    with pytest.raises(UsageError, match="has no cell 'nothing'"):
        study.image("nothing")


def test_cells_that_are_missing_or_failed_say_so(tmp_path: Path, run: Callable[..., StudyRun]) -> None:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 3

    run(EXPLOSIVE, tmp_path, should_stop=stop)
    loaded = load_study(tmp_path)
    states = {cell["status"] for cell in loaded.cells}
    assert states == {"done", "failed", "missing"}
    for cell in loaded.cells:
        assert cell["reason"].endswith("RuntimeError: it exploded" if cell["status"] == "failed" else "")
        assert bool(cell["reason"]) == (cell["status"] == "failed")
        if cell["status"] != "done":
            with pytest.raises(GuidelensError, match=f"{cell['key']} is {cell['status']}"):
                loaded.telemetry(cell["key"])
    found = status(tmp_path)
    assert found.total.done + found.total.failed < found.total.all == 36
    assert found.total.failed == len({c["key"] for c in loaded.cells if c["status"] == "failed"})
    who = "guidance model 'brittle' of plugin 'brittle_world'"
    assert found.reasons == {f"{who} failed in losses(): RuntimeError: it exploded": found.total.failed}
    columns, rows = table([flat(cell) for cell in loaded.cells])
    assert all(len(row) == len(columns) for row in rows)


def test_a_comparison_is_read_as_well(comparison: Path) -> None:
    loaded = load_study(comparison)
    assert (loaded.name, len(loaded.cells)) == ("comparison", 4)
    cell = loaded.cells.where(prompt="rain", seed=1)[0]
    assert (cell["grid"], cell["status"], cell["steps"]) == ("comparison", "done", 3)
    assert loaded.telemetry(cell["key"]).losses.keys() == {"itc", "cap"}
    assert loaded.settings(cell["key"])["steps"] == 3
    assert len(list(csv.DictReader(io.StringIO(loaded.cells.encode("csv").decode())))) == 4
    with pytest.raises(UsageError, match="holds a comparison, not a study"):
        status(comparison)


def test_csv(study: StudyResults) -> None:
    rows = list(csv.DictReader(io.StringIO(study.cells.encode("csv").decode())))
    assert len(rows) == 32
    for row, cell in zip(rows, study.cells, strict=True):
        assert (row["key"], row["prompt"], int(row["seed"])) == (cell["key"], cell["prompt"], cell["seed"])
        assert float(row["metric.bright"]) == cell["metrics"]["bright"]
        assert row["metric.above"] == str(cell["metrics"].get("above", ""))
        assert row["option.through"] == cell["options"].get("through", "")
        assert row["loss.cap"] == str(cell["losses"].get("cap", ""))


def test_parquet_and_pandas_agree_with_csv(study: StudyResults) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pandas = pytest.importorskip("pandas")
    import pyarrow as pa

    read = parquet.read_table(pa.BufferReader(study.cells.encode("parquet")))
    columns, rows = table([flat(cell) for cell in study.cells])
    assert read.column_names == columns
    assert read.to_pylist() == rows
    frame = study.cells.to_pandas()
    assert len(frame) == 32
    written = pandas.read_csv(io.BytesIO(study.cells.encode("csv")))
    np.testing.assert_allclose(frame["metric.bright"], written["metric.bright"])


@pytest.mark.parametrize(
    ("module", "use", "message"),
    [
        ("pandas", lambda s: s.cells.to_pandas(), "needs pandas: .*pip install pandas"),
        (
            "pyarrow",
            lambda s: s.cells.encode("parquet"),
            r"needs pyarrow: .*pip install .*guidelens\[parquet\]",
        ),
    ],
)
def test_without_the_package_it_says_which(
    study: StudyResults, monkeypatch: pytest.MonkeyPatch, module: str, use: Any, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GuidelensError, match=message):
        use(study)


def test_export_is_atomic_and_says_what_fails(study: StudyResults, tmp_path: Path) -> None:
    assert study.save(tmp_path / "x.csv") == tmp_path / "x.csv"
    assert (tmp_path / "x.csv").read_bytes() == study.cells.encode("csv")
    with pytest.raises(GuidelensError, match="cannot write"):
        study.save(tmp_path / "gone" / "x.csv")
    with pytest.raises(GuidelensError, match=r"x\.xlsx: the file name must end in \.csv or \.parquet"):
        study.save(tmp_path / "x.xlsx")


def test_a_part_of_the_cells_is_saved(study: StudyResults, tmp_path: Path) -> None:
    part = study.cells.where(schedule="turn", steps=4)
    written = part.save(tmp_path / "part.csv").read_text(encoding="utf-8")
    read = list(csv.DictReader(io.StringIO(written)))
    assert [row["key"] for row in read] == [cell["key"] for cell in part]
    assert f"{len(part)} cells" in part._repr_html_()


def test_a_study_shows_one_picture_of_each_schedule(
    study: StudyResults, run: Callable[..., StudyRun], tmp_path: Path
) -> None:
    first = study.cells[0]
    shown = Image.open(io.BytesIO(study._repr_png_() or b""))
    assert shown.size == (128 + 4 + 128, 128), "two schedules side by side"
    left = shown.crop((0, 0, 128, 128)).resize((8, 8), Image.Resampling.NEAREST)
    assert left.tobytes() == study.image(first["key"]).convert("RGB").tobytes()
    page = study._repr_html_()
    assert f"{first['prompt']}, seed {first['seed']}: only-itc, turn" in page
    bright = [c["metrics"]["bright"] for c in study.cells.where(schedule="turn")]
    assert f"bright {np.mean(bright):.3g}" in page
    one = (
        'guidance = "tiny-vl"\nname = "one"\nschedules = ["turn"]\nprompts = ["rain"]\nseeds = 1\nsteps = 2\n'
    )
    done = run(one, tmp_path / "one")
    assert "<img" in done._repr_html_()
    assert list(done.to_pandas()["key"]) == [cell["key"] for cell in done.results.cells]
    assert done.save(tmp_path / "one.csv").is_file()


def test_status_counts_and_sees_who_works_there(toy: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(toy, tmp_path / "runs" / "toy"))
    found = status(out)
    assert found.grids == {"steps": Counts(16, 16, 0, 0), "through": Counts(16, 16, 0, 0)}
    assert (found.total, found.running, found.reasons) == (Counts(24, 24, 0, 0), False, {})
    with FileLock(out / ".lock"):
        assert status(out).running
    (tmp_path / "runs" / "else").mkdir()
    assert [s.directory for s in statuses(tmp_path / "runs")] == [out]
    assert statuses(tmp_path / "nowhere") == []


def test_what_holds_no_study_is_told(tmp_path: Path, toy: Path) -> None:
    for use in (load_study, status):
        with pytest.raises(UsageError, match=r"holds (no|neither a) study"):
            use(tmp_path / "gone")
    out = Path(shutil.copytree(toy, tmp_path / "copy"))
    (out / "cells.jsonl").write_text("{torn")
    with pytest.raises(GuidelensError, match=r"cannot read .*cells\.jsonl"):
        _ = load_study(out).cells
    for path in (out / "telemetry").iterdir():
        path.write_bytes(b"PK")
    shutil.copy(toy / "cells.jsonl", out / "cells.jsonl")
    loaded = load_study(out)
    with pytest.raises(GuidelensError, match="it has changed since it was written; guidelens study resume"):
        loaded.telemetry(loaded.cells[0]["key"])
    assert TOY in loaded.config["study"]["text"]
