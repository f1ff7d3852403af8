"""How results show themselves: PNG and HTML for notebooks, files, data frames."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import guidelens
import numpy as np
import pytest
import torch
from guidelens import Engine, GuidelensError, Result, Sample, Sampling, compare, load_study
from guidelens.comparison import compare_sweep
from guidelens.pictures import open_picture
from guidelens.shown import enlarged, html_of, row_of
from guidelens.studies.export import table
from guidelens.studies.results import flat
from PIL import Image
from toys import Constant, GaussianGenerator, Quadratic


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(GaussianGenerator(), Quadratic(), Sampling(steps=3), device="cpu")


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_a_result_is_a_picture_a_file_and_a_table(engine: Engine, tmp_path: Path) -> None:
    (result,) = engine.run([Sample("0.5", Constant(near=1.0, away=0.5), 3)])
    assert isinstance(result, Result)
    path = result.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        np.asarray(open_picture(path)), np.asarray(guidelens.to_picture(result.image))
    )
    assert opened(result._repr_png_()).size == (128, 128)
    page = result._repr_html_()
    assert "0.5" in page
    assert "loss near" in page
    frame = result.to_pandas()
    assert list(frame["step"]) == [0, 1, 2]
    assert list(frame["loss.near"]) == pytest.approx(result.losses["near"])
    with pytest.raises(GuidelensError, match=r"must end in \.png"):
        result.save(tmp_path / "a.jpg")


def test_a_step_shows_its_predictions(engine: Engine, tmp_path: Path) -> None:
    steps = list(engine.stream([Sample("1", Constant(near=1.0, away=0.5), seed) for seed in (1, 2)]))
    step = steps[1]
    assert opened(step._repr_png_()).size == (128 + 4 + 128, 128)
    assert "step 2, progress 0.50" in step._repr_html_()
    frame = step.to_pandas()
    assert list(frame["sample"]) == [0, 1]
    assert list(frame["loss.away"]) == pytest.approx(step.losses["away"].tolist())
    assert list(frame["cosine.away|near"]) == pytest.approx(step.cosines["away", "near"].tolist())
    assert step.save(tmp_path / "s.png").is_file()


def test_pictures_in_a_row_are_enlarged_by_whole_pixels() -> None:
    small = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    shown = enlarged(small)
    assert shown.size == (128, 128)
    np.testing.assert_array_equal(np.asarray(shown)[::64, ::64], np.asarray(small))
    assert row_of([small, Image.new("RGB", (200, 300))]).size == (128 + 4 + 200, 300)


def test_html_is_escaped() -> None:
    page = html_of(None, "<script>", {"a&b": "<i>"})
    assert "<script>" not in page
    assert "a&amp;b" in page
    assert "<i>" not in page


def test_a_comparison_and_its_study(tmp_path: Path) -> None:
    done = compare(
        ["0.1", "0.2"],
        out=tmp_path / "run",
        schedules=[Constant(near=1.0, away=0.5)],
        seeds=1,
        sampling=Sampling(steps=2),
        generator=GaussianGenerator(),
        guidance=Quadratic(),
        metrics=(),
        device="cpu",
    )
    assert opened(done._repr_png_() or b"").size == open_picture(done.grid).size
    assert "2 pictures in" in done._repr_html_()
    assert open_picture(done.save(tmp_path / "g.png")).size == open_picture(done.grid).size
    study = load_study(tmp_path / "run")
    columns, rows = table([flat(cell) for cell in study.cells])
    for frame in (done.to_pandas(), study.to_pandas()):
        assert set(frame.columns) == set(columns)
        assert list(frame["key"]) == [row["key"] for row in rows]
    assert "done" in study._repr_html_()


def test_a_sweep_shows_its_comparisons(tmp_path: Path) -> None:
    done = compare_sweep(
        ["0.1"],
        out=tmp_path / "run",
        samplings={f"steps {n}": Sampling(steps=n) for n in (2, 3)},
        schedules=[Constant(near=1.0)],
        seeds=1,
        generator=GaussianGenerator(),
        guidance=Quadratic(),
        metrics=(),
        device="cpu",
    )
    frame = done.to_pandas()
    assert list(frame["value"]) == ["steps 2", "steps 3"]
    assert list(frame["steps"]) == [2, 3]
    assert "<h3>steps 3</h3>" in done._repr_html_()
    grids = [open_picture(each.grid) for each in done.comparisons.values()]
    sheet = open_picture(done.save(tmp_path / "s.png"))
    assert sheet.height == sum(grid.height for grid in grids) + 4
    assert sheet.crop((0, 0, *grids[0].size)).tobytes() == grids[0].convert("RGB").tobytes()


def test_without_pandas_the_error_names_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = engine.run([Sample("1", Constant(near=1.0, away=0.5), 3)])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(GuidelensError, match="needs pandas: run `pip install pandas`"):
        result.to_pandas()


def test_to_picture_is_public() -> None:
    assert guidelens.to_picture(torch.zeros(3, 2, 2)).size == (2, 2)
